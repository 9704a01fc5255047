"""Celery's consumer, which here outlives the loss of its broker whatever the closing of the old connection raises.

Stage: between Celery's worker and the pool. Selected by ``worker_consumer = "worker.consumer:FleetConsumer"``.
Mirrors ``celery.worker.consumer.Consumer`` of celery 5.7.
"""

import functools
import logging
import random
from typing import Any

from celery.worker.consumer import Consumer
from kombu.connection import Connection

from worker.broker import abandon

logger = logging.getLogger(__name__)

#: Seconds between two tries to connect: at first, more each time, and at most. Celery's own grow to half a minute,
#: for which a fleet then waits for a server that is back.
RETRY_S = {"interval_start": 0.2, "interval_step": 0.4, "interval_max": 2.0}


class FleetConsumer(Consumer):  # type: ignore[misc]
    """A consumer that reconnects after every kind of loss, soon, and not at the same moment as all others."""

    def ensure_connected(self, conn: Any) -> Any:
        """Connect, and try again until it works."""
        spread = {name: seconds * random.uniform(0.7, 1.3) for name, seconds in RETRY_S.items()}  # noqa: S311
        conn.ensure_connection = functools.partial(conn.ensure_connection, **spread)
        return super().ensure_connected(conn)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Close the lost connection, and those that are idle, which may be lost as well and would be waited for.

        When Redis is gone while messages are unacknowledged, kombu 5.7 fails to put them back with an
        ``AttributeError``, on which Celery would end the worker. They come back when their leases end.
        """
        idle = list(self.app.pool._resource.queue)  # noqa: SLF001 - kombu has no public name for those not in use
        for lost in (getattr(self, "connection", None), getattr(self.event_dispatcher, "connection", None), *idle):
            if isinstance(lost, Connection):  # not what stands for one that was never made
                abandon(lost)
        try:
            super().on_connection_error_after_connected(exc)
        except Exception as error:  # noqa: BLE001 - the connection is given up in any case
            logger.warning("consumer.close_failed error=%r", error)
            self.connection = None
        self.app.backend.client.connection_pool.disconnect(inuse_connections=False)
