"""Celery's consumer, with two manners of its own: it outlives every loss of its broker, and sends events in groups.

Stage: between Celery's worker and the pool. Selected by ``worker_consumer = "worker.consumer:FleetConsumer"``.
Mirrors ``celery.worker.consumer.Consumer`` of celery 5.7.
"""

import logging
import time
from typing import Any

from worker import clock
from worker.guard import GuardedConsumer

logger = logging.getLogger(__name__)

#: Longest time that an event waits for others. Celery's own consumer sends what there is at every turn of the loop,
#: which is a message for one or two events, and a sixth of the loop's time where jobs are short (docs/performance.md).
EVENTS_WITHIN_S = 0.1


class FleetConsumer(GuardedConsumer):
    """A consumer that reconnects after every kind of loss, goes by Redis's clock, and sends events in groups."""

    _events_due_at = 0.0

    def connection_for_read(self, heartbeat: Any = None) -> Any:
        """Connect, and learn the time before anything is fetched, or looked for among what others hold."""
        connection = super().connection_for_read(heartbeat)
        channel = connection.default_channel
        if hasattr(channel, "unacked_index_key"):  # another broker has leases of its own, or none
            clock.learn(channel.client)
        return connection

    def on_send_event_buffered(self) -> None:
        """Send what is buffered a little later; Celery itself sends when 24 events wait.

        A loop that was reset has lost its timers, so a time that has passed counts as no timer at all.
        """
        now = time.monotonic()
        if self.hub and now >= self._events_due_at:
            self._events_due_at = now + EVENTS_WITHIN_S
            self.hub.call_later(EVENTS_WITHIN_S, self._flush_events)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Close the lost connection.

        When Redis is gone while messages are unacknowledged, kombu 5.7 fails to put them back with an
        ``AttributeError``, on which Celery would end the worker. They come back when their leases end.
        """
        try:
            super().on_connection_error_after_connected(exc)
        except Exception as error:  # noqa: BLE001 - the connection is given up in any case
            logger.warning("consumer.close_failed error=%r", error)
            self.connection = None
