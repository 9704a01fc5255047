"""The asyncio client: the same promises, and a loop that is never blocked."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
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
    intake,
)
from producer.requests import blob_key
from producer.wire import MODELS_KEY
from tests.integration.producer.standin import LARGE, PICTURE, StandIn, answer_all, connections, make_result, store
from tests.integration.producer.test_map import echo, numbered
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


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("batch", [1, 4])
def test_map_answers_every_image_of_plain_and_asynchronous_iterables(url: str, ordered: bool, batch: int) -> None:
    """Given 30 images, a bad one among them, then each has its own answer."""
    images: list[Any] = numbered(30)
    images[3] = "/no/such.jpg"

    async def later() -> AsyncIterator[Any]:
        for image in images:
            await asyncio.sleep(0)
            yield image

    async def main() -> None:
        async with AsyncClient(url) as client:
            for source in (images, later()):
                answers = [one async for one in client.map(source, window=8, ordered=ordered, batch=batch)]
                assert sorted(one.index for one in answers) == list(range(30))
                assert not ordered or [one.index for one in answers] == list(range(30))
                for one in answers:
                    if one.index == 3:
                        assert isinstance(one.error, InvalidImage)
                    else:
                        assert one.result
                        assert one.result.width == one.index

    with StandIn(url, echo):
        asyncio.run(main())


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize("image", [PICTURE, LARGE])
def test_a_few_messages_of_map_go_in_one_round_trip(url: str, image: bytes) -> None:
    """Given a list and an asynchronous source, then a few jobs are offered at a time, each a message of its own."""
    offered: list[int] = []

    async def source() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield image

    async def main() -> None:
        async with AsyncClient(url) as client:
            await client.detect(image)  # a server that does not know the script yet is asked twice
            port = client._link._port
            ask = port._ask

            async def noted(commands: Any, *, atomic: bool) -> Any:
                scripts = [command for command in commands if command[0] in ("EVAL", "EVALSHA")]
                offered.extend(sum(isinstance(word, bytes) for word in script) for script in scripts)
                return await ask(commands, atomic=atomic)

            port._ask = noted
            for images in ([image] * 40, source()):
                answers = [one async for one in client.map(images, window=40)]
                assert [answer.result is not None for answer in answers] == [True] * 40

    with StandIn(url, answer_all) as worker:
        asyncio.run(main())
    assert offered == [intake.FEW] * (80 // intake.FEW)
    assert len({headers["id"] for headers, _, _ in worker.seen}) == len(worker.seen) == 81


def test_an_image_of_a_slow_source_is_sent_before_the_next_is_asked_for(
    url: str, worker: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a camera that gives its next picture once the last has reached a worker, then it can go on for ever."""

    async def camera() -> AsyncIterator[bytes]:
        for number in range(30):
            await until(lambda number=number: len(worker.seen) == number)
            yield PICTURE

    async def main() -> None:
        async with AsyncClient(url) as client:
            assert len([one async for one in client.map(camera(), window=64)]) == 30

    monkeypatch.setattr(intake, "AT_ONCE_S", 0.0)  # however fast this machine is
    asyncio.run(main())


def test_a_source_that_gives_up_its_own_waiting_goes_on(url: str, worker: StandIn) -> None:
    """Given a source that cancels its task to end a wait, as code before Python 3.11 does, then it and map go on."""

    async def impatient() -> AsyncIterator[bytes]:
        yield PICTURE
        asyncio.current_task().cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        yield PICTURE

    async def main() -> list[int]:
        async with AsyncClient(url) as client:
            return [one.index async for one in client.map(impatient()) if one.result]

    assert asyncio.run(main()) == [0, 1]


@pytest.mark.usefixtures("together")
def test_of_a_few_that_find_no_room_each_is_refused_by_itself(url: str, redis: Redis) -> None:
    """Given room for three of eight, then five are refused, and the three stay."""

    async def main() -> None:
        async with AsyncClient(url, max_backlog=3, when_full="refuse") as client:
            answers = client.map([LARGE] * 8, ordered=False)
            assert [(await anext(answers)).index for _ in range(5)] == [3, 4, 5, 6, 7]
            assert redis.llen("detect.centerface") == len(redis.keys("fleet:blob:*")) == 3
            await answers.aclose()

    asyncio.run(main())


@pytest.mark.usefixtures("together")
def test_a_cancel_just_after_jobs_of_map_arrived_leaves_no_orphan(url: str, redis: Redis) -> None:
    """Given a cancel when the transaction of four has arrived, then all four are withdrawn."""

    async def main() -> None:
        async with AsyncClient(url) as client:
            await client.models()
            port = client._link._port
            ask = port._ask

            async def cancelled(commands: Any, *, atomic: bool) -> Any:
                replies = await ask(commands, atomic=atomic)
                if atomic:
                    raise asyncio.CancelledError
                return replies

            port._ask = cancelled
            with pytest.raises(asyncio.CancelledError):
                await anext(client.map([LARGE] * 4))

    asyncio.run(main())
    assert [redis.get(key) for key in redis.keys("fleet:blob:*")] == [blobs.CANCELLED] * 4


def test_leaving_map_early_cancels_what_is_under_way(url: str, redis: Redis) -> None:
    """Given no worker for the rest, when the loop ends at the first answer, then images under way are withdrawn."""

    async def main() -> None:
        async with (
            AsyncClient(url) as client,
            contextlib.aclosing(client.map(["/no/such.jpg", LARGE, LARGE], window=8)) as answers,
        ):
            assert (await anext(answers)).index == 0
        keys = redis.keys("fleet:blob:*")
        assert all(redis.get(key) == blobs.CANCELLED for key in keys)

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
