"""Celery's consumer, with two manners of its own: it outlives every loss of its broker, and sends events in groups.

Stage: between Celery's worker and the pool. Selected by ``worker_consumer = "worker.consumer:FleetConsumer"``.
Mirrors ``celery.worker.consumer.Consumer`` of celery 5.7.
"""

import functools
import gc
import logging
import random
import time
from typing import Any

from celery.worker import state
from kombu.connection import Connection
from redis.exceptions import ResponseError

from worker import clock
from worker.guard import GuardedConsumer
from worker.steadfast import abandon

logger = logging.getLogger(__name__)

#: Longest time that an event waits for others. Celery's own consumer sends what there is at every turn of the loop,
#: which is a message for one or two events, and a sixth of the loop's time where jobs are short (docs/performance.md).
EVENTS_WITHIN_S = 0.25

#: Seconds between two tries to connect: at first, more each time, and at most. Celery's own grow to half a minute,
#: for which a fleet then waits for a server that is back.
RETRY_S = {"interval_start": 0.2, "interval_step": 0.4, "interval_max": 2.0}

#: Seconds before the next try where Redis did answer, but with a refusal, as where a queue's key holds no list. The new
#: connection is there at once, and the refusal again: that was thirty times a second, with ten lines of log each.
REFUSED_PAUSE_S = 0.5


class FleetConsumer(GuardedConsumer):
    """A consumer that reconnects soon after every kind of loss, and not at the same moment as all others.

    It goes by Redis's clock, and sends events in groups.
    """

    _events_due_at = 0.0

    def ensure_connected(self, conn: Any) -> Any:
        """Connect, and try again until it works."""
        spread = {name: seconds * random.uniform(0.7, 1.3) for name, seconds in RETRY_S.items()}  # noqa: S311
        conn.ensure_connection = functools.partial(conn.ensure_connection, **spread)
        return super().ensure_connected(conn)

    def connection_for_read(self, heartbeat: Any = None) -> Any:
        """Connect, and learn the time before anything is fetched, or looked for among what others hold."""
        connection = super().connection_for_read(heartbeat)
        channel = connection.default_channel
        if hasattr(channel, "unacked_index_key"):  # another broker has leases of its own, or none
            clock.learn(channel.client)
        return connection

    def on_send_event_buffered(self) -> None:
        """Send what is buffered a little later.

        A loop that was reset has lost its timers, so a time that has passed counts as no timer at all. A worker that
        ends has no later: Flower would show its last jobs as active for ever.
        """
        if state.should_stop is not None:
            self._flush_events()
            return
        now = time.monotonic()
        if self.hub and now >= self._events_due_at:
            self._events_due_at = now + EVENTS_WITHIN_S
            self.hub.call_later(EVENTS_WITHIN_S, self._flush_events)

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
        self.app.backend.drop_connections()
        gc.collect()  # redis-py's pools are rings: until then each keeps its socket, and Redis that connection
        if isinstance(exc, ResponseError):
            logger.warning("consumer.refused error=%s", exc)
            time.sleep(REFUSED_PAUSE_S)
