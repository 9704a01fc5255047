"""The asyncio client's ``map``: every image has its answer, and leaving early leaves no orphan."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis import Redis

from producer import (
    AsyncClient,
    InvalidImage,
    blobs,
    intake,
)
from tests.integration.producer.standin import LARGE, PICTURE, StandIn, answer_all
from tests.integration.producer.test_aio import until
from tests.integration.producer.test_map import echo, numbered


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
