"""Whose turn it is: models that one worker serves get places beside each other, however long one's queue is.

Stage: between :mod:`worker.broker`, which asks first for the queue of which least is held, and :mod:`worker.pool`,
whose places are given here. Behind them :mod:`worker.lanes` does the same for decode threads, and :mod:`worker.shares`
for inferences.

Mirrors ``celery.worker.components.Pool`` of celery 5.7, which makes the semaphore, and
``kombu.asynchronous.semaphore.LaxBoundedSemaphore`` of kombu 5.7.
"""

import time
from collections.abc import Callable, Iterator
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

    def acquire(self, callback: Callable[..., Any], *args: Any, **more: Any) -> bool:
        """Call ``callback`` now or when there is a place for it; tell whether that was now."""
        if queue := queue_of(args):
            self._seen[queue] = self._clock()
        if not self._is_free_for(queue):
            self._waiting.append((callback, args, more))
            return False
        self.value -= 1
        callback(*args, **more)
        return True

    def release(self) -> None:
        """Give back a place."""
        self.value = min(self.value + 1, self.initial_value)
        self.give()

    def give(self) -> None:
        """Give the free places to those that wait; to be called now and then, for a place is not kept for ever."""
        while self._waiting and self.value > 0:
            at = min(self._first(), default=None)
            if at is None:
                return
            callback, args, more = self._waiting[at[1]]
            del self._waiting[at[1]]
            self.value -= 1
            callback(*args, **more)

    def _first(self) -> Iterator[tuple[int, int]]:
        """Give the places that each queue has which may have another, and where its first job waits."""
        seen: set[str] = set()
        for at, (_, args, _) in enumerate(self._waiting):
            queue = queue_of(args)
            if queue not in seen and self._is_free_for(queue):
                yield self._taken(queue), at
            seen.add(queue)

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
