"""Several pictures per inference: nobody waits in vain, none gets another's rows, and one that fails fails alone."""

import gc
import random
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op

from tests.hazards import networks as tiny
from tests.hazards.networks import compiled, number_of, tensor
from tests.hazards.queues import LONG, SOON_S
from tests.heads import networks
from tests.waiting import eventually
from worker import models, network, recognise, resize
from worker.batches import BatchQueue
from worker.infer_queue import InferQueue
from worker.inference import InferenceError, QueueClosedError, TensorError
from worker.models import ModelError

MOST = 3

#: Longer than any test.
FOR_EVER_S = 3600.0

Open = Callable[..., BatchQueue]


def for_batches(build: Callable[[], ov.Model]) -> Any:
    """Compile a tiny network for several pictures at once."""

    def many() -> ov.Model:
        pixels = op.parameter([MOST, *tiny.SHAPE[1:]], np.uint8)
        results = []
        for part in op.split(pixels, 0, MOST).outputs():
            one = build()
            (alone,) = one.get_parameters()
            alone.output(0).replace(part)
            results.append(one.outputs[0].get_node().input_value(0))
        return ov.Model([op.result(one) for one in results], [pixels])

    return compiled(many)


@pytest.fixture
def start() -> Iterator[Open]:
    """Open queues that are closed at the end."""
    opened: list[BatchQueue] = []

    def make(build: Callable[[], ov.Model], *, wait_s: float = FOR_EVER_S, requests: int = 2) -> BatchQueue:
        single, many = InferQueue(compiled(build), requests), InferQueue(for_batches(build), requests)
        opened.append(BatchQueue(single, many, most=MOST, wait_s=wait_s))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def sizes(queue: BatchQueue) -> list[int]:
    """Note from now on how many pictures go into each inference."""
    noted: list[int] = []
    begin = queue._begin

    def note(seats: Any) -> Any:
        batch = begin(seats)
        noted.append(len(batch.seats))
        return batch

    queue._begin = note  # type: ignore[method-assign]
    return noted


def test_a_picture_that_comes_alone_goes_at_once(start: Open) -> None:
    """Given nothing that runs, then nobody is waited for, however long the wait may be."""
    queue = start(tiny.echo)
    assert [number_of(queue.submit(tensor(number)).result(SOON_S)) for number in range(5)] == list(range(5))


def test_pictures_that_have_landed_are_free_without_the_collector(start: Open) -> None:
    """Given alone and together, then nothing holds them: with a job goes its image, and Python's collector may rest."""
    queue = start(tiny.lasting)
    gc.disable()
    try:
        kept = [weakref.ref(queue.submit(tensor(number, first=LONG if number == 0 else 0))) for number in range(4)]
        eventually(lambda: not any(one() for one in kept))
    finally:
        gc.enable()


def test_those_that_come_while_an_inference_runs_go_together(start: Open) -> None:
    """Given one that runs and three that come, then they are one inference, and each has its own rows."""
    queue = start(tiny.lasting)
    noted = sizes(queue)
    first = queue.submit(tensor(1, first=LONG))
    eventually(lambda: noted)
    others = [queue.submit(tensor(number)) for number in (2, 3, 4)]
    assert [number_of(one.result(SOON_S)) for one in (first, *others)] == [1, 2, 3, 4]
    assert noted == [1, 3]
    assert len({one.slot for one in others}) == 1
    assert all(one.infer_s > 0 and one.waited_s >= 0 for one in others)


def test_a_batch_does_not_wait_where_nothing_runs_any_more(start: Open) -> None:
    """Given two that wait for a third which never comes, then they start when the running inference has ended."""
    queue = start(tiny.lasting)
    noted = sizes(queue)
    queue.submit(tensor(1, first=LONG // 4))
    eventually(lambda: noted)
    assert [number_of(one.result(SOON_S)) for one in [queue.submit(tensor(n)) for n in (2, 3)]] == [2, 3]
    assert noted == [1, 2]


def test_the_wait_for_others_is_bounded(start: Open) -> None:
    """Given a long inference, then one that comes meanwhile is answered before that ends."""
    queue = start(tiny.lasting, wait_s=0.01)
    noted = sizes(queue)
    long = queue.submit(tensor(1, first=16 * LONG))
    eventually(lambda: noted)
    assert number_of(queue.submit(tensor(2)).result(SOON_S)) == 2
    assert not long.done()
    assert long.cancel()


def test_a_picture_on_which_the_network_fails_fails_alone(start: Open) -> None:
    """Given three pictures in a batch, the network failing on one, then the other two have their rows."""
    queue = start(tiny.picky)
    with queue._change:  # so that they come at once
        flights = [queue.submit(one) for one in (tensor(1), tensor(2, nonzero=2), tensor(3))]
    assert isinstance(flights[1].exception(SOON_S), InferenceError)
    assert [number_of(flights[at].result(SOON_S)) for at in (0, 2)] == [1, 3]
    eventually(lambda: queue.in_flight == 0 and queue.free == 2)


def test_a_tensor_that_does_not_fit_is_refused_before_it_waits(start: Open) -> None:
    """Given another shape, then nobody's batch has it."""
    with pytest.raises(TensorError):
        start(tiny.echo).submit(np.zeros((1, 3, 3, 3), np.uint8))


def test_a_cancelled_picture_leaves_its_place(start: Open) -> None:
    """Given one that waits and one that runs, both given up, then both are settled now and others go on."""
    queue = start(tiny.lasting, requests=1)
    noted = sizes(queue)
    running = queue.submit(tensor(1, first=LONG))
    eventually(lambda: noted)
    waiting = queue.submit(tensor(2))
    assert waiting.cancel()
    assert running.cancel()
    assert not running.cancel()
    assert [type(one.exception(0)) for one in (waiting, running)] == [CancelledError] * 2
    assert number_of(queue.submit(tensor(3)).result(SOON_S)) == 3
    eventually(lambda: queue.in_flight == 0)


def test_a_queue_that_is_closed_settles_all_and_lets_go_who_waits(start: Open) -> None:
    """Given more pictures than fit, one of whose threads waits for room, then nobody is left behind."""
    queue = start(tiny.lasting, requests=1)
    noted = sizes(queue)
    flights = [queue.submit(tensor(0, first=16 * LONG))]
    eventually(lambda: noted)
    flights += [queue.submit(tensor(0, first=16 * LONG)) for _ in range(2 * MOST)]  # one batch waits for a request
    with ThreadPoolExecutor(1) as pool:
        blocked = pool.submit(queue.submit, tensor(9))
        queue.close(timeout_s=0.05)
        assert isinstance(blocked.exception(SOON_S), QueueClosedError) or blocked.result().exception(SOON_S)
    assert all(isinstance(one.exception(SOON_S), CancelledError | QueueClosedError) for one in flights)
    with pytest.raises(QueueClosedError):
        queue.submit(tensor(1))


def test_each_gets_its_own_rows_whatever_comes_together(start: Open) -> None:
    """Given four threads, pictures of differing length and cancels, then no answer is another's, no place is lost."""
    queue = start(tiny.lasting, wait_s=0.002)

    def one(number: int) -> bool:
        seat = queue.submit(tensor(number, first=random.Random(number).randrange(3)))
        if number % 7 == 0:
            seat.cancel()
        problem = seat.exception(SOON_S)
        return isinstance(problem, CancelledError) if problem else number_of(seat.result()) == number

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(one, range(400)))
    eventually(lambda: queue.in_flight == 0 and queue.free == 2)


# ---------------------------------------------------------------------------------------------------- the networks

#: Forms that keep an axis for the picture to their end, and what the others do instead.
APART = ("yolov8", "yolox", "nanodet_plus", "picodet", "yunet", "retinaface", "ssd_own_anchors")
TOGETHER = ("yolov10", "ssd", "scrfd", "tf_detections")


def described(form: str, folder: Path) -> tuple[Any, Path]:
    path = folder / "net.xml"
    ov.save_model(networks.FORMS[form](), path, compress_to_fp16=False)
    return recognise.recognise(path, "mine").spec, path


@pytest.mark.parametrize("form", APART)
def test_every_picture_of_a_batch_has_the_rows_that_it_has_alone(form: str, tmp_path: Path) -> None:
    """Given an export for one picture, then it takes three, each with a head of its own behind it."""
    spec, path = described(form, tmp_path)
    core, exact = ov.Core(), {"INFERENCE_PRECISION_HINT": "f32"}
    alone = core.compile_model(network.build(spec, path, core), "CPU", exact)
    together = core.compile_model(network.build(spec, path, core, pictures=MOST), "CPU", exact)
    pictures = np.random.default_rng(1).integers(0, 255, (MOST, *spec.input_size, 3), dtype=np.uint8)

    found = [rows.copy() for rows in together({0: pictures}).values()]

    expected = [alone({0: pictures[at : at + 1]})[0] for at in range(MOST)]
    assert any(len(rows) for rows in expected)
    for rows, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(rows, wanted, atol=1e-2)


@pytest.mark.parametrize("name", ["centerface", "blazeface_short"])
def test_the_networks_of_the_project_take_batches(name: str, store: Path, decoded: Callable[[str], Any]) -> None:
    """Given real weights and a photo among black pictures, then its rows are those that it has alone."""
    spec, path = models.read(name, store)
    core, exact = ov.Core(), {"INFERENCE_PRECISION_HINT": "f32"}
    alone = core.compile_model(network.build(spec, path, core), "CPU", exact)
    together = core.compile_model(network.build(spec, path, core, pictures=2), "CPU", exact)
    photo, _ = resize.fit(decoded("astronaut"), spec.fit)

    black, found = together({0: np.concatenate([np.zeros_like(photo), photo])}).values()

    assert not (black[:, 1] >= spec.min_score).any()
    np.testing.assert_allclose(found, alone({0: photo})[0], atol=1e-2)


@pytest.mark.parametrize("form", TOGETHER)
def test_a_network_that_puts_all_into_one_list_is_refused(form: str, tmp_path: Path) -> None:
    """Given suppression inside or rows without an axis for the picture, then the worker says so and how to go on."""
    spec, path = described(form, tmp_path)
    with pytest.raises(ModelError, match=r"it cannot take 2 pictures at once: .*Set FLEET_BATCH=1"):
        network.build(spec, path, ov.Core(), pictures=2)


def test_a_network_whose_pictures_keep_their_sizes_is_refused(store: Path) -> None:
    """Given pictures of any size, then they do not go together."""
    spec, path = models.read("centerface", store)
    with pytest.raises(ModelError, match=r"only those of one size go together\. Set FLEET_BATCH=1"):
        network.build(replace(spec, resize="multiple"), path, ov.Core(), pictures=2)
