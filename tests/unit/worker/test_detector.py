"""A request goes through fetch, decode and network; each of its images ends in rows or in one typed error."""

import collections
import json
import logging
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from redis import Redis

from producer import blobs, dead, wire
from producer.errors import (
    Cancelled,
    DeadlineExceeded,
    FleetError,
    InferenceFailed,
    InternalError,
    UnknownModel,
)
from producer.wire import Options
from tests.hazards import networks
from tests.hazards.child import Wrapped
from tests.reference import iou
from tests.unit.worker.conftest import Load
from tests.waiting import eventually
from worker import decode, models, network
from worker.cpu import Plan
from worker.decode import Frame
from worker.detecting import Detecting
from worker.detector import Detector
from worker.ending import Remains
from worker.model_toml import ModelSpec
from worker.network import Network
from worker.opening import open_detector
from worker.outcome import Request, to_detections
from worker.settings import Settings

#: Longest wait for what takes milliseconds on a machine that has nothing else to do.
SOON_S = 20.0

PLAN = Plan(threads=2, decoders=2, jobs=8, why=())

#: Opens a detector for networks; ``settings`` by their names.
Open = Callable[..., Detector]


def tiny(build: Any, name: str = "tiny") -> Network:
    """Make a detector of one of the hazard tests' networks; its images are 2x2 pixels."""
    spec = ModelSpec(name, "net.xml", "none", (2, 2), ("thing",))
    return Network(spec, "0" * 16, networks.compiled(build), 2)


def picture(number: int = 0, **how: int) -> dict[str, bytes]:
    """Make an image for :func:`tiny`, inside of the message; see :func:`tests.hazards.networks.tensor`."""
    return {"data": cv2.imencode(".png", networks.tensor(number, **how)[0])[1].tobytes()}


def ask(*images: object, job_id: str | None = None, **options: Any) -> Request:
    """Ask for ``images``; options of the request by their names."""
    job_id = job_id or f"job-{uuid.uuid4().hex}"
    request = {name: options.pop(name) for name in ("model", "deadline") if name in options}
    return Request(images, Options(**options), job_id=job_id, **request)


def finish(detecting: Detecting) -> list[Any]:
    """Wait for a request; give each image's rows or error."""
    return [outcome.error or outcome.rows for outcome in detecting.result(SOON_S)]


def codes(detecting: Detecting) -> list[str]:
    """Wait for a request; give each image's error code, or "" where there is none."""
    return [outcome.error.code if outcome.error else "" for outcome in detecting.result(SOON_S)]


@pytest.fixture
def start(server: str) -> Iterator[Open]:
    """Open detectors on the private server; they are closed at the end."""
    opened: list[Detector] = []

    def begin(*found: Network, plan: Plan = PLAN, **settings: Any) -> Detector:
        opened.append(Detector(found, Settings(**{"url": server, "requests": 2, **settings}), plan))
        return opened[-1]

    yield begin
    for one in opened:
        one.close()


@pytest.fixture
def connection(server: str) -> Iterator[Redis]:
    """A connection to the private server."""
    with Redis.from_url(server) as redis:
        yield redis


@pytest.fixture
def face(pictures) -> bytes:
    """A photo with one face, small enough to travel inside of the message."""
    return pictures["grace_hopper"][0]


# --------------------------------------------------------------------------------------------------- what comes out


def test_a_photo_becomes_a_result(start: Open, load: Load, face):
    """Boxes in pixels of the photo, names of the classes, and a time for each stage."""
    net = load("blazeface_short")

    (outcome,) = start(net).start(ask({"data": face})).result(SOON_S)
    result = outcome.result(worker="w1", queued_ms=1.234)

    assert (result.model, result.model_digest, result.worker) == ("blazeface_short", net.digest, "w1")
    assert (result.width, result.height) == (512, 600)
    assert [one.label for one in result.detections] == ["face"]
    x1, _, x2, _ = result.detections[0].box
    assert iou(result.detections[0].box, (174, 128, 358, 334)) > 0.6
    assert all(x1 < x < x2 for x, _ in result.detections[0].keypoints[:4])
    assert list(result.timings_ms) == ["queued", "fetch", "decode", "wait", "infer", "finish"]
    assert result.timings_ms["queued"] == 1.23
    assert all(value >= 0 for value in result.timings_ms.values())
    assert wire.Result.parse(json.loads(json.dumps(result.to_json()))) == result


def test_a_photo_without_a_face_becomes_a_result_without_detections(start: Open, load: Load, pictures):
    """Nothing found is an answer."""
    (outcome,) = start(load("centerface")).start(ask({"data": pictures["china"][0]})).result(SOON_S)

    result = outcome.result(worker="", queued_ms=0)

    assert result.detections == ()
    assert (result.width, result.height) == (640, 427)


FRAME = Frame(width=100, height=50, scale_x=2.0, scale_y=2.0, pad_x=10, pad_y=20)
SPEC = ModelSpec("m", "f", "h", (240, 240), ("cat", "dog"), min_score=0.5)
ROWS = np.array(
    [
        [0, 0.91234567, 10, 20, 110, 70, 30, 40],
        [1, 0.7, -1000, -1000, 1000, 1000, 8, 18],
        [2, 0.5, 30, 40, 40.1234, 50, 30, 40],
        [1, 0.4, 30, 40, 40, 50, 30, 40],
    ],
    np.float32,
)


def test_rows_are_mapped_to_the_original_clipped_rounded_and_named():
    """Boxes are clipped, keypoints are not; a class without a name is its number."""
    found = to_detections(ROWS, FRAME, SPEC, Options())

    assert [(one.label, one.label_id, one.score) for one in found] == [
        ("cat", 0, 0.9123),
        ("dog", 1, 0.7),
        ("2", 2, 0.5),
    ]
    assert [one.box for one in found] == [(0, 0, 50, 25), (0, 0, 100, 50), (10, 10, 15.06, 15)]
    assert [one.keypoints for one in found] == [((10, 10),), ((-1, -1),), ((10, 10),)]


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (Options(), 3),
        (Options(min_score=0.4), 4),
        (Options(min_score=0.0), 4),
        (Options(min_score=0.9), 1),
        (Options(min_score=1.0), 0),
        (Options(max_detections=2), 2),
        (Options(min_score=0.0, max_detections=1), 1),
    ],
)
def test_a_request_s_options_choose_among_the_rows(options, count):
    """The model's own least score where the request has none."""
    assert len(to_detections(ROWS, FRAME, SPEC, options)) == count


@pytest.mark.parametrize("columns", [6, 8, 16, 18])
def test_no_rows_are_no_detections(columns):
    """With and without keypoints."""
    assert to_detections(np.zeros((0, columns), np.float32), FRAME, SPEC, Options()) == ()


def test_rows_without_keypoints_are_detections_without_keypoints():
    """A detector of things has none."""
    assert [one.keypoints for one in to_detections(ROWS[:, :6], FRAME, SPEC, Options())] == [(), (), ()]


# ----------------------------------------------------------------------------------------- each image by itself


def test_a_batch_settles_each_image_by_itself(start: Open, load: Load, face, connection):
    """Images inside of the message and by reference, good and bad, in their order."""
    detector = start(load("blazeface_short"), max_image_bytes=len(face) + 1000)
    good, big, empty, stopped = (blobs.new_key() for _ in range(4))
    connection.set(good, face)
    connection.set(big, face + bytes(1001))
    connection.set(empty, b"")
    connection.set(stopped, face)
    blobs.withdraw(connection, stopped)
    other_type, foreign = blobs.new_key(), f"other:{uuid.uuid4().hex}"
    connection.lpush(other_type, face)
    connection.set(foreign, face)

    detecting = detector.start(
        ask(
            {"data": face},
            {"data": b"not a picture"},
            {"ref": good},
            {"ref": blobs.new_key()},
            {"ref": big},
            {"ref": other_type},
            {"ref": empty},
            {"ref": stopped},
            {"ref": foreign},
            {"ref": good, "data": face},
            "a path",
            {"data": face},
        )
    )

    assert codes(detecting) == [
        *("", "invalid_image", "", "payload_missing", "image_too_large", "invalid_image", "invalid_image"),
        *("cancelled", "payload_missing", "invalid_request", "invalid_request", ""),
    ]
    outcomes = detecting.result(0)
    assert [outcome.rows is None for outcome in outcomes] == [outcome.error is not None for outcome in outcomes]
    assert np.array_equal(outcomes[0].rows, outcomes[2].rows)
    with pytest.raises(FleetError) as caught:
        outcomes[1].result(worker="", queued_ms=0)
    assert caught.value is outcomes[1].error


def test_results_belong_to_their_images(start: Open):
    """Three hundred images in flight at once, on two threads and three requests."""
    detector = start(tiny(networks.echo), requests=3)

    batches = [detector.start(ask(*(picture(number) for number in range(at, at + 100)))) for at in (0, 100, 200)]

    rows = [row for batch in batches for row in finish(batch)]
    assert [networks.number_of(row) for row in rows] == list(range(300))


def test_a_failed_inference_is_an_error_of_its_own_image(start: Open, caplog):
    """The job's id and OpenVINO's reason stand in the log, the caller gets a sentence."""
    detector = start(tiny(networks.picky))

    with caplog.at_level(logging.WARNING, "worker.detecting"):
        first, bad, last = finish(detector.start(ask(picture(1), picture(2, nonzero=2), picture(3), job_id="j7")))

    assert (networks.number_of(first), networks.number_of(last)) == (1, 3)
    assert isinstance(bad, InferenceFailed)
    assert "mismatch" not in bad.message
    assert "inference.failed job=j7 error=OpenVINO could not run the network" in caplog.text


def test_an_inference_that_openvino_does_not_start_is_a_failed_inference(start: Open, caplog):
    """It may succeed on another try."""

    def start_async(_real):
        raise RuntimeError("out of memory")

    one = tiny(networks.echo)
    detector = start(replace(one, compiled=Wrapped(one.compiled, start_async=start_async)))

    assert isinstance(finish(detector.start(ask(picture(), job_id="j8")))[0], InferenceFailed)
    assert "inference.not_started job=j8" in caplog.text
    assert detector.queues["tiny"].free == 2


def test_what_nobody_foresaw_is_an_internal_error_with_an_incident_s_number(start: Open, monkeypatch, caplog):
    """The number leads from the caller's error to the traceback in the worker's log; the details stay there."""

    def fit(*_, **__):
        raise ZeroDivisionError("a secret detail")

    monkeypatch.setattr(decode, "fit", fit)

    (error,) = finish(start(tiny(networks.echo)).start(ask(picture(), job_id="j9")))

    assert isinstance(error, InternalError)
    incident = error.message.removesuffix(".").rpartition(" ")[2]
    assert len(incident) == 12
    assert f"job.internal_error job=j9 incident={incident}" in caplog.text
    assert "a secret detail" in caplog.text
    assert "secret" not in error.message


def test_a_server_that_is_gone_is_waited_for(start: Open, caplog: pytest.LogCaptureFixture):
    """A good job does not fail because Redis is away; when nobody wants it any more, it ends."""
    detector = start(tiny(networks.echo), url="redis://127.0.0.1:1/0")
    detecting = detector.start(ask({"ref": blobs.new_key()}, picture(5)))
    eventually(lambda: caplog.text.count("redis.away") > 1)
    assert not detecting.done()

    detecting.cancel()

    error, _ = finish(detecting)
    assert isinstance(error, Cancelled)


# -------------------------------------------------------------------------------------------- deadline and cancel


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of what is decoded; the decoder does its work."""
    seen: list[int] = []
    real = decode.decode

    def recorded(data, limits):
        seen.append(len(data))
        return real(data, limits)

    monkeypatch.setattr(decode, "decode", recorded)
    return seen


def test_a_job_whose_deadline_has_passed_is_not_even_fetched(start: Open, decodes):
    """Nobody waits for the answer any more; a missing image would otherwise say so."""
    detector = start(tiny(networks.echo))

    errors = finish(detector.start(ask(picture(), {"ref": blobs.new_key()}, deadline=time.time() - 0.001)))

    assert [type(error) for error in errors] == [DeadlineExceeded, DeadlineExceeded]
    assert decodes == []


def test_a_deadline_that_passes_while_the_image_is_fetched_saves_the_decoding(
    start: Open, decodes, monkeypatch, connection
):
    """It is looked at once more before the expensive part."""
    deadline, key, real = time.time() + 0.3, blobs.new_key(), blobs.read
    connection.set(key, picture()["data"])

    def slow_read(*args, **options):
        data = real(*args, **options)
        threading.Event().wait(max(0.0, deadline - time.time()) + 0.01)
        return data

    monkeypatch.setattr(blobs, "read", slow_read)

    (error,) = finish(start(tiny(networks.echo)).start(ask({"ref": key}, deadline=deadline)))

    assert isinstance(error, DeadlineExceeded)
    assert decodes == []


def test_a_job_in_time_is_not_touched_by_its_deadline(start: Open):
    """A minute is enough."""
    (rows,) = finish(start(tiny(networks.echo)).start(ask(picture(4), deadline=time.time() + 60)))

    assert networks.number_of(rows) == 4


def test_a_job_that_is_stopped_half_way_keeps_what_it_has(start: Open, decodes):
    """What is in flight ends at once, what has not begun never begins; every one of them says why."""
    detector = start(tiny(networks.lasting), requests=1, plan=replace(PLAN, decoders=1))
    detecting = detector.start(ask(picture(1), *(picture(number, first=400) for number in range(2, 12))))
    first_done = eventually(lambda: detecting.outcomes[0].done_at and detector.queues["tiny"].in_flight)
    assert first_done

    assert detecting.stop(DeadlineExceeded("The hard time limit was reached."))

    first, *others = finish(detecting)
    assert networks.number_of(first) == 1
    assert all(isinstance(error, DeadlineExceeded) for error in others)
    assert {error.message for error in others} == {"The hard time limit was reached."}
    assert len(decodes) < 5
    assert not detecting.stop(Cancelled())
    eventually(lambda: detector.queues["tiny"].free == 1)
    assert networks.number_of(finish(detector.start(ask(picture(99))))[0]) == 99


def test_a_cancelled_job_settles_while_its_inference_still_runs(start: Open):
    """The caller does not wait for what he does not want any more."""
    detector = start(tiny(networks.lasting), requests=1)
    detecting = detector.start(ask(picture(1, first=4800)))
    eventually(lambda: detector.queues["tiny"].in_flight)

    assert detecting.cancel()

    assert isinstance(finish(detecting)[0], Cancelled)
    assert detector.queues["tiny"].free == 0


def test_a_cancel_that_meets_the_submit_is_not_lost(start: Open):
    """The job is stopped after its last look and before its inference is known: it is cancelled all the same."""
    detector = start(tiny(networks.lasting), requests=1)
    queue = detector.queues["tiny"]
    real, stopped = queue.submit, []

    def submit(tensor, **options):
        flight = real(tensor, **options)
        stopped.append(detecting.cancel())
        return flight

    ready = threading.Event()
    queue.submit = lambda tensor, **options: ready.wait(SOON_S) and submit(tensor, **options)
    detecting = detector.start(ask(picture(1, first=1200)))
    ready.set()

    assert isinstance(finish(detecting)[0], Cancelled)
    assert stopped == [True]


def test_a_settled_job_cannot_be_cancelled(start: Open):
    """Its outcome stays."""
    detecting = start(tiny(networks.echo)).start(ask(picture(3)))
    (rows,) = finish(detecting)

    assert not detecting.cancel()
    assert networks.number_of(rows) == 3
    assert detecting.outcomes[0].error is None


# ------------------------------------------------------------------------------------------------------ which model


def test_the_model_is_the_request_s_or_the_queue_s_or_the_only_one(start: Open):
    """In this order."""
    two, one = start(tiny(networks.echo, "a"), tiny(networks.picky, "b")), start(tiny(networks.echo, "only"))

    def chosen(detector, queue, asked):
        request = Request([picture()], Options(model=asked), model=queue)
        return detector.start(request).result(SOON_S)[0].network.spec.name

    assert chosen(two, "a", "b") == "b"
    assert chosen(two, "a", None) == "a"
    assert chosen(one, None, None) == "only"


@pytest.mark.parametrize(("queue", "asked"), [("a", "yolo"), ("yolo", None), (None, None), (None, "x" * 500)])
def test_a_model_that_is_not_loaded_is_refused_at_once(start: Open, queue, asked):
    """With the names of those that are."""
    detector = start(tiny(networks.echo, "a"), tiny(networks.echo, "b"))

    with pytest.raises(UnknownModel, match=r"it serves a, b\.$") as caught:
        detector.start(Request([picture()], Options(model=asked), model=queue))

    assert len(caught.value.message) < 200


# --------------------------------------------------------------------------------------- health, stats, housekeeping


def test_the_self_test_runs_every_network(start: Open, load: Load):
    """True when each of them gave an answer, False when one could not."""
    assert start(load("blazeface_short"), tiny(networks.echo)).check().result(SOON_S) is True
    assert start(tiny(networks.echo), tiny(networks.picky, "fails")).check().result(SOON_S) is False


def test_a_full_queue_needs_no_self_test(start: Open):
    """Jobs in flight prove more than a black image; the test does not wait behind them."""
    detector = start(tiny(networks.lasting), requests=1)
    busy = detector.start(ask(picture(1, first=600)))
    eventually(lambda: detector.queues["tiny"].in_flight)

    test = detector.check()

    assert test.done()
    assert test.result(0) is True
    assert not busy.done()


def test_a_closed_detector_is_not_healthy(start: Open):
    """A worker that goes down does not claim to be well."""
    detector = start(tiny(networks.echo))
    detector.close()

    assert detector.check().result(SOON_S) is False


def test_stats_say_what_is_loaded_and_how_busy_it_is(start: Open):
    """As plain JSON, for ``celery inspect stats``."""
    detector = start(tiny(networks.lasting), requests=2)
    detector.start(ask(picture(1, first=400)))
    eventually(lambda: detector.queues["tiny"].in_flight)

    stats = json.loads(json.dumps(detector.stats()))

    assert stats["tiny"]["digest"] == "0" * 16
    assert (stats["tiny"]["requests"], stats["tiny"]["in_flight"]) == (2, 1)


def test_finishing_a_job_removes_its_images_bytes_and_nothing_else(start: Open, connection):
    """Whatever stands in the message: no key of others can be removed through it."""
    mine, foreign = blobs.new_key(), f"other:{uuid.uuid4().hex}"
    connection.mset({mine: b"x", foreign: b"x"})

    images = [{"ref": mine}, {"ref": foreign}, {"data": b"x"}, "text", None, {"ref": 5}]
    start(tiny(networks.echo)).finish("job", Remains(None, blobs.refs_of([images])))

    assert (connection.exists(mine), connection.exists(foreign)) == (0, 1)


def test_a_worker_announces_the_models_that_it_serves(start: Open, connection):
    """Clients list them; each tells its digest, its input and its labels."""
    name = f"m{uuid.uuid4().hex}"

    start(tiny(networks.echo, name)).announce()

    said = json.loads(connection.hget(wire.MODELS_KEY, name))
    assert said["digest"] == "0" * 16
    assert (said["input_size"], said["labels"]) == ([2, 2], ["thing"])


def test_a_detector_opens_the_models_of_the_settings(store, server):
    """From the store to a detection, as the pool does it."""
    chosen = Settings(url=server, models=("blazeface_short",), model_store=store, precision="f32")

    detector = open_detector(chosen, PLAN)

    try:
        queue = detector.queues["blazeface_short"]
        assert queue.size == max(2, 2 * detector.networks["blazeface_short"].optimal_requests)
        assert detector.check().result(SOON_S)
    finally:
        detector.close()


# ------------------------------------------------------------------------------------------------------------ close


def test_closing_a_busy_detector_returns_and_settles_every_job(start: Open):
    """In flight, waiting for a request, waiting for a thread: all end as cancelled, and no thread is left."""
    before = set(threading.enumerate())
    detector = start(tiny(networks.lasting), requests=2)
    jobs = [detector.start(ask(*(picture(number, first=400) for number in range(4)))) for _ in range(5)]
    eventually(lambda: detector.queues["tiny"].in_flight == 2)

    began = time.monotonic()
    detector.close()

    assert time.monotonic() - began < 5
    assert all(job.done() for job in jobs)
    assert {code for job in jobs for code in codes(job)} == {"cancelled"}
    started = {thread.name for thread in set(threading.enumerate()) - before}
    assert not any(name.startswith(("decode", "infer")) for name in started)
    detector.close()


def test_closing_is_no_incident(start: Open, caplog):
    """A deploy does not fill the log with tracebacks."""
    detector = start(tiny(networks.lasting), requests=1)
    job = detector.start(ask(*(picture(number, first=400) for number in range(6))))
    eventually(lambda: detector.queues["tiny"].in_flight)

    detector.close()

    assert job.done()
    assert "incident" not in caplog.text


# ---------------------------------------------------------------------------------- no thread waits for an inference


def test_no_thread_waits_for_an_inference_and_several_are_always_in_flight(start: Open, store, pictures):
    """Two hundred images through CenterFace, looked at every few milliseconds from outside.

    Threads of the detector may decode, submit, or wait for a free request, which is the back-pressure. None may sit
    in a wait for a result, and OpenVINO's own waiting calls are never made, but for the glance that does not wait.
    """
    forbidden = {"wait", "wait_for", "wait_all", "infer", "result", "exception"}
    calls: collections.Counter[str] = collections.Counter()
    glances = []

    def told_on(name):
        def call(real, *args):
            calls[name] += 1
            return real(*args)

        return call

    def wait_for(real, ms):
        glances.append(ms)
        return real(ms)

    spec, path = models.read("centerface", store)
    net = network.load(replace(spec, input_size=(256, 320)), path, Settings(precision="f32", streams=2), 2)
    wrapped = Wrapped(net.compiled, wait=told_on("wait"), infer=told_on("infer"), wait_for=wait_for)
    existing = {thread.ident for thread in threading.enumerate()}
    detector = start(replace(net, compiled=wrapped), requests=8)
    pixels = cv2.resize(cv2.imdecode(np.frombuffer(pictures["crowd"][0], np.uint8), cv2.IMREAD_COLOR), (320, 256))
    small = {"data": cv2.imencode(".jpg", pixels)[1].tobytes()}
    queue = detector.queues["centerface"]
    seen: collections.Counter[tuple[str, str]] = collections.Counter()
    in_flight = []

    jobs = [detector.start(ask(*[small] * 50)) for _ in range(4)]
    while wait(jobs, 0.003).not_done:
        in_flight.append(queue.in_flight)
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for ident, frame in sys._current_frames().items():
            if ident not in existing and names.get(ident) != "infer-supervisor":
                seen.update(_functions(frame))

    assert all(outcome.error is None for job in jobs for outcome in job.result(0))
    assert {function for _, function in seen} & forbidden == set(), seen
    assert seen["preparing.py", "_prepare"] > 0
    assert calls == {}
    assert set(glances) <= {0}
    several = sum(count > 1 for count in in_flight)
    assert several > len(in_flight) * 0.8, in_flight
    assert max(in_flight) == 8


def _functions(frame: Any) -> Iterator[tuple[str, str]]:
    """Give file and function of every frame of a thread's stack."""
    while frame is not None:
        yield frame.f_code.co_filename.rpartition("/")[2], frame.f_code.co_name
        frame = frame.f_back


def test_a_job_that_cannot_be_buried_is_answered(start: Open, connection: Redis, monkeypatch) -> None:
    """Given a job that has ended two workers, when the dead list cannot be written, then it is tried once more."""

    def fails(*_: Any) -> None:
        raise ValueError("no list")

    monkeypatch.setattr(dead, "add", fails)
    connection.set(wire.BEGUN_PREFIX + "job-unburied", 2)
    assert codes(start(tiny(networks.echo)).start(ask(picture(), job_id="job-unburied"))) == [""]
