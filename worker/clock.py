"""Redis's clock, as this worker knows it: the one that all times on the wire are told by.

Stage: beside everything that compares a time from a message with now. Neighbours: :mod:`worker.consumer` learns it on
each connecting, before any message is fetched; :mod:`worker.bootsteps` refreshes it with the leases.
"""

import logging
from datetime import timedelta
from typing import Any

from redis.exceptions import RedisError

from producer.clock import ServerClock

logger = logging.getLogger(__name__)

#: One for the process. Until the first connection it is this host's own.
redis_clock = ServerClock()


def learn(client: Any) -> None:
    """Ask ``client``, a connection to the broker, for the time; without an answer, what is known stands."""
    try:
        redis_clock.set(*client.time())
    except RedisError as error:  # a lost connection shows itself with the next thing that is asked
        logger.warning("clock.not_learnt error=%s", error)


def ahead() -> timedelta:
    """Return by how much Redis's clock is ahead of this host's."""
    return timedelta(seconds=redis_clock.ahead_s())
