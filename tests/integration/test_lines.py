"""A thread's own connection: replies stay with their commands, whatever happens to the connection or to the thread."""

import gc
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from celery import Celery
from redis import Redis
from redis.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from producer.lines import LARGE_BYTES
from worker.bodies import Interrupted
from worker.detector import connect
from worker.ending import JobEnd
from worker.lines import Lines
from worker.results import Results

ID = ("CLIENT", "ID")


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


def test_lines_in_a_ring_leave_no_open_socket(own_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given lines in a ring of references, when the collector finds them, then they are disconnected first.

    redis-py would do so as well, where the collector happens to ask the connection before its socket.
    """
    gc.collect()  # what earlier tests left has its own way of closing
    monkeypatch.delattr(AbstractConnection, "__del__")
    made = Lines(connect(own_server, connections=2))
    made.ask(ID)
    ring: list[object] = [made]
    ring.append(ring)
    ends = weakref.ref(made)
    del made, ring
    gc.collect()  # a socket that was open is an error of this test
    assert ends() is None


def test_a_large_reply_comes_whole(lines: Lines, redis: Redis) -> None:
    """Given far more bytes than are read at once, then all of them come."""
    data = os.urandom(5_000_000)
    redis.set("image", data)
    assert lines.ask(("INCR", "count"), ("GETRANGE", "image", 0, 2**25)) == [1, data]


@pytest.mark.parametrize("size", [0, 1, LARGE_BYTES - 1, LARGE_BYTES, 5_000_000])
def test_any_bytes_arrive_as_they_are(lines: Lines, redis: Redis, size: int) -> None:
    """Given values of any size among other words, then each arrives whole, and so do the others."""
    data = os.urandom(size)
    commands = [("SET", "one", data, "PX", 60_000), ("SET", "zwölf", "größer"), ("HSET", "h", "a", data, "b", 1.5)]
    assert lines.ask(*commands) == [b"OK", b"OK", 2]
    assert redis.mget("one", "zwölf") == [data, "größer".encode()]
    assert redis.hgetall("h") == {b"a": data, b"b": b"1.5"}


#: Packs commands for as long as is left of two seconds, and is interrupted every few thousandths of one.
PACKS = """
import signal, time
from producer.lines import _Line

class Struck(Exception): pass

inside = False

def strike(*_):
    global inside
    if inside:
        inside = False  # one that follows at once finds the program outside
        raise Struck

signal.signal(signal.SIGALRM, strike)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
until, struck = time.monotonic() + 2, 0
while time.monotonic() < until:
    try:
        inside = True
        while time.monotonic() < until:
            _Line._packed([("SET", "key", b"value", "PX", 3_600_000, 0.5, 3)])
        inside = False
    except Struck:
        struck += 1
signal.setitimer(signal.ITIMER_REAL, 0)
print(struck)
"""


def test_an_interrupt_while_a_command_is_written_is_an_exception_and_no_crash() -> None:
    """Given a program that is interrupted while it packs numbers, then it catches that, again and again."""
    done = subprocess.run([sys.executable, "-c", PACKS], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10


def test_more_large_values_than_a_system_call_takes(lines: Lines, redis: Redis) -> None:
    """Given a thousand large values, then all are sent."""
    images = [bytes([number % 256]) * LARGE_BYTES for number in range(1_000)]
    words = [word for number, data in enumerate(images) for word in (f"image:{number}", data)]
    assert lines.ask(("MSET", *words)) == [b"OK"]
    assert redis.mget(words[::2]) == images


def test_those_who_ask_at_once_have_a_connection_each_and_others_share(lines: Lines) -> None:
    """Given threads that ask at once, then there are as many connections; one after another uses one."""
    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(lambda _: lines.ask(("BLPOP", "none", 0.2))[0], range(4))) == {None}
    assert len(lines._all) == 4
    assert len({lines.ask(ID)[0] for _ in range(10)}) == 1


def test_who_finds_no_connection_free_waits_for_one(own_server: str) -> None:
    """Given one connection for all, then each of many threads gets its own replies over it."""
    lines = Lines(connect(own_server, connections=2), most=1)
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda n: lines.ask(("ECHO", str(n)))[0], range(200))) == [
            str(n).encode() for n in range(200)
        ]
        assert len(lines._all) == 1
    lines.close()


def test_commands_that_are_one_are_done_or_none_is(lines: Lines, redis: Redis) -> None:
    """Given a transaction, then its commands have their replies; with one that Redis does not know, none is done."""
    assert lines.ask(("INCR", "count"), ("GET", "count"), atomic=True) == [1, b"1"]
    with pytest.raises(ResponseError):
        lines.ask(("INCR", "count"), ("NO-SUCH-COMMAND",), atomic=True)
    assert redis.get("count") == b"1"


def test_where_redis_py_is_traced_it_does_the_asking(lines: Lines, request: pytest.FixtureRequest) -> None:
    """Given redis-py as OpenTelemetry leaves it, then it sees all commands, and replies are the same."""
    commands = [("SET", "it", "here"), ("LPUSH", "it", 1), ("TIME",), ("GET", "it")]
    plain = lines.ask(*commands)
    traced = request.getfixturevalue("traced_pipelines")
    through = lines.ask(*commands)
    assert [type(one) for one in through] == [type(one) for one in plain]
    assert (through[0], through[3]) == (plain[0], plain[3])
    assert lines.ask(("INCR", "count"), ("GET", "count"), atomic=True) == [1, b"1"]
    assert traced == [["SET", "LPUSH", "TIME", "GET"], ["INCR", "GET"]]


def test_the_system_keeps_the_time_limit(lines: Lines) -> None:
    """Given a plain connection, then Python asks before no call whether the socket is ready."""
    lines.ask(ID)
    assert lines._free[-1].connection._sock.gettimeout() is None


def test_a_connection_that_was_closed_while_idle_is_made_anew(
    lines: Lines, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a connection that the server has closed meanwhile, then nobody notices."""
    monkeypatch.setattr("producer.lines.LOOK_AFTER_S", 0.0)
    lines.ask(("SET", "it", "here"))
    kill_all(redis)
    assert lines.ask(("GET", "it")) == [b"here"]


def test_a_connection_that_is_lost_is_an_error_once(lines: Lines, redis: Redis) -> None:
    """Given a connection in use that the server closes, then the asker hears of it, and the next has a new one."""
    lines.ask(ID)
    lines._free[-1].used_at = float("inf")  # just now, however slow this machine is
    kill_all(redis)
    with pytest.raises(RedisConnectionError):
        lines.ask(ID)
    assert lines.ask(("PING",)) == [b"PONG"]


def test_a_silent_server_is_waited_for_so_long_and_no_longer(own_server: str, redis: Redis) -> None:
    """Given a server that stands still, then a timeout; and no other connection is trusted afterwards."""
    lines = Lines(connect(own_server, connections=2))
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda _: lines.ask(("BLPOP", "none", 0.2)), range(2)))
        before = set(lines._free)
        pid = int(redis.info("server")["process_id"])
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(RedisTimeoutError):
                lines.ask(("PING",))
        finally:
            os.kill(pid, signal.SIGCONT)
        assert lines.ask(("PING",)) == [b"PONG"]
        assert len(before) == 2
        assert not before & set(lines._free)
    lines.close()


def test_a_job_that_is_interrupted_leaves_no_reply_behind(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given an exception from outside between command and reply, then the next asker gets its own reply."""
    lines.ask(("SET", "it", "here"))
    connection = lines._free[-1].connection
    with monkeypatch.context() as patch:
        patch.setattr(connection, "read_response", _interrupted)
        with pytest.raises(Interrupted):
            lines.ask(("GET", "it"))
    assert lines.ask(("PING",)) == [b"PONG"]


def test_an_interrupt_during_a_timeout_stays_one(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a thread that is interrupted just when its time is over, then that is what it hears of, and no timeout."""
    lines.ask(("PING",))
    monkeypatch.setattr(lines._free[-1].connection, "read_response", _interrupted_late)
    with pytest.raises(Interrupted):
        lines.ask(("PING",))


def test_lines_that_nobody_closed_leave_no_open_socket(own_server: str) -> None:
    """Given lines that nobody refers to any more, then their connection is closed, before anything is collected."""
    lines = Lines(connect(own_server, connections=2))
    lines.ask(("PING",))
    own = lines._free[-1].connection._sock
    del lines
    assert own.fileno() == -1


def test_closed_lines_say_so(lines: Lines) -> None:
    """Given lines that were closed, then whoever still asks hears of it, and makes no new connection."""
    lines.ask(("PING",))
    lines.close()
    with pytest.raises(RedisConnectionError, match="closed"):
        lines.ask(("PING",))


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


def _interrupted_late() -> None:
    """Strike while the end of a wait is being handled."""
    try:
        _time_is_over()
    except BlockingIOError:
        _interrupted()


def _time_is_over() -> None:
    raise BlockingIOError


def test_where_results_go_is_asked_anew_when_connections_may_be_lost(own_server: str) -> None:
    """Given what stores outcomes, when its connections are dropped, then the next outcome goes over a new one."""
    with Celery() as app:
        results = Results(app=app, url=own_server)
        results.ending(JobEnd("job", None, b"outcome"))
        before = results.lines.ask(ID)
        assert results.lines.ask(ID) == before
        results.drop_connections()
        assert results.lines.ask(ID) != before
        results.lines.close()
