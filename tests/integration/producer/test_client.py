"""What an application sees: submit, wait, cancel, pick up, and what stays behind in Redis."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import TaskRevokedError
from redis import Redis

from producer import (
    Cancelled,
    Client,
    DeadlineExceeded,
    InferenceFailed,
    InvalidImage,
    InvalidRequest,
    PayloadMissing,
    Result,
    UnknownModel,
    Unreachable,
    blobs,
)
from producer.requests import blob_key
from producer.wire import MODELS_KEY, Image, queue_of
from tests.integration.producer.standin import LARGE, PICTURE, StandIn, answer_all, make_result, store
from tests.waiting import eventually


def test_an_image_comes_back_as_a_result(client: Client, worker: StandIn, tmp_path: Path) -> None:
    """Given a worker, when a path is sent, then its result comes back and logs saw its name and size only."""
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(LARGE)
    result = client.detect(photo, min_score=0.25)
    assert isinstance(result, Result)
    assert result.detections[0].label == "face"
    headers, _, kwargs = worker.seen[0]
    assert headers["argsrepr"] == f"(photo.jpg, {len(LARGE):,} bytes)"
    assert kwargs == {"v": 1, "model": "centerface", "min_score": 0.25}


def test_a_worker_finds_the_very_bytes_that_were_sent(client: Client, url: str, redis: Redis) -> None:
    """Given a small and a large image, then one rides in the message and the other waits under its key."""
    found = []

    def look(headers: dict[str, Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
        image = Image.parse(args[0])
        found.append(image.data if image.ref is None else blobs.get(redis, image.ref))
        return answer_all(headers, args, kwargs)

    with StandIn(url, look) as worker:
        client.detect(PICTURE)
        client.detect(LARGE)
    assert found == [PICTURE, LARGE]
    assert [set(args[0]) for _, args, _ in worker.seen] == [{"data"}, {"ref"}]
    key = worker.seen[1][1][0]["ref"]
    assert 600 < redis.ttl(key) - 3600 + 1 <= 601


def test_a_batch_gives_a_list_and_a_bad_image_spoils_none(client: Client, url: str) -> None:
    """Given a batch in which one image is bad, then its place holds the error and the others their results."""

    def one_is_bad(_h: dict[str, Any], args: list[Any], _k: dict[str, Any]) -> Any:
        items = [make_result(width=100 + index).to_json() for index in range(len(args[0]))]
        items[1] = {"error": InvalidImage("Not a picture.").to_json()}
        return items

    with StandIn(url, one_is_bad):
        first, second, third = client.submit_many([PICTURE, LARGE, PICTURE]).result(10)
    assert isinstance(first, Result)
    assert isinstance(second, InvalidImage)
    assert str(second) == "Not a picture."
    assert isinstance(third, Result)
    assert third.width == 102


@pytest.mark.parametrize("error", [PayloadMissing(), InferenceFailed("The network broke.")])
def test_an_error_of_the_worker_is_raised_in_its_own_class(client: Client, url: str, error: Exception) -> None:
    """Given a worker that fails, then the caller gets the same class with the same sentence."""

    def fail(*_: object) -> None:
        raise error

    with StandIn(url, fail), pytest.raises(type(error), match=str(error)):
        client.detect(PICTURE)


def test_a_bad_path_fails_before_anything_is_sent(client: Client, redis: Redis) -> None:
    """Given a path that names nothing, then InvalidImage says so and Redis saw no command."""
    with pytest.raises(InvalidImage, match="There is no file"):
        client.submit("/no/such/photo.jpg")
    assert redis.keys("*") == []


def test_a_result_that_was_read_does_not_stay(client: Client, worker: StandIn, redis: Redis) -> None:
    """Given detect and map, then results are deleted; a submitted job's lives for a minute more."""
    client.detect(PICTURE)
    assert all(answer.result for answer in client.map([PICTURE] * 20))
    job = client.submit(PICTURE)
    assert job.result(10) == job.result(10)
    eventually(lambda: redis.keys("celery-task-meta-*") == [f"celery-task-meta-{job.id}".encode()])
    eventually(lambda: 0 < redis.ttl(f"celery-task-meta-{job.id}") <= 60)


def test_closing_tidies_up_at_once(url: str, worker: StandIn, redis: Redis) -> None:
    """Given results just read, when the client closes, then they are gone from Redis."""
    with Client(url) as client:
        client.detect(PICTURE)
    assert redis.keys("celery-task-meta-*") == []


def test_waiting_has_its_own_limit_and_the_job_goes_on(client: Client, url: str) -> None:
    """Given no worker yet, when waiting times out, then TimeoutError; a worker that comes later still answers."""
    job = client.submit(PICTURE)
    with pytest.raises(TimeoutError):
        job.result(0.05)
    assert not job.done()
    with StandIn(url, answer_all):
        assert job.result(10).width == 640
    assert job.done()
    assert job.error() is None


def test_a_job_that_nobody_answers_ends_at_its_deadline(client: Client) -> None:
    """Given no worker at all, then a job ends with DeadlineExceeded a little after its deadline, never later."""
    started = time.monotonic()
    job = client.submit(PICTURE, deadline_s=0.2)
    with pytest.raises(DeadlineExceeded):
        job.result()
    assert time.monotonic() - started < 5


def test_what_a_worker_revokes_as_expired_is_a_missed_deadline(client: Client, url: str) -> None:
    """Given Celery's own mark of an expired task, then the caller gets DeadlineExceeded."""
    job = client.submit(PICTURE)
    store(url, job.id, TaskRevokedError("expired"), "REVOKED")
    with pytest.raises(DeadlineExceeded):
        job.result(10)


def test_a_waiting_job_can_be_cancelled_with_no_worker_up(client: Client, redis: Redis) -> None:
    """Given a queued job, when it is cancelled, then it ends so at once and its image is withdrawn for late workers."""
    job = client.submit(LARGE)
    assert job.cancel()
    with pytest.raises(Cancelled):
        job.result(0)
    with pytest.raises(Cancelled):
        blobs.get(redis, blob_key(job.id))
    assert not job.cancel()


def test_a_job_that_has_ended_cannot_be_cancelled(client: Client, worker: StandIn, url: str) -> None:
    """Given a finished job, then cancel says no, also in a client that has not heard of the end yet."""
    job = client.submit(PICTURE)
    job.result(10)
    assert not job.cancel()
    other = client.submit(PICTURE, model="nobody-serves-this")
    store(url, other.id, make_result().to_json())
    assert not other.cancel()
    assert other.result(10).width == 640


def test_another_clients_job_can_be_cancelled_by_id(client: Client, url: str, redis: Redis) -> None:
    """Given a batch of one client, when another cancels it by id, then all its images are withdrawn."""
    job = client.submit_many([LARGE, LARGE])
    with Client(url) as other:
        assert other.job(job.id).cancel()
    for index in range(2):
        with pytest.raises(Cancelled):
            blobs.get(redis, blob_key(job.id, index))


def test_a_job_is_picked_up_by_its_id(client: Client, url: str, redis: Redis) -> None:
    """Given two other clients with the id, one before and one after the end, then both read the result."""
    job = client.submit(PICTURE)
    with Client(url) as early, Client(url) as late:
        waiting = early.job(job.id)
        eventually(lambda: redis.pubsub_numsub(f"celery-task-meta-{job.id}")[0][1] == 1)
        assert not waiting.done()
        store(url, job.id, make_result().to_json())
        assert waiting.result(10).width == 640
        picked = late.job(job.id)
        assert picked.done()
        assert picked.result().width == 640
        eventually(lambda: redis.pubsub_numsub(f"celery-task-meta-{job.id}")[0][1] == 0)


def test_an_id_is_checked(client: Client) -> None:
    """Given something that cannot be an id, then InvalidRequest."""
    with pytest.raises(InvalidRequest, match="letters"):
        client.job("no\nid")


def test_an_unknown_model_is_refused_at_once_and_the_known_are_named(client: Client, redis: Redis) -> None:
    """Given a fleet that serves two models, then another name fails within a second, and no name is ambiguous."""
    redis.hset(MODELS_KEY, mapping={"centerface": "{}", "blazeface": "{}"})
    started = time.monotonic()
    with pytest.raises(UnknownModel, match="blazeface, centerface"):
        client.submit(PICTURE, model="yolo")
    assert time.monotonic() - started < 1
    with pytest.raises(InvalidRequest, match="blazeface, centerface"):
        client.submit(PICTURE)
    assert client.models() == {"centerface": {}, "blazeface": {}}
    client.submit(PICTURE, model="blazeface").cancel()
    assert redis.llen("detect.blazeface") == 1


def test_the_only_model_needs_no_name_and_an_empty_fleet_takes_any(client: Client, redis: Redis) -> None:
    """Given no worker ever, then any model is queued; given one model, then it is the default."""
    client.submit(PICTURE, model="later")
    assert redis.llen("detect.later") == 1
    redis.hset(MODELS_KEY, "only", "{}")
    eventually(lambda: client.models() == {"only": {}})
    client.submit(PICTURE)
    assert redis.llen("detect.only") == 1


def test_a_server_that_is_not_there_is_one_clear_sentence() -> None:
    """Given nothing listens, then Unreachable after a few tries."""
    with Client("redis://127.0.0.1:1/0") as client, pytest.raises(Unreachable, match="Is it running"):
        client.submit(PICTURE)


@pytest.mark.parametrize("url", ["http://127.0.0.1", "nonsense", "redis://127.0.0.1:notaport"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    """Given a bad URL, then InvalidRequest when the client is made."""
    with pytest.raises(InvalidRequest, match="not a Redis URL"):
        Client(url)


def test_a_closed_client_says_so_and_lets_nobody_hang(url: str) -> None:
    """Given a thread that waits, when the client closes, then the wait ends; further calls are refused."""
    client = Client(url)
    job = client.submit(PICTURE)
    ended: list[object] = []
    waiter = threading.Thread(target=lambda: ended.append(job.error()))
    waiter.start()
    client.close()
    waiter.join(10)
    assert isinstance(ended[0], Unreachable)
    with pytest.raises(RuntimeError, match="closed"):
        client.submit(PICTURE)


def test_a_model_that_is_no_longer_served_does_not_stand_in_the_way(url: str, redis: Redis) -> None:
    """Given a model of today and one of last week, when none is named, then it is today's; both can be named."""
    now = redis.time()[0]
    redis.hset(MODELS_KEY, "today", json.dumps({"seen_at": now}))
    redis.hset(MODELS_KEY, "last-week", json.dumps({"seen_at": now - 7 * 86400}))
    with Client(url) as client:
        client.submit(PICTURE)
        client.submit(PICTURE, model="last-week")
    assert (redis.llen(queue_of("today")), redis.llen(queue_of("last-week"))) == (1, 1)
