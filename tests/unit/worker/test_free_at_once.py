"""A job that ended is free at once, however it ended, while Python's collector rests."""

import gc
import time
import weakref
from collections.abc import Iterator

import pytest

from tests.hazards import networks
from tests.unit.worker import detectors
from tests.unit.worker.detectors import Open, picture
from tests.unit.worker.tilings import SMALL, SOON_S, ask, mosaic, tiny
from tests.waiting import eventually
from worker.batches import BatchQueue
from worker.detecting import Detecting
from worker.infer_queue import InferQueue
from worker.inference import Inference, InferenceError


@pytest.fixture(autouse=True)
def _rest() -> Iterator[None]:
    """Let the collector rest."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def ended_with(detecting: Detecting) -> tuple[str, "weakref.ref[Detecting]"]:
    """Wait for a job of one image; give its error's code, empty if it has none, and what tells whether it is free."""
    (outcome,) = detecting.result(SOON_S)
    return outcome.error.code if outcome.error else "", weakref.ref(detecting)


@pytest.mark.parametrize(("nonzero", "code"), [(1, ""), (2, "inference_failed")])
def test_an_inference_that_ended_or_failed_keeps_no_job(start: Open, nonzero: int, code: str) -> None:
    """Given a request that ran for a job, of whose failure OpenVINO calls nobody, then it holds nothing of it."""
    detector = start(detectors.tiny(networks.picky))
    said, job = ended_with(detector.start(detectors.ask(picture(1, nonzero=nonzero))))
    assert said == code
    eventually(lambda: job() is None, "the job's end in memory")


@pytest.mark.parametrize("way", ["cancelled", "deadline_exceeded", "inference_failed"])
def test_a_picture_in_tiles_keeps_no_job(start: Open, way: str) -> None:
    """Given a picture that is given up, too late, or fails among its tiles, then nothing of it is left."""
    if way == "inference_failed":
        made = ask(start(tiny(networks.picky)), mosaic(3, 3, nonzero=2), tile=SMALL)
    else:
        deadline = time.time() + 1 if way == "deadline_exceeded" else None
        made = ask(start(tiny(networks.lasting)), mosaic(25, 20, first=200), tile=SMALL, deadline=deadline)
        if way == "cancelled":
            made.cancel()
    said, job = ended_with(made)
    del made
    assert said == way
    eventually(lambda: job() is None, "the job's end in memory")


def test_a_batch_that_is_not_started_keeps_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given OpenVINO that refuses to start, then its error does not hold the picture that has it."""
    single = InferQueue(networks.compiled(networks.echo), 2)
    queue = BatchQueue(single, single, most=2, wait_s=0.01)

    def refuse(tensor: object, **_: object) -> Inference:
        raise InferenceError("no")

    with monkeypatch.context() as patched:
        patched.setattr(single, "submit", refuse)
        seat = queue.submit(networks.tensor(1))
        assert str(seat.exception(SOON_S)) == "no"
    kept = weakref.ref(seat)
    del seat
    eventually(lambda: kept() is None, "the picture's end in memory")
    queue.close()
