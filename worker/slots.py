"""The infer requests of a queue: which is free, which runs what, and which does not end.

Stage: under :mod:`worker.infer_queue`, which starts the requests and looks after them.
"""

import queue
import threading
import time
from typing import Any

from worker.inference import Inference, QueueClosedError


class Slot:
    """One infer request: free, running ``flight``, or running ``stopping``, which was given up."""

    __slots__ = ("flight", "number", "request", "run", "stopping", "stopping_since")

    def __init__(self, number: int, request: Any) -> None:
        self.number = number
        self.request = request
        self.flight: Inference | None = None
        self.run: list[tuple[Slot, Inference]] = []  # what OpenVINO's callback is given; empty when that has ended
        self.stopping: Inference | None = None
        self.stopping_since = 0.0

    def is_at_rest(self) -> bool:
        """Tell, without waiting, whether the request runs nothing."""
        return _is_at_rest(self.request)


class Slots:
    """A fixed number of infer requests of one compiled network, each with one flight at a time. Thread-safe.

    Args:
        compiled: the compiled network.
        number: of requests.
    """

    def __init__(self, compiled: Any, number: int) -> None:
        self._lock = threading.Lock()
        self._all = {Slot(place, compiled.create_infer_request()) for place in range(number)}
        # As many again, made now: to make one later waits for the very inference that does not end.
        self._spares = [compiled.create_infer_request() for _ in range(number)]
        self._abandoned: list[Any] = []
        self._free: queue.SimpleQueue[Slot | None] = queue.SimpleQueue()
        for slot in self._all:
            self._free.put(slot)
        self._closed = False
        self._callbacks_due = 0

    @property
    def free(self) -> int:
        """Number of requests that can be started at once."""
        return self._free.qsize()

    @property
    def closed(self) -> bool:
        """Whether nothing can be started any more."""
        return self._closed

    @property
    def callbacks_due(self) -> int:
        """Number of callbacks that OpenVINO has still to make."""
        return self._callbacks_due

    @property
    def abandoned(self) -> int:
        """Number of requests that were replaced and still run."""
        return len(self._abandoned)

    def running(self) -> list[tuple[Slot, Inference]]:
        """Give the slots whose flight somebody waits for."""
        with self._lock:
            return [(slot, slot.flight) for slot in self._all if slot.flight is not None]

    def stopping(self) -> list[tuple[Slot, Inference]]:
        """Give the slots whose flight was given up and has not ended."""
        with self._lock:
            return [(slot, slot.stopping) for slot in self._all if slot.stopping is not None]

    def take(self, timeout_s: float | None) -> Slot:
        """Wait for a free slot and take it.

        Raises:
            QueueClosedError: the slots are closed, or were while waiting.
            TimeoutError: none became free in time.
        """
        if self._closed:
            raise QueueClosedError("the infer queue is closed")
        try:
            slot = self._free.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError(f"no infer request became free within {timeout_s} s") from None
        if slot is None or self._closed:
            self._free.put(None)  # the next one that waits must wake too
            raise QueueClosedError("the infer queue is closed")
        return slot

    def begin(self, slot: Slot, flight: Inference) -> None:
        """Note that ``slot`` is about to run ``flight``, of which OpenVINO will call back.

        Raises:
            QueueClosedError: :meth:`close` has not seen this flight, so it must not start.
        """
        with self._lock:
            if self._closed:
                raise QueueClosedError("the infer queue is closed")
            slot.flight = flight
            self._callbacks_due += 1

    def count_callback(self) -> None:
        """Note that a callback was made, or will not be."""
        with self._lock:
            self._callbacks_due -= 1

    def release(self, slot: Slot, flight: Inference) -> bool:
        """Free ``slot`` if it still runs ``flight``; False when the flight was given up or settled before."""
        with self._lock:
            answered = slot.flight is flight
            if not answered and slot.stopping is not flight:
                return False
            slot.flight = slot.stopping = None
            slot.run.clear()  # the request keeps the list until its next run, which may be long in coming
        self._free.put(slot)
        return answered

    def give_up(self, flight: Inference) -> bool:
        """Keep the slot of ``flight`` until its run has ended, for nobody; False when it has none any more."""
        with self._lock:
            slot = next((slot for slot in self._all if slot.flight is flight), None)
            if slot is None:
                return False
            slot.flight, slot.stopping = None, flight
            slot.stopping_since = time.monotonic()
        return True

    def replace(self, slot: Slot, flight: Inference) -> bool:
        """Put a spare request in the place of one whose run does not end; that one is a spare when it has ended."""
        with self._lock:
            if slot.stopping is not flight or not self._spares:
                return False
            fresh = Slot(slot.number, self._spares.pop())
            slot.stopping = None
            slot.run.clear()
            self._all.discard(slot)
            self._all.add(fresh)
            self._abandoned.append(slot.request)
        self._free.put(fresh)
        return True

    def recover(self) -> None:
        """Make spares of the requests that were replaced and have ended. Of one thread, that which replaces."""
        rested = [request for request in self._abandoned if _is_at_rest(request)]
        self._abandoned = [request for request in self._abandoned if request not in rested]
        self._spares += rested

    def close(self) -> list[Inference]:
        """Let nothing start any more, wake who waits for a slot, and return what is in flight."""
        with self._lock:
            self._closed = True
            flights = [slot.flight for slot in self._all if slot.flight is not None]
        self._free.put(None)
        return flights

    def let_go(self) -> None:
        """Free the requests, and with the last of them the compiled network's memory; not while a callback is due.

        A request holds its callback, which holds the request: a ring through OpenVINO that Python's collector cannot
        see.
        """
        with self._lock:
            if self._callbacks_due > 0:
                return
            for slot in self._all:
                slot.request = None
            self._spares.clear()


def _is_at_rest(request: Any) -> bool:
    try:
        return bool(request.wait_for(0))
    except Exception:  # noqa: BLE001 - a failed request is at rest
        return True
