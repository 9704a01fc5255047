"""Who waits for which result, until when.

Stage: between the conversation that reads results (:mod:`producer.reading`) and the jobs that want them. One table
serves a client however many jobs it has outstanding; every operation costs the same with 1 and with 10,000.
"""

import heapq
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from producer.clock import ServerClock
from producer.errors import DeadlineExceeded
from producer.results import GRACE_S, Outcome

#: A result that was read but not deleted is kept this long, so that it can be read once more.
READ_TTL_S = 60

#: What a job not of our making may take at most, counted from when it was picked up.
UNKNOWN_DEADLINE_S = 600.0


class Promise(Protocol):
    """What ``concurrent.futures.Future`` and ``asyncio.Future`` have in common here."""

    def done(self) -> bool:
        """Tell whether it has an outcome."""
        ...

    def set_result(self, result: Outcome, /) -> None:
        """Give it its outcome."""
        ...

    def result(self) -> Outcome:
        """Return its outcome, once it has one."""
        ...

    def add_done_callback(self, call: Callable[[Any], object], /) -> None:
        """Have ``call`` called with it once it has an outcome."""
        ...


F = TypeVar("F", bound=Promise)


@dataclass(slots=True)
class _Entry(Generic[F]):
    promise: F
    overdue_at: float
    foreign: bool


class Waiting(Generic[F]):
    """The table of outstanding jobs. Thread-safe; a promise is kept outside the lock."""

    def __init__(self, client_id: str, new_promise: Callable[[], F], clock: ServerClock | None = None) -> None:
        """Start empty; ``client_id`` tells own jobs from those picked up, ``clock`` is the one of the deadlines."""
        self.client_id = client_id
        self.clock = clock or ServerClock()
        self.closed = False
        #: Whether own jobs, too, are listened to each on its own channel.
        self.one_by_one = False
        self._new_promise = new_promise
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry[F]] = {}
        self._by_time: list[tuple[float, str]] = []
        self._to_join: list[str] = []
        self._to_leave: list[str] = []
        self._read: list[str] = []
        self._used: list[str] = []
        self._abandoned: dict[str, int | None] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, job_id: str, deadline_at: float | None) -> F:
        """Wait for ``job_id`` and return its promise; the one there is when somebody waits already.

        Args:
            job_id: the job.
            deadline_at: seconds since 1970 by Redis's clock; None when it is not known.
        """
        overdue_at = self._overdue_at(deadline_at)
        with self._lock:
            found = self._entries.get(job_id)
            if found is not None:
                return found.promise
            foreign = self.one_by_one or not job_id.startswith(f"{self.client_id}-")
            entry = self._entries[job_id] = _Entry(self._new_promise(), overdue_at, foreign)
            heapq.heappush(self._by_time, (overdue_at, job_id))
            if foreign:
                self._to_join.append(job_id)
            return entry.promise

    def extend(self, job_id: str, deadline_at: float) -> None:
        """Wait for ``job_id`` longer than its id says: until ``deadline_at``, seconds since 1970 by Redis's clock."""
        with self._lock:
            entry = self._entries.get(job_id)
            if entry is not None:
                entry.overdue_at = max(entry.overdue_at, self._overdue_at(deadline_at))
                heapq.heappush(self._by_time, (entry.overdue_at, job_id))

    def _overdue_at(self, deadline_at: float | None) -> float:
        left_s = UNKNOWN_DEADLINE_S if deadline_at is None else deadline_at - self.clock.now()
        return time.monotonic() + max(0.0, left_s) + GRACE_S

    def listen_one_by_one(self) -> None:
        """From now on treat own jobs like those of other clients."""
        with self._lock:
            self.one_by_one = True
            for entry in self._entries.values():
                entry.foreign = True

    def drop(self, job_id: str) -> None:
        """Wait for ``job_id`` no more; its promise stays open."""
        with self._lock:
            self._entries.pop(job_id, None)

    def abandon(self, jobs: Mapping[str, int | None]) -> None:
        """Wait for ``jobs`` no more, and have them cancelled when next there is time.

        Args:
            jobs: id -> number of images, as :func:`producer.dispatch.cancel` wants to know it.
        """
        with self._lock:
            for job_id in jobs:
                self._entries.pop(job_id, None)
            self._abandoned.update(jobs)

    def take_abandoned(self) -> dict[str, int | None]:
        """Return, once, the jobs to cancel."""
        with self._lock:
            jobs, self._abandoned = self._abandoned, {}
        return jobs

    def settle(self, job_id: str, outcome: Outcome) -> bool:
        """Give ``job_id`` its outcome; False when nobody waits for it (any more)."""
        with self._lock:
            entry = self._entries.pop(job_id, None)
            if entry is None:
                return False
            if entry.foreign:
                self._to_leave.append(job_id)
            if len(self._by_time) > 2 * len(self._entries) + 1000:
                self._by_time = [(one.overdue_at, name) for name, one in self._entries.items()]
                heapq.heapify(self._by_time)
        if not entry.promise.done():
            entry.promise.set_result(outcome)
        return True

    def ids(self) -> list[str]:
        """Return every job that is outstanding."""
        with self._lock:
            return list(self._entries)

    def foreign_ids(self) -> list[str]:
        """Return the outstanding jobs of other clients; nothing is left to join after this."""
        with self._lock:
            self._to_join.clear()
            self._to_leave.clear()
            return [job_id for job_id, entry in self._entries.items() if entry.foreign]

    def take_overdue(self, now: float) -> list[str]:
        """Return, once, the jobs whose deadline and grace have passed at monotonic time ``now``."""
        found = []
        with self._lock:
            while self._by_time and self._by_time[0][0] <= now:
                job_id = heapq.heappop(self._by_time)[1]
                entry = self._entries.get(job_id)
                if entry is not None and entry.overdue_at <= now:
                    found.append(job_id)
        return found

    def give_up(self, job_ids: list[str]) -> None:
        """Fail ``job_ids`` with :class:`producer.errors.DeadlineExceeded`."""
        for job_id in job_ids:
            self.settle(job_id, DeadlineExceeded())

    def collected(self, job_id: str, *, final: bool) -> None:
        """Note that a result was read: a ``final`` reader needs it no more, another may come back for it."""
        with self._lock:
            (self._used if final else self._read).append(job_id)

    def take_collected(self) -> tuple[list[str], list[str]]:
        """Return, once, the results to delete and those to keep for :data:`READ_TTL_S`."""
        with self._lock:
            used, read = self._used, self._read
            self._used, self._read = [], []
        return used, read

    def take_moves(self) -> tuple[list[str], list[str]]:
        """Return, once, the foreign jobs whose channels are to be joined and to be left."""
        if not self._to_join and not self._to_leave:
            return [], []
        with self._lock:
            join, leave = self._to_join, self._to_leave
            self._to_join, self._to_leave = [], []
        return [job_id for job_id in join if job_id in self._entries], leave
