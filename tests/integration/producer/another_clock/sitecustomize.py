"""On the path of a process, it sets that process's clock: by ``CLOCK_AHEAD_S`` seconds ahead, or behind if negative."""

import datetime as dt
import os
import time

AHEAD_S = float(os.environ["CLOCK_AHEAD_S"])

_time = time.time
_datetime = dt.datetime


class _Kind(type):
    def __instancecheck__(cls, one: object) -> bool:
        return isinstance(one, _datetime)


class Moved(_datetime, metaclass=_Kind):
    """A datetime whose now is another."""

    __slots__ = ()

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> _datetime:
        """Return the moved time."""
        return _datetime.now(tz) + dt.timedelta(seconds=AHEAD_S)

    @classmethod
    def utcnow(cls) -> _datetime:
        """Return the moved time."""
        return _datetime.now(dt.UTC).replace(tzinfo=None) + dt.timedelta(seconds=AHEAD_S)


time.time = lambda: _time() + AHEAD_S
dt.datetime = Moved
