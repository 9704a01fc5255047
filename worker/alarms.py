"""Things to do later, for a few keys at a time, on one timer of the event loop.

Stage: under :mod:`worker.pool`, for the time limits of the jobs in hand. A timer of kombu's for each job would keep
the job in memory until its limit, long after it has ended: cancelling one only marks it.
"""

import time
from collections.abc import Callable
from typing import Any


class Alarms:
    """Belongs to the loop thread."""

    def __init__(self) -> None:
        self._hub: Any = None
        self._due: dict[int, list[tuple[float, Callable[[], None]]]] = {}
        self._armed_for: float | None = None

    def meet(self, hub: Any) -> None:
        """Use ``hub`` from now on; what was armed on a loop that was reset is armed again."""
        self._hub = hub
        self._armed_for = None
        self._arm()

    def set(self, key: int, delay_s: float, act: Callable[[], None]) -> None:
        """Call ``act()`` after ``delay_s`` seconds unless ``key`` is cleared before."""
        self._due.setdefault(key, []).append((time.monotonic() + delay_s, act))
        self._arm()

    def clear(self, key: int) -> None:
        """Forget what was set for ``key``."""
        self._due.pop(key, None)

    def _arm(self) -> None:
        earliest = min((when for entries in self._due.values() for when, _ in entries), default=None)
        if earliest is None or (self._armed_for is not None and self._armed_for <= earliest):
            return
        self._armed_for = earliest
        self._hub.call_later(max(0.0, earliest - time.monotonic()), self._ring)

    def _ring(self) -> None:
        self._armed_for = None
        now = time.monotonic()
        for key in list(self._due):
            entries = self._due.get(key, [])
            late = [act for when, act in entries if when <= now]
            self._due[key] = [(when, act) for when, act in entries if when > now]
            for act in late:
                act()
        self._arm()
