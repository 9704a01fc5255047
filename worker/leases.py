"""Renews the lease of every message this worker holds, so that a short visibility timeout means a dead worker.

Stage: beside the pool, on the event loop. kombu's Redis transport gives a message that was fetched and not acknowledged
to another worker once its entry in the ``unacked_index`` sorted set is older than the visibility timeout, and it writes
that entry only once; so without this a timeout must be longer than the longest backlog of a worker.

Mirrors kombu 5.7: ``kombu.transport.redis.QoS.append`` and ``restore_visible``, ``kombu.transport.virtual.base.QoS``.
"""

import logging
import time
from typing import Any

from celery import bootsteps
from redis.exceptions import RedisError

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
        now = time.time()
        held = dict.fromkeys(list(qos._delivered), now)  # noqa: SLF001 - kombu has no public name for it
        if not held:
            return
        try:
            with qos.channel.conn_or_acquire() as client:
                client.zadd(qos.unacked_index_key, held, xx=True)
        except RedisError as error:
            logger.warning("lease.renewal_failed held=%d error=%s", len(held), error)
