"""A job's end is one step: outcome, books, images and message go together, whatever was there before."""

import json
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.app.task import Context
from redis import Redis
from redis.exceptions import ResponseError

from producer import Client, blobs
from producer.books import BYTES_KEY, SIZES_KEY
from producer.results import meta_key
from producer.wire import BEGUN_PREFIX, JOBS_KEY, ledger_key, queue_key
from tests.conftest import StartWorker
from tests.integration.kit import small_picture
from tests.waiting import eventually
from worker.ending import REVOKED, SUCCESS, Ending, JobEnd, Remains
from worker.lines import Lines
from worker.request import Outcome, Stage, staged
from worker.results import Results

QUEUE = "detect.blazeface_short"
GOOD = SUCCESS + b', "result": 1}'
BAD = b'{"status": "FAILURE", "result": 2}'
TAKEN_BACK = REVOKED + b', "result": 3}'


@pytest.fixture
def client(own_server: str) -> Iterator[Client]:
    """A client of this test's own server."""
    with Client(own_server, model="blazeface_short") as made:
        yield made


@pytest.fixture
def ending(redis: Redis) -> Iterator[Ending]:
    """Give what ends jobs on this test's own server."""
    lines = Lines(redis)
    yield Ending(lines)
    lines.close()


@pytest.fixture
def picture(samples: Path) -> bytes:
    """A photo with a face."""
    return small_picture(samples)


@pytest.fixture
def held(client: Client, redis: Redis, picture: bytes) -> Remains:
    """Give what is kept of a job that a worker holds and has begun."""
    job = client.submit(picture)
    redis.lpop(QUEUE)
    redis.set(f"{BEGUN_PREFIX}{job.id}", 1)
    redis.set(f"fleet:blob:{job.id}", picture)
    redis.hset("unacked", job.id, b"message")
    redis.zadd("unacked_index", {job.id: 1.0})
    return Remains(QUEUE, [f"fleet:blob:{job.id}"], job.id)


def test_an_outcome_goes_in_and_all_that_was_kept_goes_out(redis: Redis, ending: Ending, held: Remains) -> None:
    """Given a job in Redis, when it ends, then its outcome is stored with a time to live, told, and alone."""
    job = str(held.tag)
    channel = redis.pubsub(ignore_subscribe_messages=True)
    channel.subscribe(meta_key(job))

    ending(JobEnd(job, held, GOOD, 60))

    assert redis.get(meta_key(job)) == GOOD
    assert 0 < redis.ttl(meta_key(job)) <= 60
    assert eventually(channel.get_message, "the message")["data"] == GOOD
    assert not redis.exists(BEGUN_PREFIX + job, *held.images, "unacked", "unacked_index", ledger_key(QUEUE))
    assert not redis.exists(JOBS_KEY, SIZES_KEY, BYTES_KEY)


def test_a_job_may_end_twice(redis: Redis, ending: Ending, held: Remains, client: Client, picture: bytes) -> None:
    """Given another job of the queue, when the first ends twice, then the other's bytes are still counted."""
    other = client.submit(picture)
    size = int(redis.hget(SIZES_KEY, other.id) or 0)

    ending(JobEnd(str(held.tag), held, GOOD, 60))
    ending(JobEnd(str(held.tag), held, GOOD, 60))

    assert redis.hgetall(BYTES_KEY) == {QUEUE.encode(): str(size).encode()}
    assert redis.zrange(ledger_key(QUEUE), 0, -1) == [other.id.encode()]


def test_a_job_that_ends_twice_at_once_is_counted_once(
    redis: Redis, ending: Ending, held: Remains, client: Client, picture: bytes
) -> None:
    """Given a job that was delivered twice, when both end together, then the first stands, and the books are right."""
    other = client.submit(picture)
    size = int(redis.hget(SIZES_KEY, other.id) or 0)
    job = str(held.tag)

    assert ending.together([JobEnd(job, held, GOOD, 60), JobEnd(job, held, BAD, 60)]) == [None, None]

    assert redis.get(meta_key(job)) == GOOD
    assert redis.hgetall(BYTES_KEY) == {QUEUE.encode(): str(size).encode()}


def test_jobs_of_any_priority_leave_the_books(
    own_server: str, client: Client, redis: Redis, picture: bytes, start_worker: StartWorker
) -> None:
    """Given jobs of several priorities, when they have ended, then the ledgers of their lists are empty."""
    priorities = (0, 2, 3, 9)
    jobs = [client.submit(picture, priority=priority) for priority in priorities for _ in range(2)]
    assert [redis.zcard(ledger_key(queue_key(QUEUE, step))) for step in (0, 3, 6, 9)] == [4, 2, 0, 2]
    start_worker(own_server)
    assert [len(job.result(30).detections) for job in jobs] == [1] * 8
    assert not redis.keys("fleet:ledger:*")
    assert not redis.exists(JOBS_KEY, SIZES_KEY, BYTES_KEY)


@pytest.mark.parametrize(
    ("first", "second", "stands"),
    [
        (GOOD, BAD, GOOD),
        (BAD, GOOD, GOOD),
        (BAD, BAD, BAD),
        (GOOD, TAKEN_BACK, GOOD),
        (TAKEN_BACK, GOOD, TAKEN_BACK),
        (TAKEN_BACK, TAKEN_BACK + b" ", TAKEN_BACK),
    ],
)
def test_a_success_and_a_revocation_stand(
    redis: Redis, ending: Ending, first: bytes, second: bytes, stands: bytes
) -> None:
    """Given an outcome, when another comes, then it replaces a failure, never a success, never a revocation."""
    ending(JobEnd("job", None, first, 60))
    ending(JobEnd("job", None, second, 60))
    assert redis.get(meta_key("job")) == stands


@pytest.mark.parametrize(("state", "start"), [("SUCCESS", SUCCESS), ("REVOKED", REVOKED)])
def test_the_text_of_an_end_begins_as_celery_writes_it(state: str, start: bytes) -> None:
    """Given what the real backend encodes, then the script's test for a success or a revocation fits it."""
    from worker.app import app  # noqa: PLC0415 - reads the settings, which other tests change

    text = app.backend.encode(app.backend._get_result_meta("x", state, None, None))
    assert text.encode().startswith(start)
    assert json.loads(text)["result"] == "x"


def test_a_sum_that_somebody_broke_is_begun_anew(redis: Redis, ending: Ending, held: Remains) -> None:
    """Given bytes of a queue that are no number, when a job ends, then it ends whole, and they are gone."""
    redis.hset(BYTES_KEY, QUEUE, "many")
    ending(JobEnd(str(held.tag), held, GOOD, 60))
    assert redis.get(meta_key(str(held.tag))) == GOOD
    assert not redis.exists(JOBS_KEY, SIZES_KEY, BYTES_KEY, ledger_key(QUEUE))


def test_any_number_of_jobs_can_end_together(redis: Redis, ending: Ending) -> None:
    """Given more jobs than Lua can hand over at a time, then all end."""
    ends = [JobEnd(f"job{number}", Remains(QUEUE, (), f"tag{number}"), GOOD, 60) for number in range(9000)]
    redis.hset("unacked", mapping={f"tag{number}": b"message" for number in range(9000)})
    assert set(ending.together(ends)) == {None}
    assert not redis.exists("unacked")
    assert redis.get(meta_key("job8999")) == GOOD


def test_a_job_that_is_on_no_books_can_end(redis: Redis, ending: Ending) -> None:
    """Given a message of a bare Celery program, then its image and its message go as well."""
    redis.set("fleet:blob:x", b"image")
    redis.hset("unacked", "tag", b"message")
    ending(JobEnd("job", Remains(None, ["fleet:blob:x"], "tag"), BAD))
    assert not redis.exists("fleet:blob:x", "unacked")
    assert redis.ttl(meta_key("job")) == -1


def test_what_ends_together_ends_in_one_round_trip(
    redis: Redis, ending: Ending, client: Client, picture: bytes
) -> None:
    """Given three jobs of which the books of one are broken, then the others end, and that one is told apart."""
    jobs = [client.submit(picture).id for _ in range(2)]
    redis.set(ledger_key("detect.broken"), "no sorted set")
    remains = [Remains(QUEUE, (), None), Remains("detect.broken", (), None), Remains(QUEUE, (), None)]
    ends = [JobEnd(*one, GOOD, 60) for one in zip([jobs[0], "broken", jobs[1]], remains, strict=True)]
    client.close()  # its pings would count
    ending(JobEnd("other", None, GOOD, 60))  # so that there is a connection, and the server knows the script

    before = redis.info("stats")["total_reads_processed"]
    errors = ending.together(ends)
    assert redis.info("stats")["total_reads_processed"] - before == 2, "that, and this question"

    assert [type(error) for error in errors] == [type(None), ResponseError, type(None)]
    assert redis.mget(map(meta_key, jobs)) == [GOOD, GOOD]
    assert not redis.exists(JOBS_KEY, ledger_key(QUEUE))


def test_an_outcome_that_is_kept_back_is_stored_with_the_others(
    own_server: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given stages whose outcomes wait, then all are stored at once, but for one that nobody wants any more."""
    forgotten: list[str] = []
    engine = SimpleNamespace(forget=forgotten.append)
    together: list[Outcome] = []
    with Celery() as app:
        results = Results(app=app, url=own_server)
        monkeypatch.setattr(Celery, "backend", results)
        stages = [Stage(name, engine, Future(), tag=name, together=together) for name in ("a", "b", "c")]
        for stage in stages:
            with staged(stage):
                results.store_result(stage.job_id, 1, "SUCCESS", request=Context(delivery_info={}))
            assert stage.waits
        assert (redis.exists(meta_key("a")), forgotten) == (0, [])
        assert results.store_together(together, lambda name: name != "c") == {}
        results.lines.close()
    assert redis.exists(meta_key("a"), meta_key("b"), meta_key("c")) == 2
    assert forgotten == ["a", "b"]
    assert [stage.ended.tag for stage in stages if stage.ended] == ["a", "b"]


@pytest.mark.parametrize("more", [{"chord": {"task": "t"}}, {"errbacks": [{"task": "t"}]}])
def test_a_message_stays_while_something_is_to_follow_its_outcome(more: dict[str, Any]) -> None:
    """Given a chord or an errback, which Celery sends after the outcome, then the message is not gone before that."""
    asked = {
        "chord": None,
        "errbacks": None,
        "delivery_info": {"routing_key": QUEUE},
        "args": [{"ref": "fleet:blob:x"}],
    }
    stage = Stage("job", None, None, "tag")  # type: ignore[arg-type]
    assert stage.remains(SimpleNamespace(**asked)) == Remains(QUEUE, ["fleet:blob:x"], "tag")
    assert stage.remains(SimpleNamespace(**asked | more)).tag is None


def test_a_server_that_forgot_its_scripts_is_told_them_again(
    own_server: str, client: Client, redis: Redis, picture: bytes, start_worker: StartWorker
) -> None:
    """Given jobs before and after SCRIPT FLUSH, then all are accepted and answered, and nothing is left of them."""
    start_worker(own_server)
    for _ in range(3):
        assert client.submit(picture).result(30).model == "blazeface_short"
        redis.script_flush()
    eventually(lambda: not redis.exists(JOBS_KEY, ledger_key(QUEUE), "unacked"), "the end of the books")


def test_a_backlog_is_fetched_a_few_messages_at_a_time(
    own_server: str, client: Client, redis: Redis, picture: bytes, start_worker: StartWorker
) -> None:
    """Given 60 jobs that wait, when a worker takes them, then four come at once, oldest first, and all are answered."""
    jobs = [client.submit(picture) for _ in range(60)]
    redis.config_resetstat()
    start_worker(own_server)
    assert [job.result(60).model for job in jobs] == ["blazeface_short"] * 60
    calls = redis.info("commandstats")["cmdstat_blmpop"]["calls"]
    assert calls < 30, "most of 60 messages came with another"
    assert blobs.CANCELLED not in redis.mget([meta_key(job.id) for job in jobs])
