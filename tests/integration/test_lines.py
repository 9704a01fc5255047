"""A thread's own connection: replies stay with their commands, whatever happens to the connection or to the thread."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from worker.bodies import Interrupted
from worker.detector import connect
from worker.lines import LOOK_AFTER_S, Lines

NAME = ("CLIENT", "ID")


@pytest.fixture
def lines(own_server: str) -> Iterator[Lines]:
    """Connections to this test's own server, as decode threads have them."""
    made = Lines(connect(own_server, connections=2))
    yield made
    made.close()


def kill_all(redis: Redis) -> None:
    """Have the server close every other connection."""
    redis.client_kill_filter(skipme=True)


def test_replies_come_in_order_and_a_refusal_is_one(lines: Lines) -> None:
    """Given several commands of which one is refused, then the others have their replies all the same."""
    first, refused, last = lines.ask(("LPUSH", "list", "one"), ("GET", "list"), ("LRANGE", "list", 0, -1))
    assert (first, last) == (1, [b"one"])
    assert isinstance(refused, ResponseError)


def test_a_large_reply_comes_whole(lines: Lines, redis: Redis) -> None:
    """Given far more bytes than are read at once, then all of them come."""
    data = os.urandom(5_000_000)
    redis.set("image", data)
    assert lines.ask(("INCR", "count"), ("GETRANGE", "image", 0, 2**25)) == [1, data]


def test_each_thread_keeps_one_connection(lines: Lines) -> None:
    """Given threads that ask again and again, then each does so over a connection of its own."""
    both = threading.Barrier(2)

    def ask(_: int) -> set[int]:
        both.wait(10)
        return {lines.ask(NAME)[0] for _ in range(5)}

    with ThreadPoolExecutor(2) as threads:
        one, other = threads.map(ask, range(2))
    assert len(one) == len(other) == 1
    assert one != other


def test_the_system_keeps_the_time_limit(lines: Lines) -> None:
    """Given a plain connection, then Python asks before no call whether the socket is ready."""
    lines.ask(NAME)
    assert lines._connection()._sock.gettimeout() is None


def test_a_connection_that_was_closed_while_idle_is_made_anew(
    lines: Lines, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a connection that the server has closed meanwhile, then nobody notices."""
    monkeypatch.setattr("worker.lines.LOOK_AFTER_S", 0.0)
    lines.ask(("SET", "it", "here"))
    kill_all(redis)
    assert lines.ask(("GET", "it")) == [b"here"]


def test_a_connection_that_is_lost_is_an_error_once(lines: Lines, redis: Redis) -> None:
    """Given a connection in use that the server closes, then the asker hears of it, and the next has a new one."""
    assert LOOK_AFTER_S > 0
    lines.ask(NAME)
    lines._mine.line.used_at = float("inf")  # just now, however slow this machine is
    kill_all(redis)
    with pytest.raises(RedisConnectionError):
        lines.ask(NAME)
    assert lines.ask(("PING",)) == [b"PONG"]


def test_a_silent_server_is_waited_for_so_long_and_no_longer(own_server: str, redis: Redis) -> None:
    """Given a server that stands still, then a timeout; and no other connection is trusted afterwards."""
    lines = Lines(connect(own_server, connections=2))
    with ThreadPoolExecutor(1) as another:
        before = another.submit(lines.ask, NAME).result()
        pid = int(redis.info("server")["process_id"])
        lines.ask(NAME)
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(RedisTimeoutError):
                lines.ask(("PING",))
        finally:
            os.kill(pid, signal.SIGCONT)
        assert lines.ask(("PING",)) == [b"PONG"]
        assert another.submit(lines.ask, NAME).result() != before
    lines.close()


def test_a_job_that_is_interrupted_leaves_no_reply_behind(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given an exception from outside between command and reply, then the next asker gets its own reply."""
    lines.ask(("SET", "it", "here"))
    connection = lines._connection()
    with monkeypatch.context() as patch:
        patch.setattr(connection, "read_response", _interrupted)
        with pytest.raises(Interrupted):
            lines.ask(("GET", "it"))
    assert lines.ask(("PING",)) == [b"PONG"]


def test_what_must_be_written_is_written_to_a_full_server(lines: Lines, redis: Redis) -> None:
    """Given no memory left, then a command alone is refused, and those that must be done are, each once."""
    redis.set("ballast", b"x" * 2_000_000)
    redis.config_set("maxmemory", 1_000_000)
    (refused,) = lines.ask(("INCR", "count"))
    assert "OOM" in str(refused) or "memory" in str(refused)
    lines.write(("INCR", "count"), ("HSET", "held", "tag", "message"))
    assert redis.get("count") == b"1"
    assert redis.hgetall("held") == {b"tag": b"message"}


def test_what_is_refused_for_another_reason_is_an_error(lines: Lines, redis: Redis) -> None:
    """Given a key of another kind, then the writer hears of it; one bad command keeps all from being done."""
    redis.set("held", "a text")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        lines.write(("HSET", "held", "tag", "message"))
    with pytest.raises(ResponseError):
        lines.write(("INCR", "count"), ("NO-SUCH-COMMAND",))
    assert not redis.exists("count")


def _interrupted() -> None:
    raise Interrupted
