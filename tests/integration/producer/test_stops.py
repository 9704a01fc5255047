"""Jobs that end before their result: too late, cancelled, past a time limit, lost. Place and bytes are free again.

One real worker with a single place; a user's task may hold it, so that what comes after is prefetched or waits.
"""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from producer import Cancelled, Client, DeadlineExceeded, Job, PayloadMissing, blobs
from producer.books import BYTES_KEY, SIZES_KEY
from producer.requests import blob_key
from producer.results import meta_key
from producer.wire import BEGUN_PREFIX, JOBS_KEY, Result
from tests.integration.kit import MODEL, USER_TASKS, Fleet, faces
from tests.waiting import eventually

#: One place: two messages are prefetched, of which one begins.
WORKER: dict[str, Any] = {"extra": [*USER_TASKS, "-c", "1"]}


@pytest.fixture
def client(fleet: Fleet) -> Iterator[Client]:
    """Give a client of the fleet with the one worker."""
    with Client(fleet.url, model=MODEL) as made:
        yield made


def is_reserved(fleet: Fleet, job: Job[Any]) -> bool:
    """Tell whether the worker holds the job and has not begun it."""
    return job.id in [one["id"] for one in fleet.inspect("reserved")]


def begun(events: list[dict[str, Any]]) -> set[str]:
    """Return the ids of the jobs that the worker has begun."""
    return {event["uuid"] for event in events if event["type"] == "task-started"}


def places_taken(fleet: Fleet) -> tuple[int, int]:
    """How many jobs and infer requests are under way; an outcome is told a moment before its place is free."""
    pool = fleet.inspect("stats")["pool"]
    return pool["jobs"], pool["models"][MODEL]["in_flight"]


def assert_all_is_free(fleet: Fleet, client: Client) -> None:
    """The next job is answered, and nothing is left of the others."""
    assert len(client.detect(fleet.picture, deadline_s=30).detections) == 1
    eventually(lambda: not fleet.redis.exists(JOBS_KEY, SIZES_KEY, BYTES_KEY, "unacked"), "empty books")
    eventually(lambda: not fleet.redis.keys("fleet:begun:*"), "the end of the counts")
    eventually(lambda: places_taken(fleet) == (0, 0), "free places")


def test_a_job_that_expires_in_the_workers_hands_is_never_begun(fleet: Fleet, client: Client) -> None:
    """Given a prefetched job, when its deadline passes before it has a place, then it is not begun, its image gone."""
    with fleet.events() as events:
        gate = fleet.gate().entered()
        job = client.submit(fleet.picture, deadline_s=1.0)
        eventually(lambda: is_reserved(fleet, job), "the reservation")
        assert isinstance(job.error(20), DeadlineExceeded)
        gate.open()
        eventually(lambda: fleet.redis.exists(meta_key(job.id)), "the outcome")
        assert json.loads(fleet.redis.get(meta_key(job.id)))["status"] == "REVOKED"
        assert_all_is_free(fleet, client)
    assert job.id not in begun(events)
    eventually(lambda: not fleet.redis.exists(blob_key(job.id)), "the image's end")


def test_cancelled_jobs_are_not_begun_wherever_they_are(fleet: Fleet, client: Client) -> None:
    """Given a prefetched job and one that waits in the queue, when both are cancelled, then neither is begun."""
    with fleet.events() as events:
        gate = fleet.gate().entered()
        held = client.submit(fleet.picture)
        eventually(lambda: is_reserved(fleet, held), "the reservation")
        waits = client.submit(fleet.picture)
        assert held.cancel()
        assert waits.cancel()
        gate.open()
        eventually(lambda: not fleet.queued() and not fleet.unacked(), "the queue's end")
        assert_all_is_free(fleet, client)
    assert not begun(events) & {held.id, waits.id}
    for job in (held, waits):
        assert isinstance(job.error(0), Cancelled)
        assert fleet.redis.get(blob_key(job.id)) in (None, blobs.CANCELLED.decode())


def test_a_job_in_flight_is_cancelled_and_its_place_is_free(fleet: Fleet, client: Client) -> None:
    """Given a batch that is being inferred, when it is cancelled, then the next job need not wait for its end."""
    with fleet.events() as events:
        batch = client.submit_many([fleet.picture] * 256)
        eventually(lambda: fleet.redis.exists(BEGUN_PREFIX + batch.id), "the beginning")  # its event comes later
        assert batch.cancel()
        assert isinstance(batch.error(0), Cancelled)
        assert_all_is_free(fleet, client)
    assert "task-succeeded" not in [event["type"] for event in events if event.get("uuid") == batch.id]


def test_inference_past_its_hard_limit_ends_and_its_place_is_free(fleet: Fleet, client: Client) -> None:
    """Given a batch that is being inferred, when it meets its hard limit, then it fails, and its images are gone."""
    keys = [f"fleet:blob:limit.{number}" for number in range(256)]
    for key in keys:
        fleet.redis.set(key, fleet.picture, ex=60)
    images = [{"ref": key} for key in keys]
    job = fleet.app.send_task("fleet.detect_many", [images], queue=f"detect.{MODEL}", time_limit=0.1)
    assert type(job.get(timeout=30, propagate=False)).__name__ == "TimeLimitExceeded"
    assert_all_is_free(fleet, client)
    eventually(lambda: not fleet.redis.exists(*keys), "the images' end")


def test_an_image_that_redis_lost_is_a_typed_error(fleet: Fleet, client: Client) -> None:
    """Given a job whose image is gone when its turn comes, then PayloadMissing; the worker goes on."""
    gate = fleet.gate().entered()
    job = client.submit(fleet.picture)
    fleet.redis.delete(blob_key(job.id))
    gate.open()
    assert isinstance(job.error(20), PayloadMissing)
    assert_all_is_free(fleet, client)


def test_whatever_redis_lost_ends_by_the_deadline(fleet: Fleet, client: Client) -> None:
    """Given jobs of which Redis has lost every key, then each ends in DeadlineExceeded, none earlier, none hangs."""
    gate = fleet.gate().entered()
    jobs = [client.submit(fleet.picture, deadline_s=1.0) for _ in range(3)]
    before = time.monotonic()
    for key in fleet.redis.scan_iter():
        if key.startswith(("fleet:", "detect.", "unacked", "celery-task-meta-")):
            fleet.redis.delete(key)
    assert [type(job.error()) for job in jobs] == [DeadlineExceeded] * 3
    assert 0.5 < time.monotonic() - before < 20
    gate.open()
    assert isinstance(client.detect(fleet.picture, deadline_s=30), Result)
    assert faces(fleet.detect().get(timeout=30)) == 1
