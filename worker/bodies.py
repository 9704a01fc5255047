"""Threads that run the bodies of tasks: one may be interrupted, and one that is stuck is replaced.

Stage: under :mod:`worker.finishing`. Nothing here knows Celery.
"""

import ctypes
import queue
import threading
import time
from collections.abc import Callable


class Interrupted(BaseException):
    """Raised inside a body whose job was terminated or met its hard time limit.

    Not an ``Exception``: Celery's tracer then stores no outcome over the one that Celery has stored already.
    """


class Body:
    """A stretch of code that another thread may interrupt. Thread-safe.

    The lock makes sure that an exception is raised only in the thread that is inside, never in whatever that thread
    does afterwards: what was raised too late to arrive is taken back on leaving.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread_id: int | None = None
        self._since = 0.0
        self._given_up = False

    def enter(self) -> None:
        """Say that the calling thread is inside."""
        with self._lock:
            self._thread_id = threading.get_ident()
            self._since = time.monotonic()

    def leave(self) -> None:
        """Say that the calling thread is inside no more."""
        with self._lock:
            if self._thread_id is not None:
                _raise_in(self._thread_id, None)
                self._thread_id = None

    def interrupt(self, error: type[BaseException]) -> bool:
        """Raise ``error`` in the thread that is inside, as soon as it runs Python code; False when none is inside."""
        with self._lock:
            if self._thread_id is None:
                return False
            _raise_in(self._thread_id, error)
            return True

    def give_up(self, error: type[BaseException], *, older_than_s: float = 0.0) -> bool:
        """Interrupt it for good; False when no thread is inside, or only for less than ``older_than_s``."""
        with self._lock:
            if self._thread_id is None or time.monotonic() - self._since < older_than_s:
                return False
            self._given_up = True
            _raise_in(self._thread_id, error)
            return True

    @property
    def given_up(self) -> bool:
        """Whether nobody waits for the thread any more."""
        return self._given_up


class Finishers:
    """Threads that do one piece of work after the other. Thread-safe.

    They are daemons: one that is stuck in C keeps no process from ending.
    """

    def __init__(self, count: int) -> None:
        self._work: queue.SimpleQueue[Callable[[], bool]] = queue.SimpleQueue()
        for _ in range(count):
            self.add()

    def add(self) -> None:
        """Start one more, in the place of one that is stuck."""
        threading.Thread(target=self._do, name="finish", daemon=True).start()

    def submit(self, work: Callable[[], bool]) -> None:
        """Have one of them call ``work()``, which must not raise; False from it ends the thread, which was replaced."""
        self._work.put(work)

    def _do(self) -> None:
        while self._work.get()():
            pass


def _raise_in(thread_id: int, error: type[BaseException] | None) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), error and ctypes.py_object(error))
