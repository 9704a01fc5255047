"""kombu's record of what a worker holds, kept by Redis's clock.

Stage: under Celery's consumer; :mod:`worker.consumer` puts it in. kombu writes when a message was taken, and takes as
lost what is older than the visibility timeout, both by the clock of the worker's host. A worker whose clock is an hour
ahead would take everybody's jobs away, and nobody would miss its own when it dies.

Mirrors kombu 5.7 ``kombu.transport.redis.QoS.append`` and ``restore_visible``.
"""

from typing import Any

from kombu.transport import redis as transport
from kombu.transport import virtual
from kombu.utils.json import dumps

from worker.clock import redis_clock


class LeaseQoS(transport.QoS):
    """What was fetched and not acknowledged, with the times of Redis."""

    def append(self, message: Any, delivery_tag: str) -> None:
        """Note that a message was taken, so that it comes back when this worker dies."""
        where = message.delivery_info
        kept = dumps([message._raw, where["exchange"], where["routing_key"]])  # noqa: SLF001 - as kombu does
        with self.pipe_or_acquire() as pipe:
            pipe.zadd(self.unacked_index_key, {delivery_tag: redis_clock.now()})
            pipe.hset(self.unacked_key, delivery_tag, kept)
            pipe.execute()
        virtual.QoS.append(self, message, delivery_tag)

    def restore_visible(self, start: int = 0, num: int = 10, interval: int = 10) -> None:
        """Put back what dead workers held."""
        self._vrestore_count += 1
        if (self._vrestore_count - 1) % (interval or 1):
            return
        until = redis_clock.now() - self.visibility_timeout
        with self.channel.conn_or_acquire() as client:
            try:
                with transport.Mutex(client, self.unacked_mutex_key, self.unacked_mutex_expire):
                    for tag in client.zrange(
                        self.unacked_index_key, until, 0, desc=True, byscore=True, offset=num and start, num=num
                    ):
                        self.restore_by_tag(tag, client)  # type: ignore[no-untyped-call]
            except transport.MutexHeld:
                pass
