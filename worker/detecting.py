"""A request on its way: a future that settles when each of its images has an outcome.

Stage: under :mod:`worker.preparing`, whose decode threads and OpenVINO's completion threads settle the images.
"""

import functools
import logging
import threading
import time
import uuid
from concurrent.futures import CancelledError, Future
from typing import Any, TypeAlias, cast

from producer import wire
from producer.errors import Cancelled, DeadlineExceeded, FleetError, InferenceFailed, InternalError
from worker.admission import Turn
from worker.clock import redis_clock
from worker.inference import Inference, InferenceError, QueueClosedError
from worker.outcome import Outcome, Request
from worker.tiling import Tiling

logger = logging.getLogger(__name__)

#: An image's way through the network, in one piece or in tiles; or its place in the line before that.
Flight: TypeAlias = Inference | Tiling | Turn


class Detecting(Future[list[Outcome]]):
    """A request on its way; settles, never with an exception, when each of its images has an outcome. Thread-safe."""

    def __init__(self, request: Request, outcomes: list[Outcome]) -> None:
        super().__init__()
        self.request = request
        self.outcomes = outcomes
        self._left = len(outcomes)
        self._lock = threading.Lock()
        self._flights: dict[int, Flight] = {}
        self.cancelled_by: FleetError | None = None
        self.is_buried = False
        self.is_duplicate = False
        self.set_running_or_notify_cancel()

    @property
    def lane(self) -> str:
        """Which of the decode threads' lanes its images go through: a lane for each model."""
        return self.outcomes[0].network.spec.name

    def cancel(self) -> bool:
        """Give up: images not yet begun are skipped, inferences in flight are cancelled."""
        return self.stop(Cancelled())

    def stop(self, error: FleetError) -> bool:
        """Give up for the reason ``error``, which each unfinished image gets as its outcome."""
        with self._lock:
            if self._left == 0:
                return False
            self.cancelled_by = self.cancelled_by or error
            flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        return True

    def follow(self, index: int, flight: Flight) -> None:
        """Settle image ``index`` when ``flight`` does."""
        with self._lock:
            self._flights[index] = flight
            stopped = self.cancelled_by is not None
        flight.add_done_callback(functools.partial(self._landed, index))
        if stopped:
            flight.cancel()

    def note_fetch(self, index: int, asked_at: float) -> None:
        """Note that the bytes of image ``index`` were asked for at ``asked_at``, and that Redis has answered now."""
        outcome = self.outcomes[index]
        outcome.starts["fetch"] = asked_at
        outcome.timings_ms["fetch"] = (time.monotonic() - asked_at) * 1000

    def settle(self, index: int, error: FleetError | None = None) -> None:
        """Count image ``index`` as finished; the last one settles the whole.

        The error is kept without its traceback, whose frames hold the image and this very outcome: a ring that would
        keep every refused image in memory until Python's collector comes by.
        """
        outcome = self.outcomes[index]
        outcome.error = None if error is None else _afresh(error)
        outcome.done_at = time.monotonic()
        with self._lock:
            self._flights.pop(index, None)
            self._left -= 1
            last = self._left == 0
        if last:
            self.set_result(self.outcomes)

    def settle_all(self, error: FleetError) -> None:
        """Settle every image with ``error``; for a request of which none was begun."""
        for index in range(len(self.outcomes)):
            self.settle(index, error)

    def _landed(self, index: int, settled: Future[Any]) -> None:
        """On OpenVINO's completion thread: note what came, hand over, return."""
        flight = cast(Flight, settled)
        if isinstance(flight, Turn):  # it settles only when it is cancelled
            self.settle(index, self.cancelled_by or Cancelled())
            return
        outcome = self.outcomes[index]
        outcome.timings_ms |= {"wait": flight.waited_s * 1000, "infer": flight.infer_s * 1000}
        outcome.slot, outcome.starts["infer"] = flight.slot, flight.started
        problem = flight.exception()
        if problem is None:
            outcome.rows = flight.result()
            self.settle(index)
        elif isinstance(problem, CancelledError):
            self.settle(index, self.cancelled_by or Cancelled())
        elif isinstance(problem, FleetError):
            self.settle(index, problem)
        else:
            logger.warning("inference.failed job=%s error=%s", self.request.job_id, problem)
            self.settle(index, InferenceFailed())


def answer_to(error: Exception, detecting: Detecting) -> FleetError:
    """Turn what came in an image's way into its outcome; called where it is handled."""
    if isinstance(error, FleetError):
        return error
    if isinstance(error, InferenceError):
        logger.warning("inference.not_started job=%s error=%s", detecting.request.job_id, error)
        return InferenceFailed()
    if isinstance(error, QueueClosedError):  # the worker stops; what it held comes back to the queue
        return detecting.cancelled_by or Cancelled()
    incident = uuid.uuid4().hex[:12]
    logger.error("job.internal_error job=%s incident=%s", detecting.request.job_id, incident, exc_info=error)
    return InternalError(f"Something unforeseen went wrong; incident {incident}.")


def check_still_wanted(detecting: Detecting) -> None:
    if detecting.cancelled_by is not None:
        raise _afresh(detecting.cancelled_by)  # it is kept, and its traceback leads here
    if not is_wanted(detecting):
        raise DeadlineExceeded


def _afresh(error: FleetError) -> FleetError:
    """Give the same error without its traceback."""
    return type(error)(*error.args)


def is_wanted(detecting: Detecting) -> bool:
    deadline = detecting.request.deadline
    return detecting.cancelled_by is None and (deadline is None or redis_clock.now() <= deadline)


def key_to_fetch(detecting: Detecting, index: int) -> str | None:
    """Return the key of an image's bytes; None where they ride in the message, nothing can be said, or it can wait."""
    request = detecting.request
    if not is_wanted(detecting) or request.options.tile is not None:
        return None
    try:
        return wire.Image.parse(request.images[index]).ref
    except FleetError:
        return None
