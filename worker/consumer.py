"""Celery's consumer, which here outlives the loss of its broker whatever the closing of the old connection raises.

Stage: between Celery's worker and the pool. Selected by ``worker_consumer = "worker.consumer:FleetConsumer"``.
Mirrors ``celery.worker.consumer.Consumer`` of celery 5.7.
"""

import logging

from worker.guard import GuardedConsumer

logger = logging.getLogger(__name__)


class FleetConsumer(GuardedConsumer):
    """A consumer that reconnects after every kind of loss."""

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
