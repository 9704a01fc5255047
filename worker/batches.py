"""Several pictures per inference, for devices that want it: ``FLEET_BATCH``.

Stage: in the place of :class:`worker.infer_queue.InferQueue`, above two of them: one runs the network for a picture,
the other for a batch. A batch is filled by what comes while an inference runs, and starts when it is full, when nothing
runs, or when its first picture has waited for ``wait_s``; so a picture that comes alone never waits. What is left of a
batch that starts early is black; where less than half of it would be filled, each picture goes by itself.
"""

import functools
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from typing import Any, TypeAlias, cast

import numpy as np

from worker.infer_queue import InferQueue
from worker.inference import Array, Inference, InferenceError, QueueClosedError

logger = logging.getLogger(__name__)


class _Batch:
    """Pictures that go through the network together."""

    def __init__(self, seats: Sequence[Inference]) -> None:
        self.seats = seats
        self.tensors = [seat.tensor for seat in seats if seat.tensor is not None]
        self.flight: Inference | None = None


class BatchQueue:
    """Collects pictures and keeps inferences of several in flight. Thread-safe, and used as an ``InferQueue`` is.

    Args:
        single: runs the network for one picture.
        many: runs it for ``most`` pictures, with an output for each.
        most: pictures of a full batch.
        wait_s: longest wait of a picture for others.
    """

    def __init__(self, single: InferQueue, many: InferQueue, *, most: int, wait_s: float) -> None:
        self.size = many.size * most
        self._single, self._many = single, many
        self._most, self._wait_s = most, wait_s
        self._change = threading.Condition(threading.RLock())
        self._waiting: deque[Inference] = deque()
        self._again: deque[Inference] = deque()  # those of a batch that failed, each to be run by itself
        self._open: dict[Inference, _Batch | None] = {}
        self._running = 0
        self._due = 0.0
        self._closed = False
        self._collector = threading.Thread(target=self._collect, name="batches", daemon=True)
        self._collector.start()

    @property
    def in_flight(self) -> int:
        """Number of pictures that were submitted and are not settled."""
        with self._change:
            return len(self._open) + self._single.in_flight - self._alone()

    @property
    def free(self) -> int:
        """Number of inferences that can be started at once."""
        return self._many.free

    def submit(self, tensor: Array, *, timeout_s: float | None = None) -> Inference:
        """Take a picture; wait while a whole batch waits already, which is the back-pressure.

        With ``timeout_s`` it goes by itself, as ``InferQueue.submit`` says, which also names the errors.
        """
        if timeout_s is not None:
            return self._single.submit(tensor, timeout_s=timeout_s)
        tensor = self._single.check(tensor)
        seat = Inference(tensor, 0.0, -1, self._give_up)
        with self._change:
            self._change.wait_for(lambda: self._closed or len(self._waiting) < self._most)
            if self._closed:
                raise QueueClosedError("the infer queue is closed")
            if not self._waiting:
                self._due = time.monotonic() + self._wait_s
            self._waiting.append(seat)
            self._open[seat] = None
            self._change.notify_all()
        return seat

    def close(self, *, timeout_s: float = 5.0) -> None:
        """Refuse new pictures, give up those that are not settled, and close both queues. Idempotent."""
        with self._change:
            self._closed = True
            left = list(self._open)
            self._waiting.clear()
            self._again.clear()
            self._change.notify_all()
        for seat in left:
            seat.cancel()
        self._many.close(timeout_s=timeout_s)
        self._single.close(timeout_s=timeout_s)
        if threading.current_thread() is not self._collector:
            self._collector.join(timeout_s)

    # --------------------------------------------------------------------------------------------- the collector

    def _collect(self) -> None:
        while (batch := self._next()) is not None:
            if batch.seats:
                self._start(batch)
            del batch  # the next may be long in coming

    def _next(self) -> _Batch | None:
        """Wait until a batch is due; None when the queue is closed."""
        with self._change:
            while not self._closed:
                if self._again:
                    return self._begin([self._again.popleft()])
                left_s = self._due - time.monotonic()
                if self._waiting and (len(self._waiting) >= self._most or not self._running or left_s <= 0):
                    taken = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
                    if 2 * len(taken) < self._most:
                        self._again += taken[1:]
                        taken = taken[:1]
                    self._due = time.monotonic() + self._wait_s
                    self._change.notify_all()
                    return self._begin(taken)
                self._change.wait(left_s if self._waiting else None)
            return None

    def _begin(self, seats: Sequence[Inference]) -> _Batch:
        batch = _Batch([seat for seat in seats if seat in self._open])
        self._running += bool(batch.seats)
        return batch

    def _start(self, batch: _Batch) -> None:
        """Start the inference; waits for a free request."""
        try:
            if len(batch.seats) == 1:
                flight = self._single.submit(batch.tensors[0])
            else:
                flight = self._many.submit(self._stack(batch.tensors))
        except Exception as error:  # noqa: BLE001 - such as no memory; it is these pictures' answer
            self._ended()
            known = isinstance(error, InferenceError | QueueClosedError)
            for seat in batch.seats:
                why = error.with_traceback(None) if known else InferenceError(f"The batch was not started: {error!r}")
                self._settle(seat, error=why)
            return
        with self._change:
            batch.flight = flight
            self._open |= {seat: batch for seat in batch.seats if seat in self._open}
        flight.add_done_callback(functools.partial(self._landed, batch))
        self._stop_if_unwanted(batch)

    def _stack(self, tensors: Sequence[Array]) -> Array:
        return np.concatenate([*tensors, *[np.zeros_like(tensors[0])] * (self._most - len(tensors))])

    # ------------------------------------------------------------------------- completion thread, or any other

    def _landed(self, batch: _Batch, done: "Future[Any]") -> None:
        """Hand each picture its rows; where a batch failed, run each by itself, for one of them may be the reason."""
        self._ended()
        flight = cast(Inference, done)
        batch.flight = None  # a ring: a settled future keeps its callbacks, and this one the batch
        problem = done.exception()
        if isinstance(problem, InferenceError) and len(batch.seats) > 1:
            logger.warning("batch.failed pictures=%d error=%s", len(batch.seats), problem)
            with self._change:
                self._again += [seat for seat in batch.seats if seat in self._open]
                self._change.notify_all()
            return
        rows = [None] if problem is not None else [done.result()] if len(batch.seats) == 1 else done.result()
        for seat, found in zip(batch.seats, itertools.cycle(rows), strict=False):
            seat.waited_s += max(0.0, flight.started - seat.started)
            seat.started, seat.infer_s, seat.slot = flight.started, flight.infer_s, flight.slot
            self._settle(seat, found, problem)

    def _ended(self) -> None:
        with self._change:
            self._running -= 1
            self._change.notify_all()

    def _settle(self, seat: Inference, rows: Array | None = None, error: BaseException | None = None) -> bool:
        """Settle a picture, once, with rows or an error."""
        with self._change:
            if seat not in self._open:
                return False
            del self._open[seat]
        seat.tensor = None
        if rows is not None:
            seat.set_result(rows)
        else:
            seat.set_exception(error)
        return True

    def _give_up(self, seat: Inference) -> bool:
        """Cancel a picture; the inference of a batch is given up with its last one."""
        with self._change:
            batch = self._open.get(seat)
            if seat in self._waiting:
                self._waiting.remove(seat)
                self._change.notify_all()
        given_up = self._settle(seat, error=CancelledError())
        if batch is not None:
            self._stop_if_unwanted(batch)
        return given_up

    def _stop_if_unwanted(self, batch: _Batch) -> None:
        flight = batch.flight
        if flight is not None and all(seat.done() for seat in batch.seats):
            flight.cancel()

    def _alone(self) -> int:
        """How many of ours the queue for single pictures counts as well."""
        return sum(batch is not None and len(batch.seats) == 1 for batch in self._open.values())


#: What a version of a network is served by.
Requests: TypeAlias = InferQueue | BatchQueue
