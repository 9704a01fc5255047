"""Outlives Redis's absence: what is to be done is done again until it answers, or until nobody wants it any more.

Stage: inside :mod:`worker.detector`, around what the decode threads and the finishers ask of Redis.
"""

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: What passes by itself: the server is away, loads its data, or has just become a replica.
PASSING = (RedisConnectionError, RedisTimeoutError, ReadOnlyError, OSError)

#: How refusals begin that pass as well: too few replicas follow, or Redis cannot save its data. No types of redis-py's.
_PASSING_REFUSALS = ("NOREPLICAS", "MISCONF")

#: Seconds between two tries at first and at most, each stretched or shrunk by up to a half.
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0


def passes(error: BaseException) -> bool:
    """Tell whether what Redis, or the way to it, has against a command passes by itself."""
    return isinstance(error, PASSING) or (isinstance(error, ResponseError) and str(error).startswith(_PASSING_REFUSALS))


def until_done(work: Callable[[], T], *, unless: Callable[[], None]) -> T:
    """Do ``work``, which may be done twice without harm, until Redis lets it, and return what it gives.

    Args:
        work: what to do.
        unless: called before each further try; it raises when there is to be none.
    """
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            return work()
        except Exception as error:
            if not passes(error):
                raise
            unless()
            logger.warning("redis.away error=%s", error)
        time.sleep(pause_s * random.uniform(0.5, 1.5))  # noqa: S311 - spreads load, guards nothing
        pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
