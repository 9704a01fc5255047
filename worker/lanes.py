"""Decode threads with a lane for each model: one whose network is busy holds up no other.

Stage: under :mod:`worker.detector`. A decode thread waits while all requests of a network are in flight, which is the
back-pressure; with one line for all, a slow network's images would soon have every thread wait, and a fast one's behind
them.
"""

import logging
import queue
import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, NamedTuple

logger = logging.getLogger(__name__)


class _Piece(NamedTuple):
    """``work(*args)``; or ``work([arg, ...])``, with what waits behind it for the same work, if it ``gathers``."""

    work: Callable[..., object]
    args: tuple[Any, ...]
    gathers: bool

    def do(self, others: "list[_Piece]") -> None:
        if self.gathers:
            self.work([piece.args[0] for piece in (self, *others)])
        else:
            self.work(*self.args)


class Lanes:
    """Threads that take work from several lanes; the one with the fewest at work comes first. Thread-safe.

    Args:
        threads: how many there are.
        lanes: how many lanes are expected: so many threads less one are never all taken by a single lane.
        name: of the threads, a number behind it.
        together: most that :meth:`gather` hands over at once.
    """

    def __init__(self, threads: int, *, lanes: int = 1, name: str = "decode", together: int = 1) -> None:
        self._most = max(1, threads - lanes + 1)
        self._together = together
        self._lock = threading.Lock()
        self._waiting: dict[str, deque[_Piece]] = {}
        self._busy: Counter[str] = Counter()
        self._closed = False
        #: Wakes one thread for each piece of work; False ends one.
        self._calls: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._serve, name=f"{name}_{number}", daemon=True) for number in range(threads)
        ]
        for one in self._threads:
            one.start()

    def submit(self, lane: str, work: Callable[..., object], *args: Any, first: bool = False) -> None:
        """Have a thread call ``work(*args)``, before all else in the lane if it is ``first``; what it raises is logged.

        Raises:
            RuntimeError: the lanes are closed.
        """
        self._put(lane, _Piece(work, args, gathers=False), first=first)

    def gather(self, lane: str, work: Callable[[list[Any]], object], arg: object) -> None:
        """Have a thread call ``work`` with a list of ``arg`` and what waits behind it in the lane for the same work.

        Raises:
            RuntimeError: the lanes are closed.
        """
        self._put(lane, _Piece(work, (arg,), gathers=True))

    def _put(self, lane: str, piece: _Piece, *, first: bool = False) -> None:
        with self._lock:
            if self._closed:
                raise RuntimeError("the lanes are closed")
            waiting = self._waiting.setdefault(lane, deque())
            if first:
                waiting.appendleft(piece)
            else:
                waiting.append(piece)
        self._calls.put(True)

    def close(self) -> None:
        """Take no more work, and wait until what was submitted is done. Idempotent."""
        with self._lock:
            self._closed = True
        for _ in self._threads:
            self._calls.put(False)
        for one in self._threads:
            if one is not threading.current_thread():
                one.join()

    def _serve(self) -> None:
        goes_on = True
        while goes_on:
            goes_on = self._calls.get()
            # Work of a lane that has its most threads is left to these: each looks again when it has done one piece.
            while (found := self._take()) is not None:
                lane, piece, others = found
                try:
                    piece.do(others)
                except Exception:
                    logger.exception("lane.work_failed lane=%s", lane)
                del piece, others, found  # an idle thread keeps no image
                with self._lock:
                    self._busy[lane] -= 1

    def _take(self) -> tuple[str, _Piece, list[_Piece]] | None:
        """Return work that may be begun now: of the lane with the fewest at work, or that was served longest ago."""
        with self._lock:
            open_lanes = [lane for lane in self._waiting if self._busy[lane] < self._most]
            if not open_lanes:
                return None
            lane = min(open_lanes, key=self._busy.__getitem__)
            rest = self._waiting.pop(lane)
            piece, others = rest.popleft(), list[_Piece]()
            while piece.gathers and rest and rest[0][::2] == piece[::2] and len(others) + 1 < self._together:
                others.append(rest.popleft())
            if rest:
                self._waiting[lane] = rest  # behind the others
            self._busy[lane] += 1
            return lane, piece, others
