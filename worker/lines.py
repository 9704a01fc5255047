"""Connections of a thread's own to Redis, for what every job asks: a round trip without a pool's bookkeeping.

Stage: under the decode threads, which fetch, the finishers, which end jobs, and the loop, which notes what it takes.
redis-py's client takes a connection out of the pool, asks the system whether it is still open, keeps count for its own
metrics, and puts it back: as much work as the round trip itself, and each system call lets go of the GIL, which then
has to be won again. Here a thread keeps its connection; what the connection does is redis-py's: connecting, passwords,
TLS, Sentinel, replies and errors.

Mirrors redis-py 8 ``redis.connection`` (``AbstractConnection``, ``Connection._sock``, ``_HiredisParser``).
"""

import socket
import ssl
import struct
import threading
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from worker.insist import drop_idle, last_words, write_anyway

#: A connection that was not used for so many seconds may have been closed meanwhile, so it is looked at first.
LOOK_AFTER_S = 0.1

Command = Sequence[Any]


class Lines:
    """Asks Redis on a connection of the calling thread's own. Thread-safe.

    Args:
        redis: where to; its pool says how, and its idle connections are dropped with ours.
    """

    def __init__(self, redis: Redis) -> None:
        self._pool = redis.connection_pool
        self._mine = threading.local()
        self._all: weakref.WeakSet[Any] = weakref.WeakSet()
        self._generation = 0

    def ask(self, *commands: Command) -> list[Any]:
        """Send ``commands`` in one round trip; return the replies, with an error where Redis refused a command.

        Raises:
            redis.exceptions.ConnectionError: there is no connection, or it was lost.
            redis.exceptions.TimeoutError: Redis does not answer.
        """
        last_words.check()
        try:
            connection = self._connection()
            return _ask(connection, commands)
        except RedisTimeoutError:
            last_words.no_answer()
            self.drop()
            drop_idle(self._pool)
            raise

    def write(self, *commands: Command) -> None:
        """Do ``commands`` as one, even if memory is full.

        Raises:
            redis.exceptions.RedisError: what :meth:`ask` raises, or Redis refuses one of them.
        """
        *queued, done = self.ask(("MULTI",), *commands, ("EXEC",))
        refused = next((reply for reply in queued if isinstance(reply, ResponseError)), done)
        if isinstance(refused, ResponseError):
            write_anyway(Redis(connection_pool=self._pool), commands, refused)
        elif failed := next((reply for reply in done if isinstance(reply, ResponseError)), None):
            raise failed

    def drop(self) -> None:
        """Let no connection be used again: where one was lost without a sign, each may be."""
        self._generation += 1

    def close(self) -> None:
        """Disconnect."""
        for connection in list(self._all):
            connection.disconnect()

    def _connection(self) -> Any:
        line, now = getattr(self._mine, "line", None), time.monotonic()
        if line is None or line.generation != self._generation:
            if line is not None:
                line.connection.disconnect()
            line = _Line(self._pool.connection_class(**self._pool.connection_kwargs), self._generation)
            self._mine.line = line
            self._all.add(line.connection)
        connection = line.connection
        if line.is_connected and now > line.used_at + LOOK_AFTER_S and not _is_open(connection):
            connection.disconnect()
        if not line.is_connected:
            connection.connect()
            _wait_in_the_kernel(connection)
        line.used_at = now
        return connection


@dataclass(slots=True)
class _Line:
    connection: Any
    generation: int
    used_at: float = 0.0

    @property
    def is_connected(self) -> bool:
        """False at first, and after a failure."""
        return self.connection._sock is not None  # noqa: SLF001


def _ask(connection: Any, commands: Sequence[Command]) -> list[Any]:
    try:
        connection.send_packed_command(connection.pack_commands(commands))
        replies = [_reply(connection) for _ in commands]
    except RedisConnectionError as error:
        connection.disconnect()
        if isinstance(error.__context__, BlockingIOError):
            raise RedisTimeoutError("Redis does not answer") from error
        raise
    except BaseException:  # a job that is interrupted here leaves a reply behind
        connection.disconnect()
        raise
    if any(isinstance(reply, ReadOnlyError) for reply in replies):  # the master of before; the next is asked for
        connection.disconnect()
    return replies


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return error


def _is_open(connection: Any) -> bool:
    try:
        return not connection.can_read()  # what nobody asked for is not to be taken for an answer
    except (RedisConnectionError, RedisTimeoutError, OSError):
        return False


def _wait_in_the_kernel(connection: Any) -> None:
    """Let the system keep the time limits: Python's own way asks before each call whether the socket is ready.

    A limit that is met then shows as ``BlockingIOError``. TLS, which asks again and again, stays as it is.
    """
    own, limit_s = connection._sock, connection.socket_timeout  # noqa: SLF001
    if limit_s is None or isinstance(own, ssl.SSLSocket):
        return
    whole = int(limit_s)
    limit = struct.pack("ll", whole, int((limit_s - whole) * 1_000_000))
    own.settimeout(None)
    own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
