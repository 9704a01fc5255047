"""What a client says to Redis when it sends, cancels and looks up jobs.

Stage: between the clients' methods and their connection. Each method is a conversation (:mod:`producer.steps`), so
:mod:`producer.client` and :mod:`producer.aio` share every rule: which model, whose result, what to cancel. How full is
too full is a matter of :mod:`producer.offering`.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal

from producer.books import Limits, Verdict
from producer.clock import ServerClock
from producer.envelope import control_channel, revoke_message
from producer.errors import InvalidRequest, Overloaded, UnknownModel
from producer.hooks import Sending, begin_sending
from producer.ids import deadline_of
from producer.images import Picture
from producer.offering import Offering
from producer.requests import Request, Terms, build, withdraw_commands
from producer.results import Outcome, meta_key, read_meta, wake_channel
from producer.scripts import Command
from producer.steps import Ask, Steps, patient
from producer.waiting import F, Waiting
from producer.wire import MODELS_KEY, REPLAYED_PREFIX, SERVED_WITHIN_S, check_model_name

#: Model to use when no worker of the fleet has ever said what it serves.
DEFAULT_MODEL = "centerface"

#: Seconds for which a list of models that has the model asked for is believed, and one that has not.
MODELS_FRESH_S = 5.0
MODELS_RECHECK_S = 0.5

#: Jobs per broadcast when many are cancelled.
_CANCEL_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for every job of a client.

    Attributes:
        model: the model of jobs that name none.
        max_backlog: most jobs that may wait in a queue.
        max_backlog_bytes: most bytes that a queue's jobs may take in Redis until they end.
        when_full: what to do then: wait for room until the job's deadline, or refuse at once.
    """

    model: str | None = None
    max_backlog: int = 10_000
    max_backlog_bytes: int = 1024**3
    when_full: Literal["wait", "refuse"] = "wait"

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            InvalidRequest: one has the wrong type or range.
        """
        if self.model is not None:
            check_model_name(self.model)
        for name in ("max_backlog", "max_backlog_bytes"):
            limit = getattr(self, name)
            if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
                raise InvalidRequest(f"{name} is a whole number from 1.")
        if self.when_full not in ("wait", "refuse"):
            raise InvalidRequest("when_full is 'wait' or 'refuse'.")


def _note_nothing(_job_id: str) -> None:
    """Leave it to whoever sends to know what may have arrived."""


@dataclass(slots=True)
class Parcel(Generic[F]):
    """What becomes one job.

    Attributes:
        pictures: its images.
        many: whether it is a batch.
        sending: who traces it.
        note: told the id before anything is sent: from then on the job may arrive, whatever interrupts.
        sent: its id and promise, or why it was refused; None as long as it is under way.
    """

    pictures: Sequence[Picture]
    many: bool
    sending: Sending
    note: Callable[[str], None] = _note_nothing
    sent: tuple[str, F] | Overloaded | None = None

    def end(self, sent: tuple[str, F] | Overloaded) -> None:
        """Note what became of it, and tell who traces it."""
        self.sent = sent
        self.sending.end(*((None, sent) if isinstance(sent, Overloaded) else (sent[0], None)))


@dataclass(slots=True)
class Dispatch:
    """A client's memory of the fleet. Threads may share it: what they overwrite is a cache."""

    client_id: str
    rules: Rules
    db: int = 0
    clock: ServerClock = field(default_factory=ServerClock)
    _models: dict[str, Any] = field(default_factory=dict)
    _served: set[str] = field(default_factory=set)
    _models_at: float = float("-inf")
    _full: set[str] = field(default_factory=set)

    def submit(
        self, pictures: Sequence[Picture], terms: Terms, waiting: Waiting[F], *, many: bool
    ) -> Steps[tuple[str, F]]:
        """Send a job, when there is room for it, and return its id and the promise of its outcome.

        Raises:
            InvalidRequest: several models are served and none was named, a batch is empty or too large, or the
                idempotency key is that of another request.
            UnknownModel: no worker serves the model.
            Overloaded: the queue is full, or Redis's memory is.
            Unreachable: Redis does not answer.
        """
        parcel: Parcel[F] = Parcel(pictures, many, begin_sending())
        try:
            sent = yield from self.send(parcel, terms, waiting)
        except BaseException as error:
            parcel.sending.end(None, error)
            raise
        parcel.end(sent)
        if isinstance(sent, Overloaded):
            raise sent
        return sent

    def send(self, parcel: Parcel[F], terms: Terms, waiting: Waiting[F]) -> Steps[tuple[str, F] | Overloaded]:
        """Do what :meth:`submit` does, but for the tracing, and return the error where there is no room."""
        until = time.monotonic() + terms.deadline_s if self.rules.when_full == "wait" else None
        model = yield from self.choose(terms.model)
        request, promise = self.prepare(parcel, terms, model, waiting)
        try:
            verdict = yield from self.offering(waiting).insist(request, until)
        except BaseException:
            # Unreachable, or an interrupt: it may have arrived. Nobody will ever ask for it, unless it has a name.
            if terms.is_shared:
                waiting.drop(request.job_id)
            else:
                waiting.abandon({request.job_id: len(parcel.pictures) if parcel.many else 0})
            raise
        if isinstance(verdict, Verdict) and verdict.job_id == request.job_id:
            return request.job_id, promise
        waiting.drop(request.job_id)
        return verdict if isinstance(verdict, Overloaded) else (yield from self._known(verdict, waiting))

    def prepare(self, parcel: Parcel[F], terms: Terms, model: str, waiting: Waiting[F]) -> tuple[Request, F]:
        """Build a job whose time runs from now, and wait for it: a fast worker's answer must find somebody."""
        request = build(
            parcel.pictures,
            terms,
            many=parcel.many,
            model=model,
            client_id=self.client_id,
            now=self.clock.now(),
            headers=parcel.sending.headers,
        )
        parcel.note(request.job_id)
        return request, waiting.add(request.job_id, deadline_of(request.job_id))

    def offering(self, waiting: Waiting[F]) -> Offering:
        """Return the rules by which this client offers jobs."""
        # Where each job has a channel of its own, the reader has to be woken to join it.
        wake: tuple[Command, ...] = (("PUBLISH", wake_channel(self.client_id), b""),) if waiting.one_by_one else ()
        return Offering(Limits(self.rules.max_backlog, self.rules.max_backlog_bytes), self._full, wake)

    def _known(self, verdict: Verdict, waiting: Waiting[F]) -> Steps[tuple[str, F]]:
        """Wait for the job that has the idempotency key already."""
        promise = waiting.add(verdict.job_id, deadline_of(verdict.job_id))
        yield from self.look_up(verdict.job_id, waiting)
        return verdict.job_id, promise

    def models(self) -> Steps[dict[str, Any]]:
        """Read what the fleet serves: name -> what the worker says of it."""
        replies = yield from patient(Ask((("HGETALL", MODELS_KEY), ("TIME",))))
        self._models = _parse_models(replies[0])
        self.clock.set(*replies[1])
        self._served = {name for name, said in self._models.items() if _is_fresh(said, replies[1][0])}
        self._models_at = time.monotonic()
        return self._models

    def choose(self, model: str | None) -> Steps[str]:
        """Return the model to use; where none was named, the only one that is served now.

        Raises:
            InvalidRequest: several are served and none was named.
            UnknownModel: no worker serves it.
        """
        wanted = model or self.rules.model
        age_s = time.monotonic() - self._models_at
        known = bool(self._models) and (wanted is None or wanted in self._models)
        if age_s > (MODELS_FRESH_S if known else MODELS_RECHECK_S):
            yield from self.models()
        names = sorted(self._models)
        if not names:
            return wanted or DEFAULT_MODEL
        if wanted is None:
            names = sorted(self._served) or names  # a model that is no longer served does not stand in the way
            if len(names) > 1:
                raise InvalidRequest(f"This fleet serves {', '.join(names)}; say which with model=.")
            return names[0]
        if wanted not in self._models:
            raise UnknownModel(f"No worker of this fleet serves {wanted!r}; there are {', '.join(names)}.")
        return wanted

    def look_up(self, job_id: str, waiting: Waiting[F]) -> Steps[None]:
        """Read how ``job_id`` ended, or that it was sent again with a later deadline, and tell ``waiting``."""
        replies = yield from patient(Ask((("GET", meta_key(job_id)), ("TIME",), ("GET", REPLAYED_PREFIX + job_id))))
        self.clock.set(*replies[1])
        outcome = read_meta(replies[0])
        if outcome is not None:
            waiting.settle(job_id, outcome)
        elif replies[2] is not None:
            waiting.extend(job_id, float(replies[2]))

    def cancel(self, jobs: Mapping[str, int | None]) -> Steps[dict[str, Outcome | None]]:
        """Hold the conversation of :func:`cancel`, patiently."""
        return cancel(jobs, self.db, patient)


def cancel(
    jobs: Mapping[str, int | None], db: int, ask: Callable[[Ask], Steps[list[Any]]]
) -> Steps[dict[str, Outcome | None]]:
    """Revoke jobs and withdraw their images; the broadcast is heard by every worker that is up.

    Args:
        jobs: id -> number of images of a batch, 0 for a job of one image, None when that is not known.
        db: the Redis database.
        ask: how to ask: :func:`producer.steps.patient` or :func:`producer.steps.once`.

    Returns:
        Per id the outcome, when it had ended before; those were left alone.
    """
    ended: dict[str, Outcome | None] = {}
    names = list(jobs)
    for start in range(0, len(names), _CANCEL_CHUNK):
        chunk = names[start : start + _CANCEL_CHUNK]
        replies = yield from ask(Ask((("MGET", *map(meta_key, chunk)),)))
        found = {name: read_meta(raw) for name, raw in zip(chunk, replies[0], strict=True)}
        ended.update(found)
        open_jobs = [name for name in chunk if found[name] is None]
        if open_jobs:
            commands: list[Command] = [("PUBLISH", control_channel(db), revoke_message(open_jobs))]
            for name in open_jobs:
                commands += withdraw_commands(name, jobs[name])
            yield from ask(Ask(tuple(commands)))
    return ended


def _is_fresh(said: object, now: float) -> bool:
    """Tell whether a worker has said so lately; a description without a time is believed."""
    seen_at = said.get("seen_at") if isinstance(said, dict) else None
    return not isinstance(seen_at, int | float) or now - seen_at <= SERVED_WITHIN_S


def _parse_models(raw: Mapping[Any, Any]) -> dict[str, Any]:
    models: dict[str, Any] = {}
    for name, value in raw.items():
        try:
            models[name.decode()] = json.loads(value)
        except (ValueError, RecursionError, AttributeError):
            continue
    return models
