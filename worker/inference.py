"""One tensor's way through a network: a future, and what can go wrong on the way.

Stage: what :mod:`worker.infer_queue` gives for each tensor that is submitted, to whoever waits for the outputs.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]


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
