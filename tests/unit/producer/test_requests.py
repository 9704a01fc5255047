"""A job as the commands that enqueue it."""

import base64
import json
from datetime import datetime
from typing import Any

import pytest

from producer import InvalidRequest
from producer.blobs import CANCELLED
from producer.books import Limits
from producer.ids import deadline_of
from producer.images import Picture
from producer.requests import INLINE_BYTES, Terms, ask_for_room, blob_key, build, offer, withdraw_commands
from producer.wire import queue_key

SMALL, LARGE = Picture(b"s" * INLINE_BYTES, "s.jpg"), Picture(b"l" * (INLINE_BYTES + 1), "l.jpg")


def make(*pictures: Picture, many: bool = False, **terms: Any) -> Any:
    """Build a request as of second 1000."""
    return build(pictures, Terms(**terms), many=many, model="m", client_id="0" * 12, now=1000.0)


def test_one_transaction_stores_the_image_and_accepts_the_job() -> None:
    """Given a large image, then SET with a time to live and the script, atomically; for a small one the script."""
    request = make(LARGE, deadline_s=60)
    ask = offer([request], Limits(10, 1000))
    assert ask.atomic
    assert [command[0] for command in ask.commands] == ["SET", "EVALSHA"]
    assert ask.commands[0] == ("SET", blob_key(request.job_id), LARGE.data, "PX", 3_660_000)
    assert [command[0] for command in offer([make(SMALL)], Limits(10, 1000)).commands] == ["EVALSHA"]


def test_several_jobs_are_one_transaction() -> None:
    """Given two large images and a small one between them, then SET of both, and the script once, with all messages."""
    requests = [make(picture) for picture in (LARGE, SMALL, LARGE)]
    ask = offer(requests, Limits(10, 1000))
    assert ask.atomic
    assert [command[:2] for command in ask.commands[:2]] == [
        ("SET", blob_key(request.job_id)) for request in (requests[0], requests[2])
    ]
    assert [word for word in ask.commands[2] if isinstance(word, bytes)] == [one.message.body for one in requests]
    assert len(ask.commands) == 3


def test_asking_for_room_sends_no_image() -> None:
    """Given a large and a small image, then nothing of them is in the question whether there is room."""
    for picture in (LARGE, SMALL):
        asked = ask_for_room([make(picture)], Limits(10, 1000)).commands
        assert len(asked) == 1
        assert not [part for part in asked[0] if isinstance(part, bytes) and part]


def test_an_idempotency_key_goes_with_the_request_it_was_used_for() -> None:
    """Given the same key, then the same image and options have the same fingerprint, and all others another."""
    first = make(LARGE, idempotency_key="k").once
    assert make(LARGE, idempotency_key="k", deadline_s=5, priority=3).once.fingerprint == first.fingerprint
    for other in (
        make(SMALL, idempotency_key="k"),
        make(LARGE, idempotency_key="k", min_score=0.5),
        make(LARGE, idempotency_key="k", many=True),
        make(LARGE, LARGE, idempotency_key="k", many=True),
    ):
        assert other.once.fingerprint != first.fingerprint
    assert first.key == "fleet:once:detect.m:k"
    assert first.ttl_s == 600 + 3600


def test_small_images_ride_inside_and_logs_show_no_byte_of_them() -> None:
    """Given a small image, then no blob, and nothing of it in the headers."""
    request = make(SMALL)
    message = json.loads(request.message.body)
    assert request.blobs == {}
    assert base64.b64encode(SMALL.data).decode() not in json.dumps(message["headers"])
    assert message["headers"]["argsrepr"] == f"(s.jpg, {INLINE_BYTES:,} bytes)"


def test_the_deadline_is_in_the_message_and_in_the_id() -> None:
    """Given a deadline, then Celery's expires says it in UTC, and the id carries it to other processes."""
    request = make(LARGE, deadline_s=30.5)
    expires = json.loads(request.message.body)["headers"]["expires"]
    assert datetime.fromisoformat(expires).timestamp() == 1030.5
    assert deadline_of(request.job_id) == 1030.5
    assert deadline_of("d7c1c5f2-0000-4000-8000-000000000000") is None


def test_ids_differ_and_share_their_client() -> None:
    """Given many jobs, then no id twice, each with the client's prefix."""
    ids = {make(SMALL).job_id for _ in range(100)}
    assert len(ids) == 100
    assert all(job_id.startswith("0" * 12 + "-") for job_id in ids)


@pytest.mark.parametrize(
    ("priority", "key"), [(0, "q"), (2, "q"), (3, "q\x06\x163"), (8, "q\x06\x166"), (9, "q\x06\x169")]
)
def test_priorities_share_four_lists(priority: int, key: str) -> None:
    """Given a priority, then the list of the step below it."""
    assert queue_key("q", priority) == key


@pytest.mark.parametrize(
    "terms",
    [
        {"priority": -1},
        {"priority": 10},
        {"priority": True},
        {"priority": "high"},
        {"deadline_s": 0},
        {"deadline_s": float("nan")},
        {"deadline_s": float("inf")},
        {"deadline_s": "soon"},
        {"min_score": 1.5},
        {"max_detections": 0},
        {"model": "../etc"},
        {"idempotency_key": ""},
        {"idempotency_key": "k" * 201},
        {"idempotency_key": "\ud800"},
        {"idempotency_key": 7},
    ],
)
def test_bad_options_are_refused_before_anything_is_read(terms: dict[str, Any]) -> None:
    """Given an option out of range, then InvalidRequest."""
    with pytest.raises(InvalidRequest):
        Terms(**terms)


def test_a_batch_has_limits() -> None:
    """Given no image, or too many, then InvalidRequest."""
    for pictures in ([], [SMALL] * 257):
        with pytest.raises(InvalidRequest, match="1 to 256"):
            make(*pictures, many=True)


def test_withdrawing_covers_what_may_be_there() -> None:
    """Given one image, a batch, or an unknown job, then the mark goes to exactly the keys that may hold images."""
    assert withdraw_commands("j", 0) == [("SET", "fleet:blob:j", CANCELLED, "XX", "KEEPTTL")]
    assert [command[1] for command in withdraw_commands("j", 2)] == ["fleet:blob:j.0", "fleet:blob:j.1"]
    assert len(withdraw_commands("j", None)) == 257
