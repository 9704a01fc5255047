"""Connections to Redis for what every job asks: a round trip with few system calls, and without a pool's bookkeeping.

Stage: under the client's conversations, and under the worker's threads (:mod:`worker.lines`). redis-py's client asks
the system whether a connection is still open each time it takes one out of the pool, keeps count for its own metrics,
copies an image once more to send it, and asks before each call whether the socket is ready: as much work as the round
trip itself. Each system call lets go of the GIL, which then has to be won again. What a connection is stays redis-py's:
connecting, passwords, TLS, Sentinel, replies and errors. Where somebody traces redis-py, it does the asking as well.

Mirrors redis-py 8 ``redis.connection`` (``AbstractConnection``, ``Connection._sock``, ``_HiredisParser``) and
``redis.client.Pipeline``.
"""

import contextlib
import queue
import socket
import ssl
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import hiredis
from redis import Redis
from redis.client import CaseInsensitiveDict, Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from producer import kernel
from producer.scripts import Command

#: A connection that was not used for so many seconds may have been closed meanwhile, so it is looked at first.
LOOK_AFTER_S = 0.1

#: From this size on a value is sent from where it is, and not copied.
LARGE_BYTES = 16 * 1024

#: What goes out as it is. A tuple: ``str | bytes`` would be made anew for each word.
_TEXTS = (str, bytes)

#: Pieces that one system call sends, of which Linux takes 1024.
MOST_PIECES = 512

#: Longest wait for one of the connections.
WAIT_S = 30.0


class Lines:
    """Asks Redis, each time on the connection that was used last and is free. Thread-safe.

    Args:
        redis: where to; its pool says how, and its idle connections are dropped with ours.
        most: how many connections there are at once; who finds none free waits.
    """

    def __init__(self, redis: Redis, *, most: int = 64) -> None:
        self._redis = redis
        self._pool = redis.connection_pool
        # In C, and so whole whenever an exception from outside strikes the thread; a Semaphore could stay locked.
        self._room: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(most):
            self._room.put(None)
        self._free: deque[_Line] = deque()
        self._all: weakref.WeakSet[Any] = weakref.WeakSet()
        self._lock = threading.Lock()  # of ``_all`` alone
        self._generation = 0
        self._closed = False
        # Lines that nobody closes any more leave no open socket to the garbage collector. The free connections are held
        # here: where it found them together with the lines, it would have emptied the weak set before.
        weakref.finalize(self, _disconnect, self._all, self._lock, self._free).atexit = False

    def ask(self, *commands: Command, atomic: bool = False) -> list[Any]:
        """Send ``commands`` in one round trip; return the replies, with an error where Redis refused a command.

        Args:
            commands: what to ask.
            atomic: do all of them as one.

        Raises:
            redis.exceptions.ConnectionError: there is no connection, or it was lost.
            redis.exceptions.TimeoutError: Redis does not answer.
            redis.exceptions.ResponseError: of ``atomic`` commands one was refused, and so none was done.
        """
        try:
            if hasattr(Pipeline.execute, "__wrapped__"):
                return self._ask_traced(commands, atomic=atomic)
            replies = self._ask(_as_one(commands) if atomic else commands)
        except RedisTimeoutError:
            self.drop()
            raise
        return _done_as_one(replies) if atomic else replies

    def drop(self) -> None:
        """Let no connection be used again: where one was lost without a sign, each may be."""
        self._generation += 1
        with contextlib.suppress(IndexError):
            while True:
                self._free.pop().connection.disconnect()
        self._pool.disconnect(inuse_connections=False)

    def close(self) -> None:
        """Disconnect for good."""
        self._closed = True
        self._generation += 1
        self._free.clear()
        _disconnect(self._all, self._lock)

    def _ask(self, commands: Sequence[Command]) -> list[Any]:
        try:
            self._room.get(timeout=WAIT_S)
        except queue.Empty:
            raise RedisConnectionError(f"no connection became free within {WAIT_S:.0f} s") from None
        try:
            line = self._take()
            replies = line.ask(commands)
            if line.generation == self._generation:
                self._free.append(line)
            else:
                line.connection.disconnect()
            return replies
        finally:
            self._room.put(None)

    def _take(self) -> "_Line":
        if self._closed:
            raise RedisConnectionError("the connections are closed")
        line = None
        with contextlib.suppress(IndexError):
            while (line := self._free.pop()).generation != self._generation:  # put back while all were dropped
                line.connection.disconnect()
        if line is None or line.generation != self._generation:
            line = _Line(self._pool.connection_class(**self._pool.connection_kwargs), self._generation)
            with self._lock:
                self._all.add(line.connection)
        line.connect()
        return line

    def _ask_traced(self, commands: Sequence[Command], *, atomic: bool) -> list[Any]:
        with self._redis.pipeline(transaction=atomic) as pipe:
            pipe.response_callbacks = CaseInsensitiveDict({})  # replies as they are
            for command in commands:
                pipe.execute_command(*command)  # type: ignore[no-untyped-call]
            replies = pipe.execute(raise_on_error=False)
        return [one.with_traceback(None) if isinstance(one, Exception) else one for one in replies]


@dataclass(slots=True, eq=False)
class _Line:
    """One connection. Used by one thread at a time."""

    connection: Any
    generation: int
    used_at: float = 0.0

    def connect(self) -> None:
        """Connect, if it is not connected, or only seems so."""
        now = time.monotonic()
        connection = self.connection
        if connection._sock is not None and (  # noqa: SLF001
            connection.should_reconnect() or (now > self.used_at + LOOK_AFTER_S and not self._is_open())
        ):
            connection.disconnect()
        if connection._sock is None:  # noqa: SLF001 - at first, and after a failure
            connection.connect()
            kernel.wait_there(connection._sock, connection.socket_timeout)  # noqa: SLF001
        self.used_at = now

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Send ``commands`` and read the replies; whatever goes wrong in between, the connection is not used again."""
        try:
            self.connection.check_health()
            _send(self.connection._sock, self._packed(commands))  # noqa: SLF001
            replies = [self._reply() for _ in commands]
        except BaseException as error:  # a job that is interrupted here leaves a reply behind
            self.connection.disconnect()
            lost = isinstance(error, RedisConnectionError)
            if isinstance(error.__context__ if lost else error, BlockingIOError | TimeoutError):
                raise RedisTimeoutError("Redis does not answer") from error
            if isinstance(error, OSError):
                raise RedisConnectionError(f"the connection to Redis is lost: {error}") from error
            raise
        if any(isinstance(reply, ReadOnlyError) for reply in replies):  # the master of before; the next is asked for
            self.connection.disconnect()
        return replies

    def _is_open(self) -> bool:
        try:
            return not self.connection.can_read()  # what nobody asked for is not to be taken for an answer
        except (RedisConnectionError, RedisTimeoutError, OSError):
            return False

    @staticmethod
    def _packed(commands: Sequence[Command]) -> list[bytes]:
        """Write commands as they go out, a large value as a piece of its own."""
        pieces: list[bytes] = []
        small: list[bytes] = []
        for command in commands:
            words = _as_texts(command)
            if max(map(len, words)) < LARGE_BYTES:
                small.append(hiredis.pack_command(words))  # type: ignore[arg-type] # its stub knows one word
                continue
            small.append(b"*%d\r\n" % len(words))
            for word in words:
                data = word if isinstance(word, bytes) else word.encode()
                small.append(b"$%d\r\n" % len(data))
                if len(data) < LARGE_BYTES:
                    small.append(data)
                else:
                    pieces += (b"".join(small), data)
                    small.clear()
                small.append(b"\r\n")
        pieces.append(b"".join(small))
        return pieces

    def _reply(self) -> Any:
        try:
            return self.connection.read_response()
        except ResponseError as error:
            return error.with_traceback(None)  # whose frames hold the replies, and so the error itself


def _as_texts(command: Command) -> tuple[str | bytes, ...]:
    """Write numbers out: hiredis 3.5 has Python do it, and crashes when a signal's handler raises in that moment."""
    return tuple([word if isinstance(word, _TEXTS) else str(word) for word in command])


def _disconnect(connections: "weakref.WeakSet[Any]", lock: threading.Lock, *_held: object) -> None:
    with lock:
        made = list(connections)
    for connection in made:
        connection.disconnect()


def _as_one(commands: Sequence[Command]) -> tuple[Command, ...]:
    """Give the commands of a transaction."""
    return (("MULTI",), *commands, ("EXEC",))


def _done_as_one(replies: Sequence[Any]) -> list[Any]:
    """Return what the commands of a transaction gave, from the replies to :func:`_as_one`.

    Raises:
        redis.exceptions.ResponseError: one was refused before any was done.
    """
    *queued, done = replies
    refused = next((reply for reply in queued if isinstance(reply, ResponseError)), done)
    if isinstance(refused, ResponseError):
        raise refused
    return list(refused)


def _send(own: socket.socket | None, pieces: Sequence[bytes]) -> None:
    if own is None:
        raise RedisConnectionError("the connection was closed")
    if len(pieces) == 1 or isinstance(own, ssl.SSLSocket) or not hasattr(own, "sendmsg"):
        for piece in pieces:
            own.sendall(piece)
        return
    left = [memoryview(piece) for piece in pieces]
    while left:
        sent = own.sendmsg(left[:MOST_PIECES])
        while left and sent >= len(left[0]):
            sent -= len(left.pop(0))
        if left:
            left[0] = left[0][sent:]
