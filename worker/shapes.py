"""What single values of a message may be: small predicates, put together into tables.

Stage: under :mod:`worker.screen` and :mod:`worker.workflows`. Pure; nothing here knows Celery.
"""

import math
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

#: Tells whether a value is fit for its place.
Fits = Callable[[Any], bool]

#: A message may ask for nothing that lies further ahead: seconds of an ETA, a countdown, an expiry, a time limit.
MAX_AHEAD_S = 30 * 86400.0

#: Names of groups, parents and roots, which become parts of keys of Celery's own, and of tasks.
_NAME = re.compile(r"[!-~]{1,255}\Z")

#: Queues that a message may name: letters, digits and a few signs, so no key of the fleet's, and none of these.
_QUEUE = re.compile(
    r"(?!celery-task|celeryev|celery\.pidbox|reply\.|unacked)[A-Za-z0-9][A-Za-z0-9_.@-]{0,127}\Z", re.IGNORECASE
)


def one_of(*values: object) -> Fits:
    """Accept only these values, of these types."""
    return lambda value: any(type(value) is type(one) and value == one for one in values)


def text(most: int) -> Fits:
    """Accept printable text of at most ``most`` characters: it may stand in a line of a log."""
    return lambda value: isinstance(value, str) and len(value) <= most and value.isprintable()


def whole(least: int, most: int) -> Fits:
    """Accept a whole number."""
    return lambda value: type(value) is int and least <= value <= most


def seconds(value: Any) -> bool:
    """Accept a number of seconds from 0 to :data:`MAX_AHEAD_S`."""
    if type(value) not in (int, float):
        return False
    return 0 <= value <= MAX_AHEAD_S and math.isfinite(value)


def when(value: Any) -> bool:
    """Accept a time as ISO 8601 text, of a year that every calculation can bear."""
    if not isinstance(value, str) or len(value) > 64:
        return False
    try:
        return 1970 <= datetime.fromisoformat(value).year < 9000
    except ValueError:
        return False


def soon(value: Any) -> bool:
    """Accept a time that is at most :data:`MAX_AHEAD_S` ahead: the worker holds the message until then."""
    if not when(value):
        return False
    due = datetime.fromisoformat(value)
    return (due if due.tzinfo else due.replace(tzinfo=UTC)).timestamp() <= time.time() + MAX_AHEAD_S


def name(value: Any) -> bool:
    """Accept a name of at most 255 printable ASCII characters without spaces."""
    return isinstance(value, str) and bool(_NAME.match(value))


def queue(value: Any) -> bool:
    """Accept a queue that a message may be sent on to."""
    return isinstance(value, str) and bool(_QUEUE.match(value))


def names(value: Any) -> bool:
    """Accept a list of at most 100 names."""
    return isinstance(value, list | tuple) and len(value) <= 100 and all(map(name, value))


def mapping(value: Any) -> bool:
    """Accept an object whose keys are text."""
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


def anything(value: Any) -> bool:
    """Accept every value: nobody looks at it."""
    return True


def either(*choices: Fits) -> Fits:
    """Accept what one of ``choices`` accepts."""
    return lambda value: any(fits(value) for fits in choices)


def misfit(values: Mapping[str, Any], table: Mapping[str, Fits]) -> str | None:
    """Return the name of the first value of ``table`` that does not fit; None fits everywhere."""
    for key, fits in table.items():
        if values.get(key) is not None and not fits(values[key]):
            return key
    return None
