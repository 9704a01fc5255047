"""How many inferences each network may have in flight, so that several do not ask for more cores than there are.

Stage: between decode threads and :mod:`worker.infer_queue`. Every network is compiled for all of the worker's threads:
alone, it uses them all. When others are busy too, each has its part of the streams only, and so they share the cores
instead of fighting for them (docs/performance.md has figures).
"""

import threading
from collections import Counter
from collections.abc import Callable


class Shares:
    """Counts inferences in flight, and those that wait to be. Thread-safe."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._used: Counter[str] = Counter()
        self._wanted: Counter[str] = Counter()
        self._closed = False

    def take(self, name: str, *, alone: int, streams: int) -> Callable[[], None]:
        """Wait until the network ``name`` may have one more in flight.

        Args:
            name: of the network.
            alone: most in flight while no other network is busy.
            streams: inferences of it that OpenVINO computes at once; they take all threads together.

        Returns:
            What gives the share back, to be called once.
        """
        with self._change:
            self._wanted[name] += 1
            self._change.wait_for(lambda: self._closed or self._used[name] < self._most(name, alone, streams))
            self._wanted[name] -= 1
            self._used[name] += 1
        return lambda: self._give_back(name)

    def close(self) -> None:
        """Let all who wait go on."""
        with self._change:
            self._closed = True
            self._change.notify_all()

    def _most(self, name: str, alone: int, streams: int) -> int:
        busy = sum(one == name or self._used[one] > 0 or self._wanted[one] > 0 for one in {*self._used, *self._wanted})
        return alone if busy <= 1 else max(1, streams // busy)

    def _give_back(self, name: str) -> None:
        with self._change:
            self._used[name] -= 1
            self._change.notify_all()
