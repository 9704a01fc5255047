"""An asyncio client's connection to Redis and the task that brings results back.

Stage: under :mod:`producer.aio`; the twin of :mod:`producer.link`. Belongs to one event loop.
"""

import asyncio
import contextlib
import logging
from typing import Any, TypeAlias, TypeVar

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from producer import address
from producer.dispatch import Dispatch, Rules
from producer.errors import InvalidRequest, Unreachable
from producer.ids import new_client_id
from producer.link import CLOSED, connection_options
from producer.reading import MAX_RECONNECT_S, PING, read_loop, tidy
from producer.redis_url import check_url, hide_password
from producer.results import Outcome
from producer.steps import Ask, Effect, Join, Listen, Open, Pause, Ping, Steps, drive_async
from producer.waiting import Waiting

logger = logging.getLogger(__name__)

T = TypeVar("T")

AsyncPromise: TypeAlias = asyncio.Future[Outcome]


class AsyncPort:
    """Does effects with redis.asyncio."""

    def __init__(self, redis: Redis) -> None:
        """Use ``redis``; a pub/sub connection is opened when asked for."""
        self._redis = redis
        self._pubsub: PubSub | None = None

    async def __call__(self, effect: Effect) -> Any:
        """Do ``effect`` and return the reply; a cancel is heard, even one lost in the ``wait_for`` of Python 3.11."""
        task = asyncio.current_task()
        cancels = task.cancelling() if task else 0
        try:
            return await self._do(effect)
        finally:
            if task and task.cancelling() > cancels:
                raise asyncio.CancelledError

    async def _do(self, effect: Effect) -> Any:
        match effect:
            case Listen(seconds):
                return await self._channel().get_message(timeout=seconds)
            case Ask(commands, atomic):
                return await self._ask(commands, atomic=atomic)
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case Open(pattern, channels):
                await self._open(pattern, channels)
            case Join(channel, leave):
                await (self._channel().unsubscribe if leave else self._channel().subscribe)(channel)
            case Ping():
                await self._channel().ping(PING)
        return None

    async def close(self) -> None:
        """Close the pub/sub connection."""
        if self._pubsub is not None:
            await self._pubsub.aclose()  # type: ignore[no-untyped-call]
            self._pubsub = None

    def _channel(self) -> PubSub:
        if self._pubsub is None:
            raise RuntimeError("no pub/sub connection is open")
        return self._pubsub

    async def _open(self, pattern: str | None, channels: tuple[str, ...]) -> None:
        if self._pubsub is not None:
            await self.close()
            await self._drop_idle()
        self._pubsub = self._redis.pubsub()
        if pattern is not None:
            await self._pubsub.psubscribe(pattern)
        if channels:
            await self._pubsub.subscribe(*channels)

    async def _drop_idle(self) -> None:
        """Close the idle connections: where one was lost without a sign, each may be, and would be waited for."""
        await self._redis.connection_pool.disconnect(inuse_connections=False)

    async def _ask(self, commands: tuple[Any, ...], *, atomic: bool) -> list[Any]:
        try:
            return await self._send(commands, atomic=atomic)
        except RedisTimeoutError:
            await self._drop_idle()
            raise

    async def _send(self, commands: tuple[Any, ...], *, atomic: bool) -> list[Any]:
        if len(commands) == 1:
            return [await self._redis.execute_command(*commands[0])]  # type: ignore[no-untyped-call]
        async with self._redis.pipeline(transaction=atomic) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            return list(await pipe.execute())


class AsyncLink:
    """The connections of one asyncio client."""

    def __init__(self, url: str, rules: Rules) -> None:
        """Prepare to connect to ``url``; nothing is sent yet.

        Raises:
            InvalidRequest: ``url`` is not the URL of a Redis server.
        """
        try:
            pool = address.async_pool(check_url(url), **connection_options(Retry(NoBackoff(), 0)))
        except (ValueError, TypeError, InvalidRequest) as error:
            raise InvalidRequest(
                f"{hide_password(url)!r} is not a Redis URL such as redis://127.0.0.1:6379/0: {error}"
            ) from None
        self._redis = Redis(connection_pool=pool)
        self._port = AsyncPort(self._redis)
        self.dispatch = Dispatch(new_client_id(), rules, int(pool.connection_kwargs.get("db") or 0))
        self.waiting: Waiting[AsyncPromise] = Waiting(self.dispatch.client_id, _new_promise, self.dispatch.clock)
        self._reader: asyncio.Task[None] | None = None

    async def run(self, steps: Steps[T]) -> T:
        """Hold the conversation ``steps``.

        Raises:
            RuntimeError: the client is closed.
        """
        self._start_reader()
        return await drive_async(steps, self._port)

    def watch(self, job_id: str, deadline_at: float | None) -> AsyncPromise:
        """Return the promise of ``job_id``'s outcome."""
        self._start_reader()
        return self.waiting.add(job_id, deadline_at)

    async def close(self) -> None:
        """Stop the task, tidy up and disconnect; jobs that have not ended fail for this client only."""
        if self.waiting.closed:
            return
        self.waiting.closed = True
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait([self._reader])
        with contextlib.suppress(RedisError, OSError):
            await drive_async(tidy(self.waiting, self.dispatch.db), self._port)
        for job_id in self.waiting.ids():
            self.waiting.settle(job_id, Unreachable(CLOSED))
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()

    def _start_reader(self) -> None:
        if self.waiting.closed:
            raise RuntimeError("This client is closed.")
        if self._reader is None:
            self._reader = asyncio.get_running_loop().create_task(self._read(), name="fleet-results")

    async def _read(self) -> None:
        port = AsyncPort(self._redis)
        try:
            while not self.waiting.closed:
                await self._read_once(port)
        finally:
            await port.close()

    async def _read_once(self, port: AsyncPort) -> None:
        try:
            await drive_async(read_loop(self.waiting, self.dispatch.db), port)
        except Exception:
            # A fault of ours must not leave every job of this process without its answer.
            logger.exception("results.reader_failed outstanding=%d", len(self.waiting))
            await asyncio.sleep(MAX_RECONNECT_S)


def _new_promise() -> AsyncPromise:
    return asyncio.get_running_loop().create_future()
