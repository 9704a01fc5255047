"""Several commands asked in one round trip, of a real server, with threads and with asyncio."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import NoScriptError, RedisError, ResponseError

from producer import AsyncClient, Client
from producer.steps import Ask

Port = Callable[[Ask], Any]


@pytest.fixture(params=["threads", "asyncio"])
def port(request: pytest.FixtureRequest, url: str) -> Iterator[Port]:
    """Give what does what a conversation asks for, of either client."""
    if request.param == "threads":
        with Client(url) as client:
            yield client._current._port
        return
    with asyncio.Runner() as runner:

        async def ask(ask: Ask) -> Any:
            async with AsyncClient(url) as client:
                return await client._link._port(ask)

        yield lambda question: runner.run(ask(question))


def test_answers_come_in_order_and_are_read(port: Port) -> None:
    """Given a transaction and plain questions, then each has its answer, as redis-py gives it."""
    assert port(Ask((("INCR", "count"), ("GET", "count")), atomic=True)) == [1, b"1"]
    echoed, (seconds, microseconds) = port(Ask((("ECHO", "x"), ("TIME",))))
    assert echoed == b"x"
    assert seconds > 1_600_000_000
    assert 0 <= microseconds < 1_000_000


@pytest.mark.parametrize(
    ("refused", "error"),
    [
        (("LPUSH", "count", "x"), ResponseError),
        (("NO-SUCH-COMMAND",), RedisError),
        (("EVALSHA", "0" * 40, 0), NoScriptError),
    ],
    ids=["wrong type", "unknown", "unknown script"],
)
@pytest.mark.parametrize("atomic", [True, False])
def test_a_refusal_is_raised(
    port: Port, redis: Redis, refused: tuple[Any, ...], error: type[Exception], atomic: bool
) -> None:
    """Given a command that is refused, then that is raised, and the connection goes on."""
    redis.set("count", 1)
    with pytest.raises(error):
        port(Ask((("INCR", "count"), refused), atomic=atomic))
    assert port(Ask((("GET", "count"),))) in ([b"1"], [b"2"])
