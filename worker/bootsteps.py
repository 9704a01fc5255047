"""What runs beside Celery's consumer: leases of messages are renewed, and the ledger is swept.

Stage: with the worker. :class:`LeaseRenewal` makes a short visibility timeout mean a dead worker: kombu's Redis
transport gives a message that was fetched and not acknowledged to another worker once its entry in the sorted set
``unacked_index`` is older than that, and it writes the entry only once. :class:`SweepStep` runs :mod:`worker.ledger`.

Mirrors kombu 5.7: ``kombu.transport.redis.QoS.append`` and ``restore_visible``, ``kombu.transport.virtual.base.QoS``.
"""

import functools
import logging
import threading
from collections.abc import Callable
from typing import Any

from celery import bootsteps, signals
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.retry import Retry

from producer import address
from producer.wire import ALIVE_WITHIN_S, WORKERS_KEY
from worker import clock, guard, later, settings
from worker.insist import MAY_EXCEED, InsistentRedis
from worker.ledger import SWEEP_EVERY_S, Sweep

logger = logging.getLogger(__name__)

#: How often within one visibility timeout a lease is renewed, at least: two may fail before the job goes to another.
RENEWALS = 3

#: Seconds after which a worker says for the first time that it lives, unless it takes jobs before: one that cannot
#: start has ended by then.
SETTLED_AFTER_S = 0.5

#: Longest wait for Redis to hear a worker's goodbye; it is forgotten without one, only later.
GOODBYE_WITHIN_S = 1.0

#: Seconds between two renewals at most; they are the worker's pulse as well.
PULSE_S = 2.0

#: Notes by Redis's clock that a worker lives. Key: workers. Arguments: its name, seconds of silence to be forgotten.
_SAY_ALIVE = (
    MAY_EXCEED
    + """
local now = redis.call('TIME')[1]
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
"""
)


class LeaseRenewal(bootsteps.StartStopStep):  # type: ignore[misc]
    """Runs with Celery's consumer; registered again on each reconnect, when it takes over what is in flight."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    _look: Callable[[], None] | None = None

    def register_with_event_loop(self, consumer: Any, hub: Any) -> None:
        """Renew all leases ``RENEWALS`` times per visibility timeout, or more often."""
        qos: Any = getattr(consumer.task_consumer.channel, "qos", None)
        if hasattr(qos, "unacked_index_key"):  # another broker has leases of its own, or none
            for message in getattr(consumer.pool, "remember_messages", list)():
                qos.adopt(message)
                guard.weigh(message)
            self.renew(qos)  # a worker that is refused something connects again and again, and its timers never fire
            hub.call_repeatedly(min(PULSE_S, qos.visibility_timeout / RENEWALS), self.renew, qos)
            hub.on_tick.discard(self._look)
            self._look = functools.partial(self.look, qos.channel)
            hub.on_tick.add(self._look)

    @staticmethod
    def look(channel: Any) -> None:
        """Look, at each turn of the loop, whether the channel has missed an answer.

        Raises:
            redis.exceptions.ConnectionError: it has.
        """
        if channel.has_failed() and not channel.closed:
            raise RedisConnectionError("something that was asked was not answered")

    @staticmethod
    def renew(qos: Any) -> None:
        """Set the time of every message held; one that was acknowledged meanwhile is not brought back (``XX``).

        Raises:
            redis.exceptions.ConnectionError: there is no answer, or none in time. The loop then connects anew, at once
                and altogether, where kombu would find out one connection after the other.
        """
        held = list(qos._delivered)  # noqa: SLF001 - kombu has no public name for it
        with qos.channel.conn_or_acquire() as client, client.pipeline() as pipe:
            if held:
                pipe.zadd(qos.unacked_index_key, dict.fromkeys(held, clock.redis_clock.now()), xx=True)
            pipe.time()
            clock.redis_clock.set(*map(int, pipe.execute()[-1]))  # bytes where memory is full
        if qos.channel.is_lost(PULSE_S):
            raise RedisConnectionError("BRPOP or an acknowledgement was not answered")


class SweepStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Runs the sweep for as long as the worker lives, and says that it does; it reconnects by itself."""

    def __init__(self, worker: Any, **_: Any) -> None:
        self._settled, self._leaving, self._over = threading.Event(), threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, worker: Any) -> None:
        """Start the thread."""
        signals.worker_ready.connect(self._settle, weak=False)
        work = ([queue.name for queue in worker.app.conf.task_queues], worker.hostname)
        self._thread = threading.Thread(target=self._work, args=work, name="ledger-sweep", daemon=True)
        self._thread.start()

    def close(self, worker: Any) -> None:
        """Say goodbye, the first thing when a worker stops: one that drains serves nobody who comes now."""
        self._leaving.set()

    def stop(self, worker: Any) -> None:
        """End the thread; it says goodbye before, if Redis is there to hear it."""
        self._leaving.set()
        self._over.set()
        if self._thread is not None:
            self._thread.join(GOODBYE_WITHIN_S)

    terminate = stop

    def _settle(self, **_: Any) -> None:
        self._settled.set()

    def _work(self, queues: list[str], name: str) -> None:
        limits = {"socket_timeout": 3, "socket_connect_timeout": 3, "socket_keepalive": True}
        pool = address.pool(settings.load().url, retry=Retry(NoBackoff(), 0), **limits)
        with InsistentRedis.from_pool(pool) as redis:
            sweep = Sweep(redis, queues)
            self._settled.wait(SETTLED_AFTER_S)
            pause_s = 0.0
            while not self._leaving.wait(pause_s):
                pause_s = SWEEP_EVERY_S
                _try(say_alive, redis, name)
                _try(sweep.run)
                _try(later.bring_back, redis, queues)
            _try(redis.zrem, WORKERS_KEY, name)
            while not self._over.wait(SWEEP_EVERY_S):
                _try(sweep.run)


def _try(work: Callable[..., Any], *args: Any) -> None:
    try:
        work(*args)
    except RedisError as error:
        logger.warning("ledger.sweep_failed error=%s", error)
    except Exception:
        logger.exception("ledger.sweep_failed")


def say_alive(redis: Redis, name: str) -> None:
    """Note for ``fleet status`` that the worker ``name`` lives; those long silent are forgotten."""
    redis.eval(_SAY_ALIVE, 1, WORKERS_KEY, name, 10 * ALIVE_WITHIN_S)
