"""Whose turn it is: models that one worker serves get places beside each other, however long one's queue is.

Stage: between :mod:`worker.broker`, which asks first for the queue of which least is held, and :mod:`worker.pool`,
whose places are given here. Behind them :mod:`worker.lanes` does the same for decode threads, and :mod:`worker.shares`
for inferences.

Mirrors ``celery.worker.components.Pool`` of celery 5.7, which makes the semaphore, and
``kombu.asynchronous.semaphore.LaxBoundedSemaphore`` of kombu 5.7.
"""

import functools
import itertools
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from celery import bootsteps
from kombu.asynchronous.semaphore import LaxBoundedSemaphore

#: A place is kept for a queue that has none for so long after its last job came, though others wait for one.
KEPT_S = 2.0


class FairPlaces(LaxBoundedSemaphore):
    """Celery's semaphore, whose free place goes to the queue that has fewest; in a queue the first comes first.

    Celery's own serves in the order of arrival. Jobs of a slow model then take all places in time, and those of a fast
    one wait behind them. What does not end at all would take them one by one, in the moments in which nothing of the
    fast one waits; so a queue that had jobs of late keeps a place. Belongs to the loop thread.

    Args:
        value: how many places there are.
        taken: tells how many of them a queue's jobs have.
        clock: tells the time in seconds.
    """

    def __init__(self, value: int, taken: Callable[[str], int], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(value)
        self._taken = taken
        self._clock = clock
        self._seen: dict[str, float] = {}
        #: By queue: when it came, counted, and what to call. None is empty; there may be thousands in one.
        self._lines: dict[str, deque[tuple[int, Callable[[], Any]]]] = {}
        self._came = itertools.count()
        self._giving = False

    def acquire(self, callback: Callable[..., Any], *args: Any, **more: Any) -> bool:
        """Call ``callback`` now or when there is a place for it; tell whether that was now."""
        if queue := queue_of(args):
            self._seen[queue] = self._clock()
        if not self._is_free_for(queue):
            call = functools.partial(callback, *args, **more)
            self._lines.setdefault(queue, deque()).append((next(self._came), call))
            return False
        self.value -= 1
        callback(*args, **more)
        return True

    def release(self) -> None:
        """Give back a place."""
        self.value = min(self.value + 1, self.initial_value)
        self.give()

    def give(self) -> None:
        """Give the free places to those that wait; to be called now and then, for a place is not kept for ever.

        A job that was revoked or has expired gives its place back while it gets it. Those that wait may be thousands,
        as when their time comes at once, so that is left to the loop here and does not begin another one inside it.
        """
        if self._giving:
            return
        self._giving = True
        try:
            while self.value > 0 and (queue := self._next()) is not None:
                call = self._lines[queue].popleft()[1]
                if not self._lines[queue]:
                    del self._lines[queue]
                self.value -= 1
                call()
        finally:
            self._giving = False

    def clear(self) -> None:
        """Free all places, and forget who waits."""
        self._lines.clear()
        super().clear()

    def _next(self) -> str | None:
        """Return the queue whose first job is the next; None while all places are kept, or nobody waits."""
        lines = [(self._taken(queue), line[0][0], queue) for queue, line in self._lines.items()]
        return min((one for one in lines if self._is_free_for(one[2])), default=(0, 0, None))[2]

    def _is_free_for(self, queue: str) -> bool:
        """Tell whether there are more free places than are kept for others; never more than half of all are."""
        if not self._taken(queue):
            return self.value > 0
        since = self._clock() - KEPT_S
        kept = sum(at > since and not self._taken(one) for one, at in self._seen.items() if one != queue)
        return self.value > min(kept, self.initial_value // 2)


class FairPlacesStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Puts :class:`FairPlaces` where Celery has made its own semaphore, before anything has asked for a place."""

    requires = ("celery.worker.components:Pool",)

    def create(self, worker: Any) -> None:
        """Replace the semaphore of worker and pool."""
        taken = getattr(worker.pool, "taken", None)
        if worker.semaphore is None or taken is None:  # another pool, or no event loop
            return
        places = FairPlaces(worker.semaphore.initial_value, taken)
        worker.semaphore = worker.pool.options["semaphore"] = places
        worker._quick_acquire, worker._quick_release = places.acquire, places.release  # noqa: SLF001 - as Celery does


def queue_of(args: tuple[Any, ...]) -> str:
    """Return the queue of the request that waits for a place; empty for what is none."""
    info = getattr(args[0], "delivery_info", None) if args else None
    return str(info.get("routing_key") or "") if info else ""
