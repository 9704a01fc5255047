"""What a client hears on its pub/sub connection: every message whole, silence, and the end of the connection."""

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis
from redis.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError

from producer import kernel
from producer.hearing import Hearing
from tests.waiting import eventually

#: Seconds to wait for what is there, or on its way; and for what is not to come.
LONG_S, SHORT_S = 20.0, 0.05

#: What a server says of a subscription, and a message in two parts.
SUBSCRIBED = b"*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n"
FIRST, SECOND = b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nhe", b"llo\r\n"


@contextlib.contextmanager
def subscribed(url: str) -> Iterator[PubSub]:
    """Subscribe to ``news``, as a client does, for the length of the block."""
    with Redis.from_url(url, socket_timeout=LONG_S, protocol=2, driver_info=None) as redis:
        pubsub = redis.pubsub(ignore_subscribe_messages=True)
        pubsub.subscribe("news")
        yield pubsub
        pubsub.close()


@pytest.fixture
def pubsub(own_server: str) -> Iterator[PubSub]:
    """A connection to this test's own server."""
    with subscribed(own_server) as made:
        yield made


def heard(hearing: Hearing) -> object:
    """Return the data of the next message."""
    return eventually(lambda: hearing.next(LONG_S), "the message")["data"]


def test_messages_are_heard_without_redis_py_s_questions(
    pubsub: PubSub, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given messages one after the other, and large ones, then each is heard whole; on Linux only the kernel waits."""
    hearing = Hearing(pubsub)
    assert hearing.next(LONG_S) is None  # that it is subscribed, which redis-py keeps to itself
    if sys.platform == "linux":
        monkeypatch.setattr(PubSub, "get_message", None)
    told = [b"one", b"x" * 5_000_000, b"three"]
    for data in told:
        assert redis.publish("news", data) == 1
    assert [heard(hearing) for _ in told] == told


def test_silence_is_no_message_and_no_error(pubsub: PubSub, redis: Redis) -> None:
    """Given that nobody says anything, then that is told, again and again, and what is said later is heard."""
    hearing = Hearing(pubsub)
    assert hearing.next(LONG_S) is None  # that it is subscribed
    assert [hearing.next(seconds) for seconds in (SHORT_S, 0.0, SHORT_S)] == [None] * 3
    redis.publish("news", b"late")
    assert heard(hearing) == b"late"


def test_a_connection_that_is_closed_is_an_error(pubsub: PubSub, redis: Redis) -> None:
    """Given a server that ends the connection, then that is an error and not silence; a new one is heard again."""
    hearing = Hearing(pubsub)
    hearing.next(LONG_S)
    redis.client_kill_filter(skipme=True)
    with pytest.raises(RedisConnectionError):
        hearing.next(LONG_S)
    pubsub.connection.disconnect()
    pubsub.subscribe("news")  # connects anew, so on another socket
    assert eventually(lambda: redis.publish("news", b"again"), "a listener")
    assert heard(hearing) == b"again"


def test_a_time_limit_that_somebody_set_meanwhile_is_not_waited_for(pubsub: PubSub, redis: Redis) -> None:
    """Given a socket whose limit redis-py changes, as it may when a server is maintained, then waits are as asked."""
    hearing = Hearing(pubsub)
    hearing.next(LONG_S)
    pubsub.connection._sock.settimeout(LONG_S)
    assert hearing.next(SHORT_S) is None
    redis.publish("news", b"now")
    assert heard(hearing) == b"now"


@pytest.fixture
def bare() -> Iterator[tuple[Hearing, socket.socket]]:
    """What hears, and the other end of its connection."""
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor() as threads:
        accepted = threads.submit(server.accept)
        url = f"redis://127.0.0.1:{server.getsockname()[1]}/0"
        with subscribed(url) as pubsub, accepted.result(LONG_S)[0] as other:
            other.sendall(SUBSCRIBED)
            hearing = Hearing(pubsub)
            assert hearing.next(LONG_S) is None
            yield hearing, other


def test_half_a_message_is_none_yet(bare: tuple[Hearing, socket.socket]) -> None:
    """Given a message that comes in two parts, then the first is none, and both are one."""
    hearing, other = bare
    other.sendall(FIRST)
    assert [hearing.next(SHORT_S) for _ in range(3)] == [None] * 3
    other.sendall(SECOND)
    assert heard(hearing) == b"hello"


def test_a_reply_of_nothing_is_no_message(bare: tuple[Hearing, socket.socket]) -> None:
    """Given a server that says something with nothing in it, then that is none, and what follows is heard."""
    hearing, other = bare
    other.sendall(b"*0\r\n" + FIRST + SECOND)
    assert hearing.next(LONG_S) is None
    assert heard(hearing) == b"hello"


def test_the_shortest_limit_is_not_none_at_all() -> None:
    """Given less than the system can count, then a wait ends; none at all would be one without end."""
    one, other = socket.socketpair()
    with one, other:
        assert kernel.wait_there(one, 1e-9) == (sys.platform == "linux")
        kernel.limit_receiving(one, 1e-9)
        with pytest.raises(BlockingIOError):
            one.recv(1)


#: Sends a job that nobody does, while signals come every 20 ms, of which only the thread that hears could take one.
SIGNALS = """
import signal, sys
from producer import Client, DeadlineExceeded

signal.signal(signal.SIGALRM, lambda *_: None)
with Client(sys.argv[1]) as client:
    client.models()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    try:
        client.detect(b"a picture", deadline_s=0.5)
    except DeadlineExceeded:
        print("told")
"""


def test_signals_do_not_keep_a_client_from_its_deadlines(own_server: str) -> None:
    """Given a program whose main thread takes no signals, and many that come, then a job still ends in time."""
    command = [sys.executable, "-c", SIGNALS, own_server]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("told\n", "")
