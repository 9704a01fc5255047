"""The jobs that a worker has in hand, and the places they give back to Celery's semaphore.

Stage: under :mod:`worker.pool`. Neighbour: :mod:`worker.turns`, which gives the places away. A place is freed where its
job ends, but given away only when all that has ended meanwhile was told: whoever gets it calls the pool at once.

Mirrors celery 5.7 ``celery.worker.consumer.consumer.Consumer.on_close``, which frees all places when a connection is
lost.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from worker.jobs import Job


class InHand:
    """Belongs to the loop thread; other threads only ask: for a job, whether one is in hand, how many are of a queue.

    Args:
        options: the pool's; Celery's semaphore is in it, once there is one.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._jobs: dict[int, Job] = {}
        self._of: Counter[str] = Counter()
        self._freed = 0

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        """Give those of this moment; any of them may be let go meanwhile."""
        return iter(list(self._jobs.values()))

    def __contains__(self, job: Job) -> bool:
        return job.pid in self._jobs

    def get(self, pid: int) -> Job | None:
        """Return the job of that number, if it is in hand."""
        return self._jobs.get(pid)

    def of(self, queue: str) -> int:
        """Return how many are of a queue."""
        return self._of[queue]

    @property
    def is_mixed(self) -> bool:
        """Whether they are of several queues."""
        return sum(count > 0 for count in self._of.values()) > 1

    def take(self, job: Job) -> None:
        """Take a job, which has a place of the semaphore's."""
        self._jobs[job.pid] = job
        self._of[job.queue] += 1

    def let_go(self, job: Job) -> bool:
        """Free the job's place, to be given away by :meth:`give_places`; tell whether it still had one."""
        if self._jobs.pop(job.pid, None) is None:
            return False
        self._of[job.queue] -= 1
        self._freed += 1
        return True

    def give_places(self) -> None:
        """Give freed places to those that wait, which may take jobs and let them go in turn."""
        semaphore = self._options.get("semaphore")
        while self._freed:
            self._freed -= 1
            if semaphore is not None:
                semaphore.release()

    def take_places_again(self) -> None:
        """Take a place for each job: Celery has just freed all."""
        self._freed = 0
        if (semaphore := self._options.get("semaphore")) is not None:
            for _ in self._jobs:
                semaphore.acquire(_nothing)


def _nothing() -> None:
    pass
