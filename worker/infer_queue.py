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
import threading
import time
import weakref
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
import openvino as ov

from worker.inference import Array, Inference, InferenceError, TensorError
from worker.slots import Slot, Slots

logger = logging.getLogger(__name__)

#: Longest wait in ``close`` for callbacks that OpenVINO has begun to make.
CALLBACKS_WITHIN_S = 1.0


#: What the calling thread of OpenVINO's remembers from one callback to the next.
_here = threading.local()


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
        self._slots = Slots(compiled, requests)
        self._busy = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name="infer-supervisor", daemon=True)
        self._supervisor.start()
        _open_queues.add(self)

    @property
    def in_flight(self) -> int:
        """Number of inferences that have been started and are not settled."""
        return len(self._slots.running())

    @property
    def free(self) -> int:
        """Number of requests that can be started at once."""
        return self._slots.free

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
        slot = self._slots.take(timeout_s)
        flight = Inference(tensor, time.monotonic() - began, slot.number, self._abort)
        self._slots.begin(slot, flight)
        try:
            # The callback is set anew for each run: OpenVINO takes it out while it runs and puts it back after, so a
            # request that is started again from within that moment would otherwise finish without a callback.
            slot.run = [(slot, flight)]
            slot.request.set_callback(self._completed, slot.run)
            slot.request.set_input_tensor(ov.Tensor(tensor, shared_memory=True))
            slot.request.start_async()
        except Exception as error:
            self._slots.count_callback()
            self._slots.release(slot, flight)
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
        for flight in self._slots.close():
            flight.cancel()
        self._busy.set()
        if threading.current_thread() is not self._supervisor:
            self._supervisor.join(timeout_s)
            until = time.monotonic() + CALLBACKS_WITHIN_S
            while self._slots.callbacks_due > 0 and not self._supervisor.is_alive() and time.monotonic() < until:
                time.sleep(0.001)  # a request stands still a moment before its callback is made
            if not self._supervisor.is_alive():  # else one does not stand still, and all are left alone
                self._slots.let_go()

    # ------------------------------------------------------------------------------------------ completion thread

    def _completed(self, run: list[tuple[Slot, Inference]]) -> None:
        """OpenVINO's callback. An exception that left it would end the process.

        The run is taken out of the list, which the request keeps until its next one: with it, it would keep the job.
        """
        if not hasattr(_here, "keeps_state"):
            _here.keeps_state = _keep_thread_state()
        try:
            if run:  # else it is settled already
                self._settle(*run.pop())
        except BaseException:
            logger.exception("inference.callback_failed")
        finally:
            self._slots.count_callback()

    def _settle(self, slot: Slot, flight: Inference) -> None:
        error: Exception | None = None
        rows: Any = None
        try:  # a copy, for the next run overwrites the original
            found = [slot.request.get_output_tensor(number).data.copy() for number in range(self._outputs)]
            rows = found if self._outputs > 1 else found[0]
        except Exception as problem:  # noqa: BLE001 - whatever it is, it is this job's answer
            error = InferenceError(f"OpenVINO gave no output: {problem}")
        flight.infer_s = time.monotonic() - flight.started
        if self._slots.release(slot, flight):
            flight.tensor = None
            if error is None:
                flight.set_result(rows)
            else:
                flight.set_exception(error)

    # --------------------------------------------------------------------------------------------- any thread

    def _abort(self, flight: Inference) -> bool:
        if not self._slots.give_up(flight):
            return False
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
                elif self._slots.closed:
                    return
            except BaseException:  # a done callback may raise anything, and this thread must outlive it
                logger.exception("inference.supervisor_failed")
                self._busy.set()

    def _sweep(self) -> bool:
        """Look at every old request; True while there is anything left to look at."""
        horizon = time.monotonic() - self._check_every_s
        running, stopping = self._slots.running(), self._slots.stopping()
        for slot, flight in running:
            if flight.begun and flight.started < horizon:
                self._look_at(slot, flight)
        for slot, flight in stopping:
            if flight.begun:
                self._look_at_stopping(slot, flight)
        self._slots.recover()
        return bool(running or stopping or self._slots.abandoned)

    def _look_at(self, slot: Slot, flight: Inference) -> None:
        try:
            if not slot.request.wait_for(0):
                return
        except Exception as problem:  # noqa: BLE001 - OpenVINO raises the inference's own error here
            self._slots.count_callback()  # which it does not make
            if self._slots.release(slot, flight):
                flight.tensor = None
                flight.set_exception(InferenceError(f"OpenVINO could not run the network: {problem}"))
            return
        if flight.seen_done:  # it ended a whole look ago and its callback never came
            self._settle(slot, flight)
        flight.seen_done = True

    def _look_at_stopping(self, slot: Slot, flight: Inference) -> None:
        if slot.is_at_rest():
            self._slots.release(slot, flight)
        elif time.monotonic() - slot.stopping_since > self._abandon_after_s and self._slots.replace(slot, flight):
            logger.error("inference.abandoned after_s=%g", self._abandon_after_s)


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
