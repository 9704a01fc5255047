"""A job that was sent, and how it ends.

Stage: what :mod:`producer.client` hands to its caller. Neighbour: :mod:`producer.link`, where the outcome arrives.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from producer.errors import Cancelled, FleetError
from producer.ids import deadline_of
from producer.link import Link, Promise
from producer.results import Outcome

T = TypeVar("T")


def unpack(outcome: Outcome) -> Any:
    """Return a result, or raise the error that stands in its place."""
    if isinstance(outcome, FleetError):
        raise outcome.with_traceback(None)
    return outcome


class Job(Generic[T]):
    """A job of one image (its result is a Result) or of a batch (a list with, per image, a Result or a FleetError).

    Thread-safe; works on in a forked child. Keep :attr:`id` to pick the job up elsewhere with ``Client.job``.
    """

    def __init__(
        self, link: Callable[[], Link], job_id: str, images: int | None, promise: Promise | None, *, keep: bool = False
    ) -> None:
        """Made by a client only; ``keep`` leaves the result in Redis for its whole life."""
        self._link = link
        self._images = images
        self._bound = link()
        self._promise = promise or self._bound.watch(job_id, deadline_of(job_id))
        self._collected = keep
        #: Names the job in every process and in Celery's own tools.
        self.id = job_id

    def __repr__(self) -> str:
        return f"<Job {self.id} {'done' if self._promise.done() else 'outstanding'}>"

    def result(self, timeout: float | None = None) -> T:
        """Wait for the result and return it; it can be asked for again, in any process, for a minute.

        Args:
            timeout: seconds to wait; None waits as long as an answer can come: until the deadline and two seconds.

        Raises:
            TimeoutError: there is no answer after ``timeout`` seconds; the job goes on.
            FleetError: how the job failed, in its own class.
        """
        return cast(T, unpack(self._outcome(timeout)))

    def error(self, timeout: float | None = None) -> FleetError | None:
        """Wait as :meth:`result` does, and return the error; None when the job succeeded.

        Raises:
            TimeoutError: there is no answer after ``timeout`` seconds.
        """
        outcome = self._outcome(timeout)
        return outcome if isinstance(outcome, FleetError) else None

    def done(self) -> bool:
        """Tell whether the job has ended, as far as this client has heard."""
        return self._promised().done()

    def cancel(self) -> bool:
        """Cancel the job, running or not; False when it had ended before.

        Raises:
            Unreachable: Redis does not answer, so nobody was told.
        """
        promise, link = self._promised(), self._bound
        if promise.done():
            return False
        ended = link.run(link.dispatch.cancel({self.id: self._images}))[self.id]
        link.waiting.settle(self.id, Cancelled() if ended is None else ended)
        return ended is None and isinstance(promise.result(), Cancelled)

    def _promised(self) -> Promise:
        link = self._link()
        if link is not self._bound and not self._promise.done():
            # Forked: nobody in this process would keep the old promise.
            self._bound, self._promise = link, link.watch(self.id, deadline_of(self.id))
        return self._promise

    def _outcome(self, timeout: float | None) -> Outcome:
        outcome = self._promised().result(timeout)
        if not self._collected:
            self._collected = True
            self._bound.waiting.collected(self.id, final=False)
        return outcome
