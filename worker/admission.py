"""Who may run beside whom: a job that may have ended a worker runs alone, and few pictures are in tiles at once.

Stage: inside :mod:`worker.entrance`, between a job's arrival and its decoding. When a process dies, all jobs it held
are suspect and only one is guilty. Each then runs alone once: what ends a worker while it runs alone is the culprit.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future

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


class Turn(Future[None]):
    """Somebody's place in a line; it fails when it is given up, and else never settles. Thread-safe."""

    def __init__(self, go: Callable[[], bool]) -> None:
        super().__init__()
        self.go = go
        self._lock = threading.Lock()
        self._over = False
        self.set_running_or_notify_cancel()

    def cancel(self) -> bool:
        """Leave the line; False when the turn has come."""
        if not self.take():
            return False
        self.set_exception(CancelledError())
        return True

    def take(self) -> bool:
        """End the waiting, once; False when it has ended."""
        with self._lock:
            over, self._over = self._over, True
        return not over


class Line:
    """Lets in a few at once, in the order in which they come; the others wait without a thread. Thread-safe."""

    def __init__(self, at_once: int) -> None:
        self._lock = threading.Lock()
        self._free = at_once
        self._waiting: deque[Turn] = deque()

    def enter(self, turn: Turn) -> None:
        """Call ``turn.go`` now, or later from a thread that calls :meth:`leave`; what it lets go, must leave, once.

        ``go`` says False when it did not begin, and then need not leave.
        """
        with self._lock:
            self._waiting.append(turn)
        self._let_in()

    def leave(self) -> None:
        """Say that one has ended."""
        with self._lock:
            self._free += 1
        self._let_in()

    def _let_in(self) -> None:
        while (turn := self._next()) is not None:
            if not turn.go():
                with self._lock:
                    self._free += 1

    def _next(self) -> Turn | None:
        with self._lock:
            while self._free and self._waiting:
                turn = self._waiting.popleft()
                if turn.take():
                    self._free -= 1
                    return turn
        return None
