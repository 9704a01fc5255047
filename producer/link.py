"""A client's connection to Redis and the thread that brings results back.

Stage: under :mod:`producer.job` and :mod:`producer.client`; it does what the conversations of
:mod:`producer.dispatch` and :mod:`producer.reading` ask for. A link belongs to one process; after a fork the client
makes a new one and leaves the parent's sockets alone.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, TypeAlias, TypeVar

from redis import Redis
from redis.backoff import NoBackoff
from redis.client import PubSub
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from producer import address, kernel
from producer.dispatch import Dispatch, Rules
from producer.errors import InvalidRequest, Unreachable
from producer.hearing import Hearing
from producer.ids import new_client_id
from producer.lines import Lines
from producer.reading import MAX_RECONNECT_S, PING, read_loop, tidy
from producer.redis_url import check_url, hide_password
from producer.results import Outcome, wake_channel
from producer.scripts import Command
from producer.steps import Ask, Effect, Join, Listen, Open, Pause, Ping, Steps, drive
from producer.waiting import Waiting

logger = logging.getLogger(__name__)

T = TypeVar("T")

Promise: TypeAlias = Future[Outcome]

#: Most connections of one client, pub/sub included. A thread that finds all of them busy waits for one.
MAX_CONNECTIONS = 32

#: Seconds to connect, and to wait for an answer, or for an image that is sent to get any further; then the connection
#: counts as lost. A client behind a slow line sets its own in the URL: ``?socket_timeout=60``.
CONNECT_TIMEOUT_S = 3.0
REPLY_TIMEOUT_S = 6.0

#: Seconds that a thread waits for one of the connections.
POOL_TIMEOUT_S = 30.0

_NOT_OPEN = "no pub/sub connection is open"

CLOSED = "The client was closed before the job ended. The job goes on; pick it up with Client().job(job_id)."


def connection_options(retry: Any) -> dict[str, Any]:
    """Return the options of every connection; ``retry`` says never, for :func:`producer.steps.patient` does it."""
    return {
        "retry": retry,
        "max_connections": MAX_CONNECTIONS,
        "timeout": POOL_TIMEOUT_S,
        "socket_timeout": REPLY_TIMEOUT_S,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_keepalive": True,
        "client_name": "fleet-client",
    }


class Port:
    """Does effects with redis-py, one thread at a time."""

    def __init__(self, redis: Redis, lines: Lines) -> None:
        """Use ``redis`` and ``lines`` to it; a pub/sub connection is opened when asked for."""
        self._redis = redis
        self._lines = lines
        self._pubsub: PubSub | None = None
        self._hearing: Hearing | None = None

    def __call__(self, effect: Effect) -> Any:
        """Do ``effect`` and return the reply."""
        match effect:
            case Listen(seconds):
                return self._heard(seconds)
            case Ask(commands, atomic):
                return self._ask(commands, atomic=atomic)
            case Pause(seconds):
                time.sleep(seconds)
            case Open(pattern, channels):
                self._open(pattern, channels)
            case Join(channel, leave):
                (self._channel().unsubscribe if leave else self._channel().subscribe)(channel)
            case Ping():
                self._channel().ping(PING)
        return None

    def close(self) -> None:
        """Close the pub/sub connection."""
        if self._pubsub is not None:
            self._pubsub.close()
            self._pubsub = self._hearing = None

    def _heard(self, seconds: float) -> Any:
        if self._hearing is None:
            raise RuntimeError(_NOT_OPEN)
        return self._hearing.next(seconds)

    def _channel(self) -> PubSub:
        if self._pubsub is None:
            raise RuntimeError(_NOT_OPEN)
        return self._pubsub

    def _open(self, pattern: str | None, channels: tuple[str, ...]) -> None:
        if self._pubsub is not None:
            self.close()
            self._lines.drop()
        self._pubsub = self._redis.pubsub()  # type: ignore[no-untyped-call]
        self._hearing = Hearing(self._pubsub)
        if pattern is not None:
            self._pubsub.psubscribe(pattern)
        if channels:
            self._pubsub.subscribe(*channels)

    def _ask(self, commands: Sequence[Command], *, atomic: bool) -> list[Any]:
        replies = self._lines.ask(*commands, atomic=atomic)
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise reply
        readers = self._redis.response_callbacks  # redis-py's own: TIME is two numbers
        return [
            readers[one[0]](reply) if one[0] in readers else reply for one, reply in zip(commands, replies, strict=True)
        ]


class Link:
    """One process's half of a client. Thread-safe."""

    def __init__(self, url: str, rules: Rules) -> None:
        """Prepare to connect to ``url``; nothing is sent yet.

        Raises:
            InvalidRequest: ``url`` is not the URL of a Redis server.
        """
        try:
            pool = address.pool(check_url(url), **connection_options(Retry(NoBackoff(), 0)))
        except (ValueError, TypeError, InvalidRequest) as error:
            raise InvalidRequest(
                f"{hide_password(url)!r} is not a Redis URL such as redis://127.0.0.1:6379/0: {error}"
            ) from None
        self.pid = os.getpid()
        self._redis = Redis(connection_pool=pool)
        self._lines = Lines(self._redis, most=MAX_CONNECTIONS - 1)
        self._port = Port(self._redis, self._lines)
        self.dispatch = Dispatch(new_client_id(), rules, int(pool.connection_kwargs.get("db") or 0))
        self.waiting: Waiting[Promise] = Waiting(self.dispatch.client_id, Future, self.dispatch.clock)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def run(self, steps: Steps[T]) -> T:
        """Hold the conversation ``steps``.

        Raises:
            RuntimeError: the client is closed.
        """
        self._start_reader()
        return drive(steps, self._port)

    def watch(self, job_id: str, deadline_at: float | None) -> Promise:
        """Return the promise of ``job_id``'s outcome."""
        self._start_reader()
        return self.waiting.add(job_id, deadline_at)

    def close(self) -> None:
        """Stop the thread, tidy up and disconnect; jobs that have not ended fail for this client only."""
        with self._lock:
            if self.waiting.closed:
                return
            self.waiting.closed = True
        try:
            if self._thread is not None:
                self._redis.publish(wake_channel(self.dispatch.client_id), b"")
                self._thread.join(timeout=2.0)
            drive(tidy(self.waiting, self.dispatch.db), self._port)
        except (RedisError, OSError):
            pass  # results have a time to live; the thread is a daemon and looks at the flag
        for job_id in self.waiting.ids():
            self.waiting.settle(job_id, Unreachable(CLOSED))
        self._lines.close()
        self._redis.close()
        self._redis.connection_pool.disconnect()

    def _start_reader(self) -> None:
        if self.waiting.closed:
            raise RuntimeError("This client is closed.")
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._read, name="fleet-results", daemon=True)
                    self._thread.start()

    def _read(self) -> None:
        kernel.take_no_signals()
        port = Port(self._redis, self._lines)
        while not self.waiting.closed:
            try:
                drive(read_loop(self.waiting, self.dispatch.db), port)
            except Exception:
                # A fault of ours must not leave every job of this process without its answer.
                logger.exception("results.reader_failed outstanding=%d", len(self.waiting))
                time.sleep(MAX_RECONNECT_S)
        with contextlib.suppress(RedisError, OSError):
            drive(tidy(self.waiting, self.dispatch.db), port)
        with contextlib.suppress(RedisError, OSError):
            port.close()
        self._lines.drop()  # nobody closes the link of a forgotten client
