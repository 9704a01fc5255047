"""Whose turn it is: models that one worker serves get places beside each other, however long one's queue is.

Stage: between :mod:`worker.broker`, which asks first for the queue of which least is held, and :mod:`worker.pool`,
whose places are given here. Behind them :mod:`worker.lanes` does the same for decode threads, and :mod:`worker.shares`
for inferences.

Mirrors ``celery.worker.components.Pool`` of celery 5.7, which makes the semaphore, and
``kombu.asynchronous.semaphore.LaxBoundedSemaphore`` of kombu 5.7.
"""

from collections.abc import Callable
from typing import Any

from celery import bootsteps
from kombu.asynchronous.semaphore import LaxBoundedSemaphore


class FairPlaces(LaxBoundedSemaphore):
    """Celery's semaphore, whose free place goes to the queue that has fewest; in a queue the first comes first.

    Celery's own serves in the order of arrival. Jobs of a slow model then take all places in time, and those of a fast
    one wait behind them. Belongs to the loop thread.

    Args:
        value: how many places there are.
        taken: tells how many of them a queue's jobs have.
    """

    def __init__(self, value: int, taken: Callable[[str], int]) -> None:
        super().__init__(value)
        self._taken = taken
        self._pop_waiter = self._pop_fairly

    def _pop_fairly(self) -> Any:
        """Take out who comes next; ``IndexError`` when nobody waits."""
        first: dict[str, int] = {}
        for at, (_, args, _) in enumerate(self._waiting):
            first.setdefault(queue_of(args), at)
        at = min(first.items(), key=lambda one: self._taken(one[0]), default=("", 0))[1]
        waiter = self._waiting[at]
        del self._waiting[at]
        return waiter


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
