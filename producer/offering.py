"""How jobs are offered to Redis, and offered again where there is no room.

Stage: under :mod:`producer.dispatch`. Neighbours: :mod:`producer.requests` writes what is asked, the script of
:mod:`producer.books` gives the verdict on each job.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from producer.books import Limits, Verdict
from producer.errors import InvalidRequest, Overloaded
from producer.requests import Request, ask_for_room, offer
from producer.scripts import Command
from producer.steps import Ask, Pause, Steps, jittered, patient

#: Verdicts that may be another one later.
_FULL = frozenset({"jobs", "bytes", "memory"})

#: Seconds before the first question whether there is room now; each further pause is twice as long, up to a second.
_FIRST_PAUSE_S = 0.02


@dataclass(slots=True)
class Offering:
    """The rules by which jobs are offered.

    Attributes:
        limits: how full a queue may be.
        full: queues that had no room the last time; shared by all of a client's offers.
        wake: what is to be said with each offer.
    """

    limits: Limits
    full: set[str]
    wake: tuple[Command, ...]

    def once(self, requests: Sequence[Request]) -> Steps[list[Verdict | Overloaded]]:
        """Offer jobs of one queue and priority together, one time: for which there is no room has that error in place.

        Raises:
            Unreachable: Redis does not answer.
        """
        verdicts = yield from self._judge(requests)
        queue = requests[0].queue
        if any(verdict.word in _FULL for verdict in verdicts):
            self.full.add(queue)
        else:
            self.full.discard(queue)
        return [_overloaded(one, queue, self.limits) if one.word in _FULL else one for one in verdicts]

    def insist(self, request: Request, until: float | None) -> Steps[Verdict | Overloaded]:
        """Offer a job until it is accepted, or the client's rule or the deadline says that this is enough.

        Where there was no room the last time, or a moment ago, room is asked for before the images are sent.

        Args:
            request: the job.
            until: monotonic time up to which room is waited for; None refuses at once.

        Raises:
            InvalidRequest: the idempotency key is that of another request.
            Unreachable: Redis does not answer.
        """
        pause_s = _FIRST_PAUSE_S
        verdict: Verdict | None = None
        if request.queue not in self.full:
            (verdict,) = yield from self._judge([request])
        while verdict is None or verdict.word in _FULL:
            if verdict is not None:
                self.full.add(request.queue)
                left_s = 0.0 if until is None else until - time.monotonic()
                if left_s <= 0:
                    return _overloaded(verdict, request.queue, self.limits)
                yield Pause(min(jittered(pause_s), left_s))
                pause_s = min(1.0, pause_s * 2)
            (verdict,) = yield from self._ask(ask_for_room([request], self.limits))
            if verdict.word == "room":
                (verdict,) = yield from self._judge([request])
        self.full.discard(request.queue)
        return _known_as_this(verdict)

    def _judge(self, requests: Sequence[Request]) -> Steps[list[Verdict]]:
        """Offer jobs in one round trip; repeating it is harmless.

        A server without memory is one that is full. But it may have accepted them a moment before, and the connection
        was lost then, so it is asked.
        """
        try:
            return (yield from self._ask(offer(requests, self.limits)))
        except Overloaded:
            verdicts = yield from self._ask(ask_for_room(requests, self.limits))
            return [Verdict("memory", one.job_id) if one.word == "room" else one for one in verdicts]

    def _ask(self, ask: Ask) -> Steps[list[Verdict]]:
        replies = yield from patient(replace(ask, commands=(*self.wake, *ask.commands)) if self.wake else ask)
        return [Verdict.parse(verdict) for verdict in replies[-1]]


def _known_as_this(verdict: Verdict) -> Verdict:
    """Return the verdict on a job that is accepted, or known under its name; raise when the name is another's."""
    if verdict.word == "different":
        raise InvalidRequest("This idempotency_key was used for another image or other options.")
    return verdict


def _overloaded(verdict: Verdict, queue: str, limits: Limits) -> Overloaded:
    if verdict.word == "jobs":
        full = f"{verdict.jobs:,} jobs wait in {queue}; this client adds none from {limits.jobs:,} on."
    elif verdict.word == "bytes":
        full = (
            f"The jobs of {queue} take {verdict.held_bytes:,} bytes; this client adds none above {limits.size_bytes:,}."
        )
    elif verdict.allowed_bytes:
        full = (
            f"Redis uses {verdict.used_bytes:,} of its {verdict.allowed_bytes:,} bytes of memory; "
            "the rest is kept for results."
        )
    else:
        full = "Redis has no memory left for more images."
    return Overloaded(f"{full} Try again later, or add workers.")
