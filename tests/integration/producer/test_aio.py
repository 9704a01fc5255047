"""The asyncio client: the same promises, and a loop that is never blocked."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from producer import (
    AsyncClient,
    Cancelled,
    DeadlineExceeded,
    InvalidImage,
    Overloaded,
    UnknownModel,
    Unreachable,
    blobs,
)
from producer.requests import blob_key
from producer.wire import MODELS_KEY
from tests.integration.producer.standin import LARGE, PICTURE, StandIn, answer_all, connections, make_result, store
from tests.integration.producer.test_results_arrive import publish


async def until(condition: Any) -> None:
    """Wait for another party without blocking the loop."""
    async with asyncio.timeout(10):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - the other party gives no event
            await asyncio.sleep(0.01)


def test_detect_submit_batch_and_pick_up(url: str, worker: StandIn, tmp_path: Path) -> None:
    """Given a worker, then each way of asking gives its results."""
    (tmp_path / "photo.jpg").write_bytes(LARGE)

    async def main() -> None:
        async with AsyncClient(url) as client:
            assert (await client.detect(tmp_path / "photo.jpg")).width == 640
            job = await client.submit(PICTURE, priority=9)
            assert (await job.result(10)).width == 640
            assert job.done()
            assert await job.error() is None
            assert not await job.cancel()
            batch = await client.submit_many([PICTURE, LARGE])
            assert [item.width for item in await batch.result(10)] == [100, 101]
            assert (await (await client.job(job.id)).result()).width == 640
            with pytest.raises(InvalidImage):
                await client.submit("/no/such.jpg")

    asyncio.run(main())


def test_cancelling_in_each_state(url: str, redis: Redis) -> None:
    """Given a job that waits, one that ended, and one whose waiting task is cancelled, then each ends as it should."""

    async def main() -> None:
        async with AsyncClient(url) as client:
            job = await client.submit(LARGE)
            assert await job.cancel()
            with pytest.raises(Cancelled):
                await job.result()
            with pytest.raises(Cancelled):
                blobs.get(redis, blob_key(job.id))
            ended = await client.submit(LARGE)
            await asyncio.to_thread(store, url, ended.id, make_result().to_json())
            assert not await ended.cancel()
            before = set(redis.keys("fleet:blob:*"))
            task = asyncio.create_task(client.detect(LARGE))
            await until(lambda: set(redis.keys("fleet:blob:*")) - before)
            (key,) = set(redis.keys("fleet:blob:*")) - before
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(lambda: redis.get(key) == blobs.CANCELLED)

    asyncio.run(main())


def test_giving_up_waiting_leaves_the_job_alone(url: str) -> None:
    """Given two tasks that wait, when one times out, then the other still gets the result."""

    async def main() -> None:
        async with AsyncClient(url) as client:
            job = await client.submit(PICTURE)
            other = asyncio.create_task(job.result(10))
            with pytest.raises(TimeoutError):
                await job.result(0.05)
            await asyncio.to_thread(store, url, job.id, make_result().to_json())
            assert (await other).width == 640

    asyncio.run(main())


def test_deadline_model_backlog_and_absence_have_their_errors(url: str, redis: Redis) -> None:
    """Given each trouble, then the same typed error as in the other client."""

    async def main() -> None:
        async with AsyncClient(url, max_backlog=1, when_full="refuse") as client:
            job = await client.submit(PICTURE, deadline_s=0.1)
            with pytest.raises(Overloaded):
                await client.submit(PICTURE)
            with pytest.raises(DeadlineExceeded):
                await job.result()
            redis.hset(MODELS_KEY, "centerface", "{}")
            assert await client.models() == {"centerface": {}}
            with pytest.raises(UnknownModel):
                await client.submit(PICTURE, model="yolo")
        async with AsyncClient("redis://127.0.0.1:1/0") as absent:
            with pytest.raises(Unreachable):
                await absent.submit(PICTURE)

    asyncio.run(main())


def test_a_thousand_tasks_share_few_connections_and_one_subscription(url: str, redis: Redis) -> None:
    """Given 1,000 tasks that detect at once, then all are answered over at most 32 connections."""

    async def main() -> None:
        async with AsyncClient(url) as client:
            tasks = [asyncio.create_task(client.detect(PICTURE)) for _ in range(1000)]
            await until(lambda: redis.llen("detect.centerface") == 1000)
            assert len(connections(redis)) <= 32
            assert redis.pubsub_numpat() == 1
            with StandIn(url, answer_all):
                results = await asyncio.gather(*tasks)
            assert all(result.width == 640 for result in results)

    asyncio.run(main())


def test_a_killed_connection_comes_back(url: str, redis: Redis) -> None:
    """Given the pub/sub connection is killed, then results stored meanwhile still arrive."""

    async def main() -> None:
        async with AsyncClient(url) as client:
            job = await client.submit(PICTURE)
            await until(lambda: redis.pubsub_numpat() == 1)
            redis.client_kill_filter(_type="pubsub")
            publish(redis, [job.id])
            assert (await job.result(10)).width == 640

    asyncio.run(main())


def test_the_loop_is_never_blocked(url: str, worker: StandIn, tmp_path: Path) -> None:
    """Given 300 files through map, then a task beside it never waits long for its turn."""
    (tmp_path / "photo.jpg").write_bytes(LARGE * 10)
    gaps: list[float] = []

    async def watch() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.002)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    async def main() -> None:
        async with AsyncClient(url) as client:
            watcher = asyncio.create_task(watch())
            count = 0
            async for one in client.map([tmp_path / "photo.jpg"] * 300):
                count += one.result is not None
            watcher.cancel()
            assert count == 300

    asyncio.run(main())
    assert sorted(gaps)[len(gaps) // 2] < 0.05
    assert max(gaps) < 1.0


def test_a_closed_client_lets_nobody_hang(url: str) -> None:
    """Given a task that waits, when the client closes, then the wait ends."""

    async def main() -> None:
        client = AsyncClient(url)
        job = await client.submit(PICTURE)
        waiter = asyncio.create_task(job.error())
        await asyncio.sleep(0)
        await client.close()
        assert isinstance(await waiter, Unreachable)
        with pytest.raises(RuntimeError, match="closed"):
            await client.submit(PICTURE)

    asyncio.run(main())


def test_a_cancel_is_heard_wherever_it_meets_a_detect(url: str) -> None:
    """Given a task that detects, when it is cancelled after any number of turns of the loop, then it ends."""

    async def main() -> None:
        for turns in range(80):
            async with AsyncClient(url) as client:
                task = asyncio.create_task(client.detect(LARGE))
                for _ in range(turns % 40):
                    await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asyncio.wait_for(task, 10)

    asyncio.run(main())
