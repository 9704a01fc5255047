"""One picture as many inferences: its tiles go through the network one after the other, a few at a time.

Stage: between decode and the infer queue, for pictures that are cut into tiles. Neighbours: :mod:`worker.tiles` says
where, :mod:`worker.preparing` lends its decode threads. No thread waits for a tile: each one that lands puts the next
behind whatever else is waiting for a decode thread, so that other jobs go on between them.
"""

import functools
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from typing import cast

import numpy as np
import numpy.typing as npt

from worker.inference import Inference
from worker.resize import Fit, Frame, Pixels, fit
from worker.tiles import Rows, Window, merge

#: Sends a tensor into the network; waits for a free request.
Submit = Callable[[npt.NDArray[np.uint8]], Inference]


class Tiling(Future[Rows]):
    """A picture on its way through the network in tiles; settles with rows in pixels of the picture. Thread-safe.

    It does nothing by itself: ``hand_on`` is given each next step, to be called as ``step()`` on a decode thread.

    Attributes:
        waited_s: how long the first tile waited for a free request; started, slot: of the first tile's inference.
        infer_s: from the first tile's start until the rows were merged.
    """

    def __init__(  # noqa: PLR0913 - what one picture needs
        self,
        picture: Pixels,
        places: Sequence[Window],
        how: Fit,
        *,
        least: float,
        limit: float,
        agnostic: bool,
        submit: Submit,
        hand_on: Callable[["Tiling"], None],
    ) -> None:
        """Prepare it.

        Args:
            picture: ``(height, width, 3)`` uint8; let go as soon as the last tile is cut.
            places: where it is cut; the last is the whole.
            how: what the network wants.
            least: rows below this score are not kept.
            limit: of the overlap of two objects, the model's.
            agnostic: whether classes do not matter for that.
            submit: the network.
            hand_on: has a decode thread call :meth:`step` soon.
        """
        super().__init__()
        self.tiles = len(places) - 1
        self.waited_s = self.infer_s = 0.0
        self.started = time.monotonic()
        self.slot: int | None = None
        self._picture: Pixels | None = picture
        self._places, self._how = places, how
        self._least, self._limit, self._agnostic = least, limit, agnostic
        self._submit, self._hand_on = submit, hand_on
        self._lock = threading.Lock()
        self._ended = False
        self._handed_on = self._stepped = 0
        self._seen: list[tuple[Window, Frame, Rows]] = []
        self._flights: set[Inference] = set()
        self.set_running_or_notify_cancel()

    def begin(self, at_once: int) -> None:
        """Have the first ``at_once`` tiles cut; there are never more of this picture under way."""
        self._handed_on = min(at_once, len(self._places))
        for _ in range(self._handed_on):
            self._hand_on(self)

    def step(self) -> None:
        """On a decode thread: cut the next tile and start its inference, or merge when all have landed.

        Raises:
            Exception: what the infer queue raises; the caller passes it to :meth:`fail`.
        """
        with self._lock:
            index, picture = self._stepped, self._picture
            self._stepped += 1
            if self._stepped == len(self._places):
                self._picture = None
        if self._ended:
            return
        if picture is None:
            self._merge()
            return
        tensor, frame = fit(self._places[index].cut(picture), self._how)
        del picture  # the next line may wait
        flight = self._submit(tensor)
        if index == 0:
            self.waited_s, self.slot, self.started = flight.waited_s, flight.slot, flight.started
        with self._lock:
            self._flights.add(flight)
        flight.add_done_callback(functools.partial(self._landed, index, frame))
        if self._ended:
            flight.cancel()

    def cancel(self) -> bool:
        """Give up: no further tile is cut, and those in flight are cancelled."""
        return self.fail(CancelledError())

    def fail(self, error: BaseException) -> bool:
        """End it with ``error``; False if it has ended."""
        with self._lock:
            if self._ended:
                return False
            self._ended = True
            flights, self._flights = self._flights, set()
            self._picture = None
            self._seen.clear()
        for flight in flights:
            flight.cancel()
        self.set_exception(error)
        return True

    def _landed(self, index: int, frame: Frame, flight: Future[Rows]) -> None:
        """On OpenVINO's completion thread: note what came, hand on, return."""
        with self._lock:
            self._flights.discard(cast(Inference, flight))
        problem = flight.exception()
        if problem is not None:
            self.fail(problem)
            return
        rows = flight.result()
        with self._lock:
            if self._ended:
                return
            self._seen.append((self._places[index], frame, rows[rows[:, 1] >= self._least]))
            more = self._handed_on < len(self._places) or len(self._seen) == len(self._places)
            self._handed_on += more
        if more:
            self._hand_on(self)

    def _merge(self) -> None:
        # In the order of the places, not in that of their landing: equal scores give equal results.
        seen = sorted(self._seen, key=lambda one: (one[0].y1, one[0].x1, one[0].y2))
        placed = [(place, _in_picture(rows, frame, place)) for place, frame, rows in seen]
        rows = merge(placed, self._places[-1], limit=self._limit, agnostic=self._agnostic)
        with self._lock:
            if self._ended:
                return
            self._ended = True
            self._seen.clear()
        self.infer_s = time.monotonic() - self.started
        self.set_result(rows)


def _in_picture(rows: Rows, frame: Frame, place: Window) -> Rows:
    """Give ``rows`` in pixels of the picture; they came in pixels of the network's input."""
    points = rows[:, 2:].reshape(len(rows), (rows.shape[1] - 2) // 2, 2)
    moved = frame.to_original(points) + np.array([place.x1, place.y1], np.float32)
    return np.concatenate([rows[:, :2], moved.reshape(len(rows), rows.shape[1] - 2)], axis=1, dtype=np.float32)
