"""One inference of a black image on every network: whether this worker can work.

Stage: beside :mod:`worker.detector`, for :mod:`worker.health`.
"""

import threading
from collections.abc import Sequence
from concurrent.futures import Future

import numpy as np

from worker.lineup import Serving


class SelfTest(Future[bool]):
    """Settles True when every version has answered for a black image, False when one could not."""

    def __init__(self, taken: Sequence[Serving]) -> None:
        super().__init__()
        self._left = len(taken)
        self._good = True
        self._lock = threading.Lock()
        for one in taken:
            height, width = one.network.spec.input_size
            try:
                flight = one.queue.submit(np.zeros((1, height, width, 3), np.uint8), timeout_s=0.0)
            except Exception:  # noqa: BLE001 - busy or closed: a full queue proves itself by its jobs
                one.leave()
                self._count(one.queue.in_flight > 0)
            else:
                flight.add_done_callback(one.leave)
                flight.add_done_callback(lambda done: self._count(done.exception() is None))

    def _count(self, good: bool) -> None:
        with self._lock:
            self._left -= 1
            self._good &= good
            last = self._left == 0
        if last:
            self.set_result(self._good)
