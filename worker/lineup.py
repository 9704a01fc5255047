"""Which versions of a model serve, and what share of the jobs each gets.

Stage: inside :mod:`worker.detector`, between a request's arrival and its decoding. A request gets its version once, for
all its images, and keeps it; a version that was replaced is let go when its last request has ended.
"""

import logging
import random
import threading
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from worker.batches import Requests
from worker.network import Network

logger = logging.getLogger(__name__)


class Serving:
    """One version at work: a network, its infer queue, and how many requests are with it. Thread-safe."""

    def __init__(self, network: Network, queue: Requests) -> None:
        self.network = network
        self.queue = queue
        self._lock = threading.Lock()
        self._users = 0
        self._retired = False
        self._empty = threading.Event()

    @property
    def label(self) -> str:
        """The version as an operator writes it."""
        return f"{self.network.spec.name}@{self.network.spec.version}"

    def enter(self) -> None:
        """Count a request that will use this version; only while it serves, under its lineup's lock."""
        with self._lock:
            self._users += 1

    def leave(self, _: "Future[Any] | None" = None) -> None:
        """Say that a request has ended. May run on any thread, so it only wakes who waits."""
        with self._lock:
            self._users -= 1
            last = self._retired and self._users == 0
        if last:
            self._empty.set()

    def retire(self, then: "Callable[[Serving], None]") -> None:
        """Let it go once its last request has ended: its queue is closed, ``then`` is called, and nothing holds it."""
        with self._lock:
            self._retired = True
            idle = self._users == 0
        if idle:
            self._empty.set()
        threading.Thread(target=self._drain, args=(then,), name=f"drain-{self.label}", daemon=True).start()

    def stop(self) -> None:
        """Close its queue now; what is in flight is cancelled."""
        self.queue.close()
        self._empty.set()

    def _drain(self, then: "Callable[[Serving], None]") -> None:
        self._empty.wait()
        self.queue.close()
        then(self)
        logger.info("version.released version=%s digest=%s", self.label, self.network.digest)


@dataclass(frozen=True, slots=True)
class Share:
    """A version that serves and the part of the jobs that it gets, 0 to 1."""

    serving: Serving
    share: float


class Lineup:
    """The versions of one model that serve: one, and perhaps another beside it for a share of the jobs. Thread-safe."""

    def __init__(self, current: Serving) -> None:
        self._lock = threading.Lock()
        self._current = current
        self._canary: Serving | None = None
        self._share = 0.0
        self._leaving: list[Serving] = []

    @property
    def current(self) -> Serving:
        """The version that most jobs get."""
        return self._current

    def shares(self) -> list[Share]:
        """Give the versions that serve, the current one first."""
        with self._lock:
            beside = [] if self._canary is None else [Share(self._canary, self._share)]
            return [Share(self._current, 1.0 - sum(one.share for one in beside)), *beside]

    def leaving(self) -> list[Serving]:
        """Give the versions that were replaced and still have requests."""
        with self._lock:
            return list(self._leaving)

    def take(self, job_id: str) -> Serving:
        """Choose a version for a job and count the job there; :meth:`Serving.leave` ends that.

        A job that comes again, to whichever worker, gets the same version again.
        """
        with self._lock:
            chosen = self._current
            if self._canary is not None and _place(job_id) < self._share:
                chosen = self._canary
            chosen.enter()
            return chosen

    def take_all(self) -> list[Serving]:
        """Count one request with every version that serves."""
        with self._lock:
            taken = [one for one in (self._current, self._canary) if one is not None]
            for one in taken:
                one.enter()
            return taken

    def set(self, current: Serving, canary: Serving | None = None, share: float = 0.0) -> None:
        """Serve with these from the next request on; the others are let go when their last request has ended."""
        with self._lock:
            before = {self._current, self._canary} - {None}
            self._current, self._canary, self._share = current, canary, share if canary else 0.0
            gone = [one for one in before if one is not None and one not in (current, canary)]
            self._leaving += gone
        for one in gone:
            one.retire(self._forget)

    def _forget(self, gone: Serving) -> None:
        with self._lock:
            self._leaving.remove(gone)

    def stop(self) -> None:
        """Close every version's queue; every request settles."""
        for one in (*self.leaving(), *(share.serving for share in self.shares())):
            one.stop()

    def stats(self) -> dict[str, Any]:
        """Say what serves and how busy it is, as plain JSON; the plain fields are of the current version."""
        current, shares, leaving = self._current, self.shares(), self.leaving()
        served = [_stats(one.serving) | {"share": round(one.share, 4), "draining": False} for one in shares]
        return {
            **_stats(current),
            "versions": served + [_stats(one) | {"share": 0.0, "draining": True} for one in leaving],
        }


def _stats(one: Serving) -> dict[str, Any]:
    return {
        "version": one.network.spec.version,
        "digest": one.network.digest,
        "requests": one.queue.size,
        "in_flight": one.queue.in_flight,
    }


def _place(job_id: str) -> float:
    """Place a job between 0 and 1, evenly and always alike."""
    if not job_id:
        return random.random()  # noqa: S311 - nothing is kept secret with it
    return zlib.crc32(job_id.encode("utf-8", "replace")) / 2**32


def find(lineups: Iterable[Lineup], model: str, version: int, digest: str) -> Serving | None:
    """Find a version among those that serve."""
    for lineup in lineups:
        for one in lineup.shares():
            network = one.serving.network
            if (network.spec.name, network.spec.version, network.digest) == (model, version, digest):
                return one.serving
    return None
