"""What the workers' events say: who has done how much in the last seconds, and what failed.

Stage: under ``fleet top``. Neighbours: :mod:`producer.top` feeds it with Celery's events and shows it. Knows no Celery.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: Seconds over which rates are taken, and number of steps of the history.
WINDOW_S = 10.0
HISTORY = 60

#: Failures that are remembered.
FAILURES = 8


@dataclass(slots=True)
class Doing:
    """What one worker has done since somebody looks.

    Attributes:
        succeeded: moments of its last successes, by the looker's clock.
        failed: likewise of failures.
        active: jobs it held at its last heartbeat; load likewise, of its host.
    """

    succeeded: deque[float] = field(default_factory=deque)
    failed: deque[float] = field(default_factory=deque)
    active: int | None = None
    load: float | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """One job that failed."""

    at: float
    worker: str
    job: str
    why: str


class Happenings:
    """Counts events. Thread-safe: one thread sees, another looks."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._workers: dict[str, Doing] = {}
        self._failures: deque[Failure] = deque(maxlen=FAILURES)
        self._per_second: deque[tuple[int, int]] = deque(maxlen=HISTORY)
        self.listens = False

    def see(self, event: Mapping[str, Any]) -> None:
        """Take in one event; whatever it lacks is left out."""
        kind, worker, now = event.get("type"), str(event.get("hostname", "?")), self._clock()
        with self._lock:
            doing = self._workers.setdefault(worker, Doing())
            if kind == "task-succeeded":
                doing.succeeded.append(now)
                self._count(now)
            elif kind == "task-failed":
                doing.failed.append(now)
                self._count(now)
                self._failures.append(Failure(now, worker, str(event.get("uuid")), str(event.get("exception"))))
            elif kind == "worker-heartbeat":
                doing.active = event.get("active")
                doing.load = (event.get("loadavg") or [None])[0]
            elif kind == "worker-offline":
                del self._workers[worker]

    def _count(self, now: float) -> None:
        second = int(now)
        if self._per_second and self._per_second[-1][0] == second:
            second, count = self._per_second.pop()
            self._per_second.append((second, count + 1))
        else:
            self._per_second.append((second, 1))

    def rates(self) -> dict[str, tuple[float, float]]:
        """Give jobs that succeeded and failed per second, by worker, over the last :data:`WINDOW_S`."""
        since = self._clock() - WINDOW_S
        with self._lock:
            for doing in self._workers.values():
                for moments in (doing.succeeded, doing.failed):
                    while moments and moments[0] < since:
                        moments.popleft()
            return {
                name: (len(doing.succeeded) / WINDOW_S, len(doing.failed) / WINDOW_S)
                for name, doing in self._workers.items()
            }

    def heartbeats(self) -> dict[str, tuple[int | None, float | None]]:
        """Give jobs in hand and load of the host, by worker, as of its last heartbeat."""
        with self._lock:
            return {name: (doing.active, doing.load) for name, doing in self._workers.items()}

    def failures(self) -> list[Failure]:
        """Give the last failures, the newest first."""
        with self._lock:
            return list(reversed(self._failures))

    def history(self) -> list[int]:
        """Give the jobs that ended in each of the last :data:`HISTORY` whole seconds, the oldest first."""
        last = int(self._clock()) - 1
        with self._lock:
            counts = dict(self._per_second)
        return [counts.get(second, 0) for second in range(last - HISTORY + 1, last + 1)]
