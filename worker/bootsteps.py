"""What runs beside Celery's consumer: leases of messages are renewed, and the ledger is swept.

Stage: with the worker. :class:`LeaseRenewal` makes a short visibility timeout mean a dead worker: kombu's Redis
transport gives a message that was fetched and not acknowledged to another worker once its entry in the sorted set
``unacked_index`` is older than that, and it writes the entry only once. :class:`SweepStep` runs :mod:`worker.ledger`.

Mirrors kombu 5.7: ``kombu.transport.redis.QoS.append`` and ``restore_visible``, ``kombu.transport.virtual.base.QoS``.
"""

import logging
import threading
from typing import Any

from celery import bootsteps
from redis import Redis
from redis.exceptions import RedisError

from producer.wire import ALIVE_WITHIN_S, WORKERS_KEY
from worker import clock
from worker.ledger import SWEEP_EVERY_S, Sweep

logger = logging.getLogger(__name__)

#: How often within one visibility timeout a lease is renewed: two may fail before the job goes to somebody else.
RENEWALS = 3


class LeaseRenewal(bootsteps.StartStopStep):  # type: ignore[misc]
    """Runs with Celery's consumer; registered again on each reconnect."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def register_with_event_loop(self, consumer: Any, hub: Any) -> None:
        """Renew all leases ``RENEWALS`` times per visibility timeout."""
        qos: Any = getattr(consumer.task_consumer.channel, "qos", None)
        if hasattr(qos, "unacked_index_key"):  # another broker has leases of its own, or none
            hub.call_repeatedly(qos.visibility_timeout / RENEWALS, self.renew, qos)

    @staticmethod
    def renew(qos: Any) -> None:
        """Set the time of every message held; one that was acknowledged meanwhile is not brought back (``XX``)."""
        held = list(qos._delivered)  # noqa: SLF001 - kombu has no public name for it
        try:
            with qos.channel.conn_or_acquire() as client:
                if held:
                    client.zadd(qos.unacked_index_key, dict.fromkeys(held, clock.redis_clock.now()), xx=True)
                clock.learn(client)
        except RedisError as error:
            logger.warning("lease.renewal_failed held=%d error=%s", len(held), error)


class SweepStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Runs the sweep for as long as the worker lives, and says that it does; it reconnects by itself."""

    def __init__(self, worker: Any, **_: Any) -> None:
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, worker: Any) -> None:
        """Start the thread. The URL is that of the results, which may carry credentials and is not logged."""
        url, queues = worker.app.conf.result_backend, [queue.name for queue in worker.app.conf.task_queues]
        work = (url, queues, worker.hostname)
        self._thread = threading.Thread(target=self._work, args=work, name="ledger-sweep", daemon=True)
        self._thread.start()

    def stop(self, worker: Any) -> None:
        """End the thread at the next opportunity."""
        self._over.set()

    terminate = stop

    def _work(self, url: str, queues: list[str], name: str) -> None:
        with Redis.from_url(url, socket_timeout=10, socket_connect_timeout=5) as redis:
            sweep = Sweep(redis, queues)
            while not self._over.wait(SWEEP_EVERY_S):
                try:
                    say_alive(redis, name)
                    sweep.run()
                except RedisError as error:
                    logger.warning("ledger.sweep_failed error=%s", error)
                except Exception:
                    logger.exception("ledger.sweep_failed")


def say_alive(redis: Redis, name: str) -> None:
    """Note for ``fleet status`` that the worker ``name`` lives; those long silent are forgotten."""
    seconds, _ = redis.time()
    with redis.pipeline(transaction=False) as pipe:
        pipe.zadd(WORKERS_KEY, {name: seconds})
        pipe.zremrangebyscore(WORKERS_KEY, "-inf", seconds - 10 * ALIVE_WITHIN_S)
        pipe.execute()
