"""Several things asked in one round trip, of a real server, with threads and with asyncio."""

import asyncio
from typing import Any

from redis import Redis
from redis.exceptions import NoScriptError, ResponseError

from producer import AsyncClient, Client
from producer.steps import Ask, AskEach

#: A transaction, a command that is refused, a transaction of which one is unknown, one whose script is, and a question.
ASKS = AskEach(
    (
        Ask((("INCR", "count"), ("GET", "count")), atomic=True),
        Ask((("LPUSH", "count", "x"),)),
        Ask((("INCR", "count"), ("NO-SUCH-COMMAND",)), atomic=True),
        Ask((("INCR", "count"), ("EVALSHA", "0" * 40, 0)), atomic=True),
        Ask((("GET", "count"), ("ECHO", "x"))),
    )
)


def check(replies: list[Any], redis: Redis) -> None:
    """See that what was refused is an error in its place, and all else was done."""
    assert [replies[0], replies[4]] == [[1, b"1"], [b"2", b"x"]]
    assert [type(reply) for reply in replies[1:4]] == [ResponseError, ResponseError, NoScriptError]
    assert "WRONGTYPE" in str(replies[1])
    assert redis.get("count") == b"2"


def test_each_of_several_has_its_own_answer(client: Client, redis: Redis) -> None:
    """Given some that are refused among others, then the others have their answers."""
    check(client._current._port(ASKS), redis)


def test_asyncio_gives_the_same_answers(url: str, redis: Redis) -> None:
    """Given the same, then the same."""

    async def main() -> list[Any]:
        async with AsyncClient(url) as client:
            return list(await client._link._port(ASKS))

    check(asyncio.run(main()), redis)
