"""A job that is submitted again under the same key is the same job."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from producer import AsyncClient, Client, InvalidRequest, Overloaded
from producer.books import COUNTERS_KEY
from producer.results import meta_key
from producer.scripts import Command
from producer.wire import JOBS_KEY
from tests.integration.producer.standin import LARGE, PICTURE, StandIn, answer_all, make_result, store
from tests.waiting import eventually


def duplicates(redis: Redis) -> int:
    """Return how many repeated submits were counted."""
    return int(redis.hget(COUNTERS_KEY, "duplicates") or 0)


def test_the_same_key_is_the_same_job(client: Client, url: str, redis: Redis) -> None:
    """Given a job that waits, when it is submitted again here and elsewhere, then one message, one answer."""
    first = client.submit(LARGE, idempotency_key="photo 1")
    with Client(url) as other:
        again = [client.submit(LARGE, idempotency_key="photo 1"), other.submit(LARGE, idempotency_key="photo 1")]
        assert {job.id for job in again} == {first.id}
        assert redis.llen("detect.centerface") == len(redis.keys("fleet:blob:*")) == 1
        with StandIn(url, answer_all) as worker:
            assert [job.result(10).width for job in (first, *again)] == [640] * 3
            assert len(worker.seen) == 1
    assert duplicates(redis) == 2


def test_another_process_gets_the_same_job(client: Client, url: str) -> None:
    """Given a process that submitted and died, when another submits with its key, then it gets that job's id."""
    code = "import sys, producer; print(producer.Client(sys.argv[1]).submit(b'x' * 9000, idempotency_key='k').id)"
    done = subprocess.run([sys.executable, "-c", code, url], capture_output=True, text=True, check=True, timeout=60)
    assert client.submit(b"x" * 9000, idempotency_key="k").id == done.stdout.strip()


def test_a_job_that_has_ended_gives_its_result_again(client: Client, url: str, redis: Redis) -> None:
    """Given an answer that was read, by result, detect or id, when the job is submitted again, then the same answer."""
    with StandIn(url, answer_all) as worker:
        result = client.detect(PICTURE, idempotency_key="k")
        for _ in range(2):
            with Client(url) as other:
                job = other.submit(PICTURE, idempotency_key="k")
                assert job.result(10) == result
                assert other.detect(PICTURE, idempotency_key="k") == other.job(job.id).result(10) == result
        assert len(worker.seen) == 1
    client.close()
    assert redis.ttl(meta_key(job.id)) > 600


def test_an_error_is_an_answer_too(client: Client, url: str) -> None:
    """Given a job that failed, when it is submitted again, then the same error, and nothing is sent."""
    job = client.submit(PICTURE, idempotency_key="k")
    store(url, job.id, Overloaded("as it happened"), "FAILURE")
    with pytest.raises(Overloaded, match="as it happened"):
        client.detect(PICTURE, idempotency_key="k")


def test_a_batch_has_one_key(client: Client, url: str, worker: StandIn) -> None:
    """Given a batch, when it is submitted again, then the same answers."""
    batch = client.submit_many([PICTURE, LARGE], idempotency_key="k")
    again = client.submit_many([PICTURE, LARGE], idempotency_key="k")
    assert batch.id == again.id
    assert batch.result(10) == again.result(10)


def test_a_key_names_one_request_of_one_model(client: Client, redis: Redis) -> None:
    """Given a key in use, then another image or option is refused, and another model's job is another job."""
    job = client.submit(LARGE, idempotency_key="k")
    with pytest.raises(InvalidRequest, match="another image"):
        client.submit(LARGE + b"!", idempotency_key="k")
    with pytest.raises(InvalidRequest, match="another image"):
        client.submit(LARGE, idempotency_key="k", min_score=0.9)
    assert client.submit(LARGE, idempotency_key="k", model="other").id != job.id
    assert client.submit(LARGE, idempotency_key="l").id != job.id
    assert len(redis.keys("fleet:blob:*")) == 3


def test_a_key_is_forgotten_when_nobody_can_be_answered(client: Client, redis: Redis) -> None:
    """Given a job that has ended and whose result is gone, then its key starts a new job; and it has a time to live."""
    job = client.submit(PICTURE, idempotency_key="k", deadline_s=60)
    assert 3600 < redis.ttl("fleet:once:detect.centerface:k") <= 3660
    redis.hdel(JOBS_KEY, job.id)
    assert client.submit(PICTURE, idempotency_key="k").id != job.id
    assert duplicates(redis) == 0


def test_many_at_once_are_one_job(url: str, redis: Redis) -> None:
    """Given eight clients that submit with one key at the same moment, then one job."""
    ids, ready = [], threading.Barrier(8)

    def submit() -> None:
        with Client(url) as client:
            client.models()
            ready.wait(10)
            ids.append(client.submit(LARGE, idempotency_key="k").id)

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(ids) == 8
    assert len(set(ids)) == redis.llen("detect.centerface") == len(redis.keys("fleet:blob:*")) == 1
    assert duplicates(redis) == 7


def test_a_known_job_is_found_in_a_full_queue(url: str) -> None:
    """Given a queue that is full, then a job that is in it already is not refused, though others are."""
    with Client(url, max_backlog=1, when_full="refuse") as client:
        job = client.submit(LARGE, idempotency_key="k")
        with pytest.raises(Overloaded):
            client.submit(LARGE, idempotency_key="l")
        assert client.submit(LARGE, idempotency_key="k").id == job.id


@pytest.mark.parametrize("arrived", [True, False])
def test_a_submit_that_became_unreachable_can_be_repeated(client: Client, redis: Redis, arrived: bool) -> None:
    """Given Unreachable after the job had arrived, or not, when it is submitted again, then there is one job."""
    client.models()
    port = client._current._port
    real = port._ask

    def lost(commands: Sequence[Command], *, atomic: bool) -> Any:
        if arrived:
            real(commands, atomic=atomic)
        raise RedisConnectionError("lost")

    port._ask = lost
    with pytest.raises(Exception, match="does not answer"):
        client.submit(LARGE, idempotency_key="k")
    port._ask = real
    job = client.submit(LARGE, idempotency_key="k")
    assert redis.llen("detect.centerface") == 1
    store_url = redis.connection_pool.connection_kwargs
    store(f"redis://{store_url['host']}:{store_url['port']}/0", job.id, make_result().to_json())
    assert job.result(10).width == 640


def test_asyncio_has_it_too_and_giving_up_waiting_cancels_nothing(url: str, redis: Redis) -> None:
    """Given a detect that ran into a timeout, when it is asked again with its key, then the first job's answer."""

    async def main() -> None:
        async with AsyncClient(url) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await client.detect(LARGE, idempotency_key="k")
            jobs = await asyncio.gather(*(client.submit(LARGE, idempotency_key="k") for _ in range(5)))
            assert len({job.id for job in jobs}) == redis.llen("detect.centerface") == 1
            with StandIn(url, answer_all):
                assert (await client.detect(LARGE, idempotency_key="k")).width == 640
                assert [(await job.result(10)).width for job in jobs] == [640] * 5

    asyncio.run(main())
    assert duplicates(redis) == 6


def test_map_has_no_use_for_one_key(client: Client) -> None:
    """Given map, then a key is refused: it names one job."""
    with pytest.raises(InvalidRequest, match="one job"):
        client.map([PICTURE], idempotency_key="k")


def test_an_answer_that_comes_while_the_job_is_submitted_again_is_heard(client: Client, url: str) -> None:
    """Given a worker that answers at once, when a job is submitted again and again, then nobody waits in vain."""
    with StandIn(url, answer_all):
        for number in range(30):
            jobs = [client.submit(PICTURE, idempotency_key=f"k{number}") for _ in range(3)]
            assert [job.result(4).width for job in jobs] == [640] * 3
    eventually(lambda: len(client._current.waiting) == 0)
