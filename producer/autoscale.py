"""How many workers a backlog needs.

Stage: under :mod:`producer.cli_autoscale`. :func:`read` looks into Redis, :class:`Scaler` decides, and
nothing is done here.
"""

import math
from collections import deque
from dataclasses import dataclass, field

from redis import Redis

from producer.status import read_status
from producer.wire import model_of


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is to be done.

    Attributes:
        waiting: jobs in the queues of all models.
        held: jobs that workers have and have not ended.
        oldest_s: seconds since the oldest waiting job was sent; 0 when none waits, or it does not say.
    """

    waiting: int
    held: int
    oldest_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Rules:
    """What the number of workers follows from.

    Attributes:
        least: workers there are always.
        most: workers there are at most.
        jobs_per_worker: waiting and held jobs that one worker is there for.
        oldest_s: a job that has waited longer asks for one worker more.
        calm_s: so long it must have been calmer before workers go.
    """

    least: int = 1
    most: int = 4
    jobs_per_worker: int = 40
    oldest_s: float = 5.0
    calm_s: float = 60.0


@dataclass(slots=True)
class Scaler:
    """Decides from one reading to the next. Up at once, at most to the double and one; down after a time of calm."""

    rules: Rules
    _wishes: deque[tuple[float, int]] = field(default_factory=deque)

    def decide(self, backlog: Backlog, workers: int, now: float) -> int:
        """Return how many workers there shall be.

        Args:
            backlog: as it is.
            workers: how many there are.
            now: in seconds, by any clock that does not jump.
        """
        rules = self.rules
        wish = math.ceil((backlog.waiting + backlog.held) / rules.jobs_per_worker)
        if backlog.waiting and backlog.oldest_s > rules.oldest_s:
            wish = max(wish, workers + 1)
        wish = min(max(wish, rules.least), rules.most)
        self._wishes.append((now, wish))
        while self._wishes[0][0] < now - rules.calm_s:
            self._wishes.popleft()
        if wish > workers:
            return min(wish, 2 * workers + 1)
        highest = max(wished for _, wished in self._wishes)
        return max(rules.least, min(workers, highest, rules.most))


def read(redis: Redis) -> Backlog:
    """Read the backlog of all models; two round trips, however long it is."""
    status = read_status(redis)
    queues = [one for one in status.queues if model_of(one.queue) is not None]
    oldest_s = max((one.oldest_s or 0.0 for one in queues), default=0.0)
    return Backlog(sum(one.waiting for one in queues), status.in_flight, oldest_s)
