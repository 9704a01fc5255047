"""What a worker has to write is written when memory is full; what a client wants to write is not."""

from collections.abc import Iterator

import pytest
from redis import BlockingConnectionPool, Redis
from redis.exceptions import OutOfMemoryError, ResponseError

from worker.insist import InsistentRedis


@pytest.fixture
def insistent(own_server: str, redis: Redis) -> Iterator[InsistentRedis]:
    """An insistent client of a server that is full."""
    redis.set("ballast", b"x" * 2_000_000)
    redis.config_set("maxmemory", 1_000_000)
    with InsistentRedis.from_pool(BlockingConnectionPool.from_url(own_server)) as made:
        yield made


def test_an_ordinary_client_is_refused(insistent: InsistentRedis, redis: Redis) -> None:
    """Given a full server, then a write is refused."""
    with pytest.raises(OutOfMemoryError):
        redis.set("one", b"1")


def test_one_command_is_done(insistent: InsistentRedis, redis: Redis) -> None:
    """Given a full server, then a command that writes is done, whatever bytes it carries."""
    data = bytes(range(256))
    assert insistent.set("one", data, ex=60)
    assert redis.get("one") == data
    assert insistent.zadd("held", {"job": 1.5}) == 1
    assert insistent.zadd("held", {"other": 1.5}, xx=True) == 0


def test_a_transaction_is_done_as_a_whole(insistent: InsistentRedis, redis: Redis) -> None:
    """Given a full server, then all commands of a transaction are done, each once, and their replies come in order."""
    with insistent.pipeline() as pipe:
        pipe.incr("count")
        pipe.hget("nothing", "there")
        pipe.expire("count", 60)
        assert pipe.execute() == [1, None, 1]
    assert redis.get("count") == b"1"


def test_a_lock_is_taken_once(insistent: InsistentRedis) -> None:
    """Given a full server, then a lock is taken, and not by a second."""
    assert insistent.set("lock", b"1", nx=True, px=10_000)
    assert not insistent.set("lock", b"1", nx=True, px=10_000)


def test_what_watched_keys_is_refused(insistent: InsistentRedis) -> None:
    """Given a transaction that depends on keys which may have changed, then it is not done behind its back."""
    with insistent.pipeline() as pipe:
        pipe.watch("ballast")
        pipe.multi()
        pipe.set("two", b"2")
        with pytest.raises(ResponseError):
            pipe.execute()
    assert insistent.get("two") is None
