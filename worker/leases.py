"""kombu's record of what a worker holds, kept by Redis's clock.

Stage: under Celery's consumer; :mod:`worker.consumer` puts it in. kombu writes when a message was taken, and takes as
lost what is older than the visibility timeout, both by the clock of the worker's host. A worker whose clock is an hour
ahead would take everybody's jobs away, and nobody would miss its own when it dies.

Mirrors kombu 5.7 ``kombu.transport.redis.QoS.append`` and ``restore_visible``.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from kombu.transport import redis as transport
from kombu.transport import virtual
from kombu.utils.json import dumps
from redis.exceptions import ConnectionError as RedisConnectionError

from producer.books import COUNTERS_KEY
from producer.scripts import Command
from worker.clock import redis_clock


class LeaseQoS(transport.QoS):
    """What was fetched and not acknowledged, with the times of Redis. Belongs to the loop thread."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        self._expected: dict[str, Any] = {}

    def expect(self, envelopes: Sequence[Mapping[str, Any]]) -> None:
        """Say which messages are about to be delivered, so that the first notes them all."""
        self._expected = {one["properties"]["delivery_tag"]: one for one in envelopes}

    def append(self, message: Any, delivery_tag: str) -> None:
        """Note that a message was taken, so that it comes back when this worker dies; and all those with it."""
        if delivery_tag in self._expected:
            self._note(self._expected)
            self._expected = {}
        virtual.QoS.append(self, message, delivery_tag)

    def _note(self, envelopes: Mapping[str, Mapping[str, Any]]) -> None:
        where = {tag: one["properties"]["delivery_info"] for tag, one in envelopes.items()}
        kept = {tag: dumps([one, where[tag]["exchange"], where[tag]["routing_key"]]) for tag, one in envelopes.items()}
        now = redis_clock.now()
        commands: list[Command] = [
            ("ZADD", self.unacked_index_key, *[word for tag in kept for word in (now, tag)]),
            ("HSET", self.unacked_key, *[word for pair in kept.items() for word in pair]),
        ]
        try:
            self.channel.lines.write(*commands)
        except RedisConnectionError:  # lost since the last time; what was taken is nowhere else, and may be noted twice
            self.channel.lines.write(*commands)

    def restore_visible(self, start: int = 0, num: int = 10, interval: int = 10) -> None:
        """Put back, and count, what dead workers held."""
        self._vrestore_count += 1
        if (self._vrestore_count - 1) % (interval or 1):
            return
        self.channel.unless_failed(lambda: self._restore_until(redis_clock.now() - self.visibility_timeout, start, num))

    def _restore_until(self, until: float, start: int, num: int) -> None:
        """Put back what was taken before ``until``; only where there is any, one worker after the other."""
        with self.channel.conn_or_acquire() as client:
            taken = functools.partial(
                client.zrange, self.unacked_index_key, until, 0, desc=True, byscore=True, offset=num and start, num=num
            )
            if not taken():
                return
            try:
                with transport.Mutex(client, self.unacked_mutex_key, self.unacked_mutex_expire):
                    tags = taken()
                    for tag in tags:
                        self.restore_by_tag(tag, client)  # type: ignore[no-untyped-call]
                    if tags:
                        client.hincrby(COUNTERS_KEY, "lapsed", len(tags))
            except transport.MutexHeld:
                pass
