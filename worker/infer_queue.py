"""A fixed number of infer requests over one compiled network: ``submit(tensor) -> Inference``.

Stage: between decode, whose threads submit, and whoever waits for the outputs. No thread waits for an inference:
OpenVINO calls back, the callback copies the outputs, frees the request and settles the future.

Why not ``openvino.AsyncInferQueue``: there a callback that raises ends the process, a bad tensor leaks a slot for
ever, a failed inference never calls back, and ``start_async`` from two threads delivers results to the wrong job
(tests/hazards shows that this queue does none of it).
"""

import atexit
import ctypes
import logging
import queue
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov

logger = logging.getLogger(__name__)

Array = npt.NDArray[Any]

#: Longest wait in ``close`` for callbacks that OpenVINO has begun to make.
CALLBACKS_WITHIN_S = 1.0


#: What the calling thread of OpenVINO's remembers from one callback to the next.
_here = threading.local()


class TensorError(ValueError):
    """The tensor does not fit the network's input."""


class InferenceError(RuntimeError):
    """OpenVINO could not run the network on this tensor."""


class QueueClosedError(RuntimeError):
    """The queue was closed."""


class Inference(Future[Array]):
    """One tensor's way through the network; settles with a copy of the network's output, ``(n, 6+) float32``.

    Where the network has several, as one for a batch has (:mod:`worker.batches`), it is a list of them.

    Attributes:
        waited_s: how long ``submit`` waited for a free request.
        infer_s: from the start of the request to its completion; 0.0 until then.
        slot: number of the request that runs it, from 0.

    Thread-safe. Done callbacks run on OpenVINO's completion thread; after a failure on the queue's supervisor, after a
    cancel on the thread that cancelled. They must hand over and return.
    """

    def __init__(self, tensor: Array, waited_s: float, slot: int, abort: Callable[["Inference"], bool]) -> None:
        super().__init__()
        self.tensor: Array | None = tensor  # OpenVINO reads this memory while the request runs
        self.waited_s = waited_s
        self.slot = slot
        self.infer_s = 0.0
        self.started = time.monotonic()
        self.begun = False  # until then the request still shows the state of the run before
        self.seen_done = False
        self._abort = abort
        self.set_running_or_notify_cancel()

    def cancel(self) -> bool:
        """Give up: the future fails with ``CancelledError`` at once, and its request is free when the run has ended.

        OpenVINO's own ``InferRequest.cancel`` is never called. It leaves shapes of the stopped run behind in a graph
        whose shapes are dynamic, as behind non-maximum suppression, and later runs then give rows of another image
        (tests/hazards/test_facts.py).
        """
        return self._abort(self)


class _Slot:
    """One infer request: free, running ``flight``, or running ``stopping``, which was given up."""

    __slots__ = ("flight", "number", "request", "stopping", "stopping_since")

    def __init__(self, number: int, request: Any) -> None:
        self.number = number
        self.request = request
        self.flight: Inference | None = None
        self.stopping: Inference | None = None
        self.stopping_since = 0.0


class InferQueue:
    """Keeps up to ``requests`` inferences in flight on one compiled network.

    The network has one input, of known rank. Thread-safe: any thread may submit, cancel or close.

    Args:
        compiled: the compiled network.
        requests: most inferences in flight.
        check_every_s: how often requests older than this are looked at for a failure, of which OpenVINO's Python
            callback says nothing.
        abandon_after_s: a request whose job was given up and that does not end within this time is replaced by a
            spare one.
    """

    def __init__(
        self, compiled: Any, requests: int, *, check_every_s: float = 0.05, abandon_after_s: float = 5.0
    ) -> None:
        self.size = requests
        self._dtype = np.dtype(compiled.input(0).get_element_type().to_dtype())
        # -1 where any size goes: only networks that keep a picture's proportions have that.
        sizes = compiled.input(0).get_partial_shape()
        self._shape = tuple(-1 if one.is_dynamic else int(one.get_length()) for one in sizes)
        self._outputs = len(compiled.outputs)
        self._check_every_s = check_every_s
        self._abandon_after_s = abandon_after_s
        self._lock = threading.Lock()
        self._slots = {_Slot(number, compiled.create_infer_request()) for number in range(requests)}
        # As many again, made now: to make one later waits for the very inference that does not end.
        self._spares = [compiled.create_infer_request() for _ in range(requests)]
        self._abandoned: list[Any] = []
        self._free: queue.SimpleQueue[_Slot | None] = queue.SimpleQueue()
        for slot in self._slots:
            self._free.put(slot)
        self._closed = False
        self._callbacks_due = 0
        self._busy = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name="infer-supervisor", daemon=True)
        self._supervisor.start()
        _open_queues.add(self)

    @property
    def in_flight(self) -> int:
        """Number of inferences that have been started and are not settled."""
        with self._lock:
            return sum(slot.flight is not None for slot in self._slots)

    @property
    def free(self) -> int:
        """Number of requests that can be started at once."""
        return self._free.qsize()

    def submit(self, tensor: Array, *, timeout_s: float | None = None) -> Inference:
        """Start an inference of ``tensor``; wait for a free request if there is none, which is the back-pressure.

        Args:
            tensor: array of exactly the network's input shape and dtype; must not be changed until the future settles.
            timeout_s: longest wait for a free request.

        Raises:
            TensorError: wrong shape or dtype; nothing was started.
            QueueClosedError: the queue is closed, or was while waiting.
            TimeoutError: no request became free in time.
            InferenceError: OpenVINO refused to start the request.
        """
        tensor = self.check(tensor)
        began = time.monotonic()
        slot = self._take(timeout_s)
        flight = Inference(tensor, time.monotonic() - began, slot.number, self._abort)
        with self._lock:
            if self._closed:  # close() has not seen this flight, so it must not start
                raise QueueClosedError("the infer queue is closed")
            slot.flight = flight
            self._callbacks_due += 1
        try:
            # The callback is set anew for each run: OpenVINO takes it out while it runs and puts it back after, so a
            # request that is started again from within that moment would otherwise finish without a callback.
            slot.request.set_callback(self._completed, (slot, flight))
            slot.request.set_input_tensor(ov.Tensor(tensor, shared_memory=True))
            slot.request.start_async()
        except Exception as error:
            self._count_callback()
            self._release(slot, flight)
            raise InferenceError(f"OpenVINO did not start the inference: {error}") from error
        flight.begun = True
        if not self._busy.is_set():
            self._busy.set()
        return flight

    def check(self, tensor: Array) -> Array:
        """Return ``tensor`` as OpenVINO can take it; what does not fit never gets there, where it would cost a slot.

        Raises:
            TensorError: wrong shape or dtype.
        """
        if not isinstance(tensor, np.ndarray):
            raise TensorError(f"expected an array, not {type(tensor).__name__}")
        fits = len(tensor.shape) == len(self._shape) and all(
            size in (-1, given) for size, given in zip(self._shape, tensor.shape, strict=True)
        )
        if not fits or tensor.dtype != self._dtype:
            raise TensorError(f"expected {self._shape} {self._dtype}, got {tensor.shape} {tensor.dtype}")
        if tensor.flags.c_contiguous and tensor.flags.writeable:
            return tensor
        return np.require(tensor, requirements=["C", "W"])  # a copy

    def close(self, *, timeout_s: float = 5.0) -> None:
        """Refuse new work, give up what is in flight and wait until every request stands still. Idempotent.

        A process must not end before: an interpreter that goes down under a callback of OpenVINO's aborts. So every
        queue that is still open is closed at exit.
        """
        with self._lock:
            self._closed = True
            flights = [slot.flight for slot in self._slots if slot.flight is not None]
        self._free.put(None)
        for flight in flights:
            flight.cancel()
        self._busy.set()
        if threading.current_thread() is not self._supervisor:
            self._supervisor.join(timeout_s)
            until = time.monotonic() + CALLBACKS_WITHIN_S
            while self._callbacks_due > 0 and not self._supervisor.is_alive() and time.monotonic() < until:
                time.sleep(0.001)  # a request stands still a moment before its callback is made
            self._let_go()

    def _let_go(self) -> None:
        """Free the requests, and with the last of them the compiled network's memory.

        A request holds its callback, which holds the request: a ring through OpenVINO that Python's collector cannot
        see. One that does not stand still is left alone.
        """
        with self._lock:
            if self._callbacks_due > 0 or self._supervisor.is_alive():
                return
            for slot in self._slots:
                slot.request = None
            self._spares.clear()

    # ------------------------------------------------------------------------------------------ completion thread

    def _completed(self, run: tuple[_Slot, Inference]) -> None:
        """OpenVINO's callback. An exception that left it would end the process."""
        if not hasattr(_here, "keeps_state"):
            _here.keeps_state = _keep_thread_state()
        try:
            self._settle(*run)
        except BaseException:
            logger.exception("inference.callback_failed")
        finally:
            self._count_callback()

    def _count_callback(self) -> None:
        with self._lock:
            self._callbacks_due -= 1

    def _settle(self, slot: _Slot, flight: Inference) -> None:
        error: Exception | None = None
        rows: Any = None
        try:  # a copy, for the next run overwrites the original
            found = [slot.request.get_output_tensor(number).data.copy() for number in range(self._outputs)]
            rows = found if self._outputs > 1 else found[0]
        except Exception as problem:  # noqa: BLE001 - whatever it is, it is this job's answer
            error = InferenceError(f"OpenVINO gave no output: {problem}")
        flight.infer_s = time.monotonic() - flight.started
        if self._release(slot, flight):
            flight.tensor = None
            if error is None:
                flight.set_result(rows)
            else:
                flight.set_exception(error)

    def _release(self, slot: _Slot, flight: Inference) -> bool:
        """Free ``slot`` if it still runs ``flight``; False when the flight was aborted or settled before."""
        with self._lock:
            answered = slot.flight is flight
            if not answered and slot.stopping is not flight:
                return False
            slot.flight = slot.stopping = None
        self._free.put(slot)
        return answered

    # --------------------------------------------------------------------------------------------- any thread

    def _take(self, timeout_s: float | None) -> _Slot:
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

    def _abort(self, flight: Inference) -> bool:
        with self._lock:
            slot = next((slot for slot in self._slots if slot.flight is flight), None)
            if slot is None:
                return False
            slot.flight, slot.stopping = None, flight
            slot.stopping_since = time.monotonic()
        self._busy.set()
        flight.set_exception(CancelledError())
        return True

    # --------------------------------------------------------------------------------------------- supervisor

    def _supervise(self) -> None:
        """Find what ended without a callback: OpenVINO's Python callback hears of no failure.

        Sleeps for good while nothing is in flight; looks, never waits, at requests older than ``check_every_s``.
        """
        while True:
            self._busy.wait()
            time.sleep(self._check_every_s)
            self._busy.clear()
            try:
                if self._sweep():
                    self._busy.set()
                elif self._closed:
                    return
            except BaseException:  # a done callback may raise anything, and this thread must outlive it
                logger.exception("inference.supervisor_failed")
                self._busy.set()

    def _sweep(self) -> bool:
        """Look at every old request; True while there is anything left to look at."""
        horizon = time.monotonic() - self._check_every_s
        with self._lock:
            running = [(slot, slot.flight) for slot in self._slots if slot.flight is not None]
            stopping = [(slot, slot.stopping) for slot in self._slots if slot.stopping is not None]
        for slot, flight in running:
            if flight.begun and flight.started < horizon:
                self._look_at(slot, flight)
        for slot, flight in stopping:
            if flight.begun:
                self._look_at_stopping(slot, flight)
        rested = [request for request in self._abandoned if _at_rest(request)]
        self._abandoned = [request for request in self._abandoned if request not in rested]
        self._spares += rested
        return bool(running or stopping or self._abandoned)

    def _look_at(self, slot: _Slot, flight: Inference) -> None:
        try:
            if not slot.request.wait_for(0):
                return
        except Exception as problem:  # noqa: BLE001 - OpenVINO raises the inference's own error here
            self._count_callback()  # which it does not make
            if self._release(slot, flight):
                flight.tensor = None
                flight.set_exception(InferenceError(f"OpenVINO could not run the network: {problem}"))
            return
        if flight.seen_done:  # it ended a whole look ago and its callback never came
            self._settle(slot, flight)
        flight.seen_done = True

    def _look_at_stopping(self, slot: _Slot, flight: Inference) -> None:
        if _at_rest(slot.request):
            self._release(slot, flight)
        elif time.monotonic() - slot.stopping_since > self._abandon_after_s:
            self._replace(slot, flight)

    def _replace(self, slot: _Slot, flight: Inference) -> None:
        """Put a spare request in the place of one whose run does not end; that one is a spare when it has ended."""
        with self._lock:
            if slot.stopping is not flight or not self._spares:
                return
            fresh = _Slot(slot.number, self._spares.pop())
            slot.stopping = None
            self._slots.discard(slot)
            self._slots.add(fresh)
            self._abandoned.append(slot.request)
        logger.error("inference.abandoned after_s=%g", self._abandon_after_s)
        self._free.put(fresh)


def _at_rest(request: Any) -> bool:
    try:
        return bool(request.wait_for(0))
    except Exception:  # noqa: BLE001 - a failed request is at rest
        return True


_open_queues: "weakref.WeakSet[InferQueue]" = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for one in list(_open_queues):
        one.close()


def _keep_thread_state() -> bool:
    """Let the calling thread keep its state of Python's between callbacks, for as long as the process lives.

    OpenVINO's threads are not Python's: pybind11 makes a state for each callback and destroys it after. With it go the
    pages of its stack, mapped and unmapped each time, for which every core that runs this process is interrupted.
    """
    ctypes.pythonapi.PyGILState_Ensure()  # never given back, so that pybind11 finds it in use
    return True
