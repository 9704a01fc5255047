"""A request goes through fetch, decode and network; each of its images ends in rows or in one typed error."""

import json
import logging
import uuid
from dataclasses import replace

import numpy as np
import pytest

from producer import blobs, wire
from producer.errors import (
    Cancelled,
    FleetError,
    InferenceFailed,
    InternalError,
)
from producer.wire import Options
from tests.hazards import networks
from tests.hazards.child import Wrapped
from tests.reference import iou
from tests.unit.worker.conftest import Load
from tests.unit.worker.detectors import SOON_S, Open, ask, codes, finish, picture, tiny
from tests.waiting import eventually
from worker import decode
from worker.decode import Frame
from worker.model_toml import ModelSpec
from worker.outcome import to_detections

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
