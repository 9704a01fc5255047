"""A job that Redis handed to a worker which died at that very moment is sent again; one that waits is not."""

import itertools
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from producer import Client
from producer.books import SIZES_KEY
from producer.wire import JOBS_KEY, ledger_key, queue_of
from tests.conftest import StartWorker
from tests.integration.kit import small_picture
from tests.waiting import eventually
from worker import ledger

QUEUE = queue_of("blazeface_short")


@pytest.fixture
def client(own_server: str) -> Iterator[Client]:
    """A client of this test's own server."""
    with Client(own_server, model="blazeface_short") as made:
        yield made


@pytest.fixture
def picture(samples: Path) -> bytes:
    """A photo that is too large to ride inside the message."""
    return small_picture(samples) + b"\0" * 4096


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeps need not wait until a job has been missing for a while, nor for each other."""
    monkeypatch.setattr(ledger, "MISSING_FOR_S", 0.0)
    monkeypatch.setattr(ledger, "SWEEP_EVERY_S", 0.01)


def sweep_until_nothing(redis: Redis) -> list[str]:
    """Sweep twice, which is what it takes to send what is lost."""
    sweep = ledger.Sweep(redis, [QUEUE])
    sent = []
    for _ in range(2):
        redis.delete(ledger.LOCK_KEY)
        sent += sweep.run()
    return sent


@pytest.mark.usefixtures("at_once")
def test_a_message_that_was_popped_and_lost_is_sent_again(client: Client, redis: Redis, picture: bytes) -> None:
    """Given three jobs, when one message is popped and dropped, then that one is sent again, to be served next."""
    jobs = [client.submit(picture) for _ in range(3)]
    lost = json.loads(redis.rpop(QUEUE))["headers"]["id"]
    assert lost == jobs[0].id

    assert sweep_until_nothing(redis) == [lost]

    assert json.loads(redis.lindex(QUEUE, -1))["headers"]["id"] == lost
    assert redis.llen(QUEUE) == 3
    assert sweep_until_nothing(redis) == []


@pytest.mark.usefixtures("at_once")
def test_a_backlog_is_left_alone(client: Client, redis: Redis, picture: bytes) -> None:
    """Given a long backlog in disorder, when it is swept again and again, then nothing is sent twice."""
    for _ in range(300):
        client.submit(picture)
    for _ in range(40):  # as if messages had been restored out of turn
        redis.rpoplpush(QUEUE, QUEUE)
    before = redis.lrange(QUEUE, 0, -1)

    assert [sweep_until_nothing(redis) for _ in range(3)] == [[], [], []]

    assert redis.lrange(QUEUE, 0, -1) == before


@pytest.mark.usefixtures("at_once")
def test_a_backlog_behind_messages_of_other_programs_is_left_alone(
    client: Client, redis: Redis, picture: bytes
) -> None:
    """Given a backlog behind messages that are in no ledger, then the sweep does not look for its jobs one by one.

    Each such look goes through the whole queue: those of 20,000 jobs kept a server busy for ten seconds.
    """
    foreign = [json.dumps({"headers": {"task": "fleet.detect", "id": f"foreign{number}"}}) for number in range(500)]
    redis.lpush(QUEUE, *foreign, "no message", b"\xff")
    for _ in range(50):
        client.submit(picture)

    assert [sweep_until_nothing(redis) for _ in range(2)] == [[], []]

    assert "cmdstat_lpos" not in redis.info("commandstats")
    assert redis.zcard(ledger.SUSPECTS_KEY) == 0


@pytest.mark.usefixtures("at_once")
def test_large_messages_are_looked_at_where_they_are(client: Client, redis: Redis, picture: bytes) -> None:
    """Given waiting messages of 100 MB in all, when the queue is swept, then they do not come into the worker."""
    for _ in range(10):
        redis.lpush(QUEUE, b"[" * 10_000_000)
    client.submit(picture)
    before = redis.info("stats")["total_net_output_bytes"]

    assert sweep_until_nothing(redis) == []

    assert redis.info("stats")["total_net_output_bytes"] - before < 1_000_000


def test_a_suspicion_that_proved_wrong_is_forgotten(client: Client, redis: Redis) -> None:
    """Given a suspect that was answered after all, then nothing of it is left a minute later."""
    redis.zadd(ledger.SUSPECTS_KEY, {"long ago": redis.time()[0] - ledger.SUSPECT_FOR_S - 1, "now": redis.time()[0]})

    ledger.Sweep(redis, [QUEUE]).run()

    assert redis.zrange(ledger.SUSPECTS_KEY, 0, -1) == [b"now"]


@pytest.mark.usefixtures("at_once")
def test_what_a_worker_holds_and_what_has_ended_is_not_sent_again(client: Client, redis: Redis, picture: bytes) -> None:
    """Given a job held by a worker and one with a result, then neither is sent, and the ended one is struck out."""
    held, ended = client.submit(picture), client.submit(picture)
    redis.delete(QUEUE)
    redis.zadd(ledger.UNACKED_INDEX_KEY, {held.id: 1.0})
    redis.set(f"celery-task-meta-{ended.id}", b"{}")

    assert sweep_until_nothing(redis) == []

    assert redis.zrange(ledger_key(QUEUE), 0, -1) == [held.id.encode()]
    assert redis.hkeys(JOBS_KEY) == [held.id.encode()]


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("jobs_in_all", [1, 4])
@pytest.mark.parametrize("broken", ["many", "0.5", "9" * 20, ""])
def test_books_that_somebody_broke_do_not_stop_the_sweep(
    client: Client, redis: Redis, picture: bytes, broken: str, jobs_in_all: int
) -> None:
    """Given a size that is no number, alone or among jobs that have ended, then all leave the books, it as well."""
    jobs = [client.submit(picture) for _ in range(jobs_in_all)]
    redis.delete(QUEUE)
    redis.hset(SIZES_KEY, jobs[0].id, broken)
    for job in jobs:
        redis.set(f"celery-task-meta-{job.id}", b"{}")

    assert sweep_until_nothing(redis) == []

    assert not redis.exists(JOBS_KEY, SIZES_KEY, ledger_key(QUEUE))


def test_a_worker_killed_between_pop_and_record_loses_nothing(
    own_server: str, client: Client, redis: Redis, picture: bytes, start_worker: StartWorker
) -> None:
    """Given a worker that dies after BRPOP and before it notes the message, then another answers the job."""
    doomed = start_worker(own_server, extra=["-I", "tests.integration.dies_at_pop"])
    job = client.submit(picture)
    eventually(lambda: doomed.poll() is not None, "the worker's death")
    assert doomed.returncode == -signal.SIGKILL
    assert redis.llen(QUEUE) == redis.hlen("unacked") == 0

    start_worker(own_server)

    assert job.result(timeout=15).model == "blazeface_short"
    eventually(lambda: redis.hlen(JOBS_KEY) == redis.zcard(ledger_key(QUEUE)) == 0, "the end of the ledger's entry")


def test_a_fleet_without_work_is_swept_with_one_command(
    own_server: str, client: Client, redis: Redis, picture: bytes
) -> None:
    """Given no job, or jobs that wait in turn, when they are swept, then Redis is asked once, and others not at all."""
    sweeper = Redis.from_url(own_server, single_connection_client=True)
    sweep, ours = ledger.Sweep(sweeper, [QUEUE, "fleet"]), sweeper.client_info()["addr"].rpartition(":")[2]
    for jobs in (0, 3):
        for _ in range(jobs):
            client.submit(picture)
        redis.delete(ledger.LOCK_KEY)
        sweep.run()  # so that Redis knows the script
        redis.delete(ledger.LOCK_KEY)
        with redis.monitor() as heard:
            assert sweep.run() == sweep.run() == []
            sweeper.echo("swept")
            until_echo = itertools.takewhile(lambda one: not one["command"].startswith("ECHO"), heard.listen())
            asked = [one["command"].split()[0] for one in until_echo if one["client_port"] == ours]
        assert asked == ["EVALSHA", "EVALSHA"]


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("queues", [[QUEUE, "zzz"], ["zzz", QUEUE]])
def test_a_list_that_is_none_keeps_no_other_from_being_swept(
    client: Client, redis: Redis, picture: bytes, queues: list[str]
) -> None:
    """Given a key of another kind where another queue's ledger should be, then a lost job is sent all the same."""
    client.submit(picture)
    waiting = redis.lrange(QUEUE, 0, -1)
    redis.delete(QUEUE)
    redis.set(ledger_key("zzz"), b"no sorted set")
    for _ in range(2):
        redis.delete(ledger.LOCK_KEY)
        ledger.Sweep(redis, queues).run()

    assert redis.lrange(QUEUE, 0, -1) == waiting


def test_without_the_sweep_that_job_would_be_lost(
    own_server: str, client: Client, redis: Redis, picture: bytes, start_worker: StartWorker
) -> None:
    """Given the same death, when the new worker does not sweep, then the job stays unanswered."""
    doomed = start_worker(own_server, extra=["-I", "tests.integration.dies_at_pop"])
    job = client.submit(picture)
    eventually(lambda: doomed.poll() is not None, "the worker's death")
    redis.set(ledger.LOCK_KEY, os.getpid())  # as if another worker swept, for ever

    start_worker(own_server)

    with pytest.raises(TimeoutError):
        job.result(timeout=10)


def test_many_jobs_leave_an_empty_ledger(
    own_server: str, client: Client, redis: Redis, picture: bytes, start_worker: StartWorker
) -> None:
    """Given good, bad, cancelled and expired jobs, when all have ended, then the ledger and the images are gone."""
    jobs = [client.submit(picture) for _ in range(50)] + [client.submit(b"no image" * 1000) for _ in range(10)]
    jobs += [client.submit(picture, deadline_s=0.01) for _ in range(10)]
    cancelled = [client.submit(picture) for _ in range(10)]
    for job in cancelled:
        job.cancel()
    start_worker(own_server)
    for job in jobs:
        job.error(timeout=30)
    eventually(lambda: redis.hlen(JOBS_KEY) == redis.zcard(ledger_key(QUEUE)) == 0, "the end of all entries")
