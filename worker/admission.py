"""Who may run beside whom: a job that may have ended a worker runs alone.

Stage: inside :mod:`worker.detector`, between a job's arrival and its decoding. When a process dies, all jobs it held
are suspect and only one is guilty. Each then runs alone once: what ends a worker while it runs alone is the culprit.
"""

import threading
from collections import deque
from collections.abc import Callable

Go = Callable[[], None]


class Admission:
    """Lets jobs in together, or one alone. Never blocks; thread-safe.

    Suspects are served in their order, as soon as all jobs that run have ended; ordinary jobs that come meanwhile wait
    for them, so that a steady stream cannot keep a suspect out.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._alone = False
        self._suspects: deque[Go] = deque()
        self._others: deque[Go] = deque()

    def enter(self, go: Go, *, alone: bool = False) -> None:
        """Call ``go`` now, or later from a thread that calls :meth:`leave`. Each job that went must leave, once."""
        with self._lock:
            (self._suspects if alone else self._others).append(go)
        self._let_in()

    def leave(self) -> None:
        """Say that a job has ended."""
        with self._lock:
            self._running -= 1
            self._alone = False
        self._let_in()

    def _let_in(self) -> None:
        for go in self._chosen():
            go()

    def _chosen(self) -> list[Go]:
        with self._lock:
            if self._alone or (self._suspects and self._running):
                return []
            if self._suspects:
                self._alone, self._running = True, 1
                return [self._suspects.popleft()]
            chosen = list(self._others)
            self._others.clear()
            self._running += len(chosen)
            return chosen
