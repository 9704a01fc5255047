"""The jobs of one ``map`` that go together: several messages in one round trip.

Stage: between ``map`` and :mod:`producer.dispatch`. Neighbours: :mod:`producer.intake` says which go together, the
window of :mod:`producer.answers` keeps count of them.

They are offered together only once. What finds no room then is sent by itself, as a new job whose deadline counts from
there: one that waits behind its neighbours must not lose its own time to them.

The window counts a job as under way before it is sent. So ``map`` knows of all that may have arrived, wherever an
interrupt comes, and gives them up.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic

from producer.answers import Group, Window
from producer.books import Verdict
from producer.dispatch import Dispatch, Parcel
from producer.errors import Overloaded
from producer.hooks import begin_sending
from producer.requests import Terms
from producer.results import Outcome
from producer.steps import Steps
from producer.waiting import F, Promise, Waiting
from producer.wire import queue_of


@dataclass(slots=True)
class Together(Generic[F]):
    """Sends the groups of one ``map``. Not thread-safe, as its window is not.

    Attributes:
        dispatch: how a job is sent.
        waiting: where the promises are kept.
        window: told of each job before it is sent.
        terms: those of jobs of which there are several (:meth:`producer.requests.Terms.of_many`).
        tell: called with id and outcome of each job that has ended, on whatever thread hears of it.
    """

    dispatch: Dispatch
    waiting: Waiting[F]
    window: Window
    terms: Terms
    tell: Callable[[tuple[str, Outcome]], None]

    def submit(self, groups: Sequence[Group]) -> Steps[None]:
        """Send each group as a job; each is accepted by itself, or refused, of which the window is told.

        Raises:
            FleetError: what :meth:`producer.dispatch.Dispatch.submit` raises besides. The window has those that may
                have arrived; they are the caller's to give up.
        """
        parcels = [self._parcel(group) for group in groups]
        try:
            if len(parcels) > 1:
                yield from self._all_at_once(parcels)
            for parcel in parcels:
                if parcel.sent is None:
                    parcel.end((yield from self.dispatch.send(parcel, self.terms, self.waiting)))
        except BaseException as error:
            for parcel in parcels:
                if parcel.sent is None:
                    parcel.sending.end(None, error)
            raise
        for group, parcel in zip(groups, parcels, strict=True):
            if isinstance(parcel.sent, Overloaded):
                self.window.refused(group, parcel.sent)
            elif parcel.sent is not None:
                job_id, promise = parcel.sent
                promise.add_done_callback(partial(self._ended, job_id))

    def _ended(self, job_id: str, promise: Promise) -> None:
        self.tell((job_id, promise.result()))

    def _parcel(self, group: Group) -> Parcel[F]:
        return Parcel(group.pictures, self.window.many, begin_sending(), partial(self.window.sent, group=group))

    def _all_at_once(self, parcels: Sequence[Parcel[F]]) -> Steps[None]:
        """Offer all in one round trip, unless there was no room the last time; leave those for which to wait."""
        model = yield from self.dispatch.choose(self.terms.model)
        offering = self.dispatch.offering(self.waiting)
        if queue_of(model) in offering.full:
            return
        jobs = [self.dispatch.prepare(parcel, self.terms, model, self.waiting) for parcel in parcels]
        verdicts = yield from offering.once([request for request, _ in jobs])
        for parcel, (request, promise), verdict in zip(parcels, jobs, verdicts, strict=True):
            if isinstance(verdict, Verdict):
                parcel.end((request.job_id, promise))
                continue
            self.waiting.drop(request.job_id)
            if self.dispatch.rules.when_full == "refuse":
                parcel.end(verdict)
