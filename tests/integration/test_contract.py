"""Any Celery program may send images: no client of ours, only the contract of :mod:`producer.wire`."""

import uuid
from typing import Any

import pytest

from producer import wire
from tests.integration.kit import MODEL, QUEUE, Fleet, faces
from tests.waiting import eventually

WORKER: dict[str, Any] = {"jobs": 4}


def put(fleet: Fleet, data: bytes) -> dict[str, str]:
    """Store an image as the contract says, and return its reference."""
    key = wire.BLOB_PREFIX + uuid.uuid4().hex
    fleet.redis.set(key, data, ex=60)
    return {"ref": key}


def test_an_image_as_base64_text_gives_a_result_of_the_contract(fleet: Fleet) -> None:
    """Given base64 text inside the message, then the result has every field of the contract."""
    result = fleet.detect().get(timeout=30)
    parsed = wire.Result.parse(result)
    assert (parsed.width, parsed.height, parsed.model, parsed.worker) == (256, 300, MODEL, fleet.worker.name)
    assert [one.label for one in parsed.detections] == ["face"]
    assert set(parsed.timings_ms) == {"queued", "fetch", "decode", "wait", "infer", "finish"}


def test_an_image_as_bytes_gives_the_same_result(fleet: Fleet) -> None:
    """Given raw bytes in a msgpack message, then the detections are those of the base64 message."""
    as_text = fleet.detect().get(timeout=30)
    as_bytes = fleet.detect({"data": fleet.picture}, serializer="msgpack").get(timeout=30)
    assert as_bytes["detections"] == as_text["detections"]


def test_an_image_by_reference_is_used_and_removed(fleet: Fleet) -> None:
    """Given the key of stored bytes, then the result is right and the key is gone."""
    image = put(fleet, fleet.picture)
    assert faces(fleet.detect(image).get(timeout=30)) == 1
    eventually(lambda: not fleet.redis.exists(image["ref"]), "the removal of the bytes")


def test_options_are_honoured(fleet: Fleet) -> None:
    """Given a least score that no face reaches, then there is no detection."""
    assert faces(fleet.detect(options={"min_score": 1.0}).get(timeout=30)) == 0


def test_a_batch_gives_a_result_or_an_error_for_each_image(fleet: Fleet) -> None:
    """Given bad images between good ones, then each has its own answer, in order."""
    images = [fleet.image, {"data": "bm90IGFuIGltYWdl"}, fleet.image, {"ref": "fleet:blob:nobody"}]
    answers = fleet.app.send_task("fleet.detect_many", [images], queue=QUEUE).get(timeout=30)
    assert [faces(answers[0]), faces(answers[2])] == [1, 1]
    assert [answers[1]["error"]["code"], answers[3]["error"]["code"]] == ["invalid_image", "payload_missing"]


BAD = {
    "not a picture": ([{"data": "bm90IGFuIGltYWdl"}], {}, "invalid_image"),
    "not base64": ([{"data": "%%%"}], {}, "invalid_image"),
    "empty": ([{"data": ""}], {}, "invalid_image"),
    "too long for a message": ([{"data": "A" * 400_000}], {}, "image_too_large"),
    "bytes that are gone": ([{"ref": "fleet:blob:gone"}], {}, "payload_missing"),
    "a key of somebody else": ([{"ref": "celery-task-meta-1"}], {}, "payload_missing"),
    "another model": (None, {"model": "nobody"}, "unknown_model"),
    "a newer version": (None, {"v": 2}, "unsupported_version"),
    "an unknown option": (None, {"colour": "blue"}, "invalid_request"),
    "a bad option": (None, {"min_score": 2}, "invalid_request"),
    "no image": ([], {}, "invalid_request"),
    "two images": ([{}, {}], {}, "invalid_request"),
    "an image that is a list": ([[1, 2]], {}, "invalid_request"),
    "an image by name": ([], {"image": {"data": ""}}, "invalid_request"),
}


@pytest.mark.parametrize(("args", "options", "code"), BAD.values(), ids=list(BAD))
def test_a_bad_request_raises_a_typed_error_and_the_worker_goes_on(
    fleet: Fleet, args: list[Any] | None, options: dict[str, Any], code: str
) -> None:
    """Given a request that nobody can do, then the caller gets (sentence, code), and the next job its result."""
    job = fleet.app.send_task("fleet.detect", [fleet.image] if args is None else args, options, queue=QUEUE)
    error = job.get(timeout=30, propagate=False)
    assert job.state == "FAILURE"
    sentence, given = error.args
    assert given == code
    assert " " in sentence
    assert sentence[-1] in ".!?"
    assert faces(fleet.detect().get(timeout=30)) == 1


def test_a_program_without_our_package_can_raise_the_error(fleet: Fleet) -> None:
    """Given a caller that lets Celery raise, then the class has the error's name and args."""
    with pytest.raises(Exception, match=r"not a whole JPEG|cannot be decoded|not a") as caught:
        fleet.detect({"data": "bm90IGFuIGltYWdl"}).get(timeout=30)
    assert type(caught.value).__name__ == "InvalidImage"
    assert caught.value.args[1] == "invalid_image"


def test_an_ignored_result_leaves_nothing_behind(fleet: Fleet) -> None:
    """Given ignore_result, then the job is done and acknowledged and no result is stored."""
    job = fleet.detect(put(fleet, fleet.picture), ignore_result=True)
    silent = fleet.user("silent")
    eventually(lambda: fleet.records("ran", silent), "the silent task")
    eventually(lambda: not fleet.unacked() and not fleet.queued(), "the acknowledgements")
    assert not fleet.redis.exists(f"celery-task-meta-{job.id}", f"celery-task-meta-{silent.id}")
    assert not fleet.redis.keys("fleet:blob:*")


def test_a_message_in_another_form_is_answered(fleet: Fleet) -> None:
    """Given a sender with other habits (gzip, its own shadow name and headers), then the answer is the same."""
    job = fleet.detect(compression="gzip", shadow="camera 7", headers={"camera": "7"}, priority=3)
    assert faces(job.get(timeout=30)) == 1


def test_what_no_worker_knows_is_answered_too(fleet: Fleet) -> None:
    """Given a task that is not registered, then its caller is told, and the worker goes on."""
    error = fleet.app.send_task("nobody.knows", queue="fleet").get(timeout=30, propagate=False)
    assert "nobody.knows" in str(error)
    assert faces(fleet.detect().get(timeout=30)) == 1


def test_pickle_is_refused(fleet: Fleet) -> None:
    """Given a message that could carry code, then it is not read, its sender is told, and the worker goes on."""
    error = fleet.user("echo", 1, serializer="pickle").get(timeout=30, propagate=False)
    assert error.args[1] == "invalid_request"
    assert faces(fleet.detect().get(timeout=30)) == 1
    eventually(lambda: not fleet.unacked(), "the end of the refused message")
