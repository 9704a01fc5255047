"""What became of the last few thousand images, and when: the one record that all watching reads.

Stage: beside the tasks. Celery's own signals say that a job has ended, and its stage has noted what its images went
through; nothing else is called on a job's way. Neighbours: :mod:`worker.observe` makes the trail, :mod:`worker.metrics`
and :mod:`worker.tracing` listen to it, :mod:`worker.remote` shows it.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from celery import signals
from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded

from producer import wire
from producer.errors import Cancelled, DeadlineExceeded, FleetError, InternalError, InvalidRequest
from worker.request import current_stage

#: The stages of an image, in their order, as a result's ``timings_ms`` names them.
STAGES = ("queued", "fetch", "decode", "wait", "infer", "finish")

#: The code of an image or job that succeeded.
OK = "ok"

#: The code of a job that goes on as another message; it has no outcome yet.
RETRIED = "retried"

#: Images that are remembered.
REMEMBERED = 4096

#: Stands for a model that this worker does not serve: a queue's name in a message is anybody's text.
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Passage:
    """One image's way through this worker.

    Attributes:
        job: the job's id.
        index: place of the image in the job, from 0.
        model: what it was for.
        code: ``ok``, or the code of its error.
        begun_at: when its first stage here began, seconds since 1970 by this worker's clock.
        starts_at: when stages began, where that was noted; one that is not here follows the one before.
        stages_ms: how long each stage took, as the result says; only those it came to.
        thread: the decode thread it was on.
        slot: number of the infer request it ran in; None when it came to none.
        bytes: of the encoded image.
        digest: of the network that it was for.
    """

    job: str
    index: int
    model: str
    code: str
    begun_at: float
    starts_at: Mapping[str, float]
    stages_ms: Mapping[str, float]
    thread: str
    slot: int | None
    bytes: int
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that has ended: its outcome is stored, or will be in a moment, or it goes on as a retry.

    Attributes:
        job: its id.
        task: the task's name.
        model: what it was for.
        code: ``ok``, the code of its error, or ``retried``.
        images: what its images went through; empty when it ended before they began.
        headers: the message's own, for whoever wants more of them.
    """

    job: str
    task: str
    model: str
    code: str
    images: tuple[Passage, ...]
    headers: Mapping[str, Any]


Listener: TypeAlias = Callable[[Ended], None]


class Trail:
    """Remembers the last images and tells listeners of every job that has ended. Thread-safe.

    Listeners are called on the thread that ended the job, and must be quick.
    """

    def __init__(self, models: Iterable[str], *, remembered: int = REMEMBERED) -> None:
        self._models = frozenset(models)
        self._passages: deque[Passage] = deque(maxlen=remembered)
        self._listeners: list[Listener] = []
        # Fixed, so that two moments lie as far apart as the monotonic clock says.
        self._offset = time.time() - time.monotonic()

    def listen(self, listener: Listener) -> None:
        """Have ``listener`` told of every job from now on."""
        self._listeners.append(listener)

    def now(self) -> float:
        """Tell this worker's time, seconds since 1970: set when it began, and never set again."""
        return time.monotonic() + self._offset

    def connect(self) -> None:
        """Follow Celery's signals from now on, for as long as the process lives."""
        signals.task_success.connect(self._on_success, weak=False)
        signals.task_failure.connect(self._on_failure, weak=False)
        signals.task_revoked.connect(self._on_revoked, weak=False)
        signals.task_retry.connect(self._on_retry, weak=False)
        signals.task_rejected.connect(self._on_refused, weak=False)

    def passages(self, since: float = 0.0) -> list[Passage]:
        """Return the remembered images that began at ``since`` or later, by this worker's clock."""
        return [one for one in list(self._passages) if one.begun_at >= since]

    # -------------------------------------------------------------------------------------- signals, any thread

    def _on_success(self, sender: Any, result: Any, **_: Any) -> None:
        if _is_ours(sender):
            results = result if isinstance(result, list) else [result]
            self._end(sender, sender.request.id, sender.request, OK, results)

    def _on_failure(self, sender: Any, task_id: str, exception: BaseException, **_: Any) -> None:
        """A failure is told by Celery's tracer, with the request in hand, or by a hard limit on the loop, without."""
        if _is_ours(sender):
            request = sender.request if sender.request.id == task_id else None
            self._end(sender, task_id, request, code_of(exception))

    def _on_revoked(self, sender: Any, request: Any, expired: bool = False, **_: Any) -> None:
        if _is_ours(sender):
            self._end(sender, request.id, request, DeadlineExceeded.code if expired else Cancelled.code)

    def _on_retry(self, sender: Any, request: Any, **_: Any) -> None:
        if _is_ours(sender):
            self._end(sender, request.id, request, RETRIED)

    def _on_refused(self, message: Any, exc: Any = None, **_: Any) -> None:
        """A message that was refused before it became a request (:mod:`worker.guard`)."""
        job = message.headers.get("id") if isinstance(message.headers, Mapping) else None
        code = code_of(exc) if exc is not None else InvalidRequest.code
        self._tell(Ended(str(job), "", self._model_of(message), code, (), {}))

    def _end(self, task: Any, job: str, request: Any, code: str, results: Sequence[Any] = ()) -> None:
        stage = current_stage(job)
        outcomes = getattr(stage.future, "outcomes", ()) if stage is not None else ()
        images = tuple(_passage(job, index, one, results, self._offset) for index, one in enumerate(outcomes))
        self._passages.extend(images)
        model = images[0].model if images else self._model_of(request)
        self._tell(Ended(job, task.name, model, code, images, getattr(request, "__dict__", None) or {}))

    def _tell(self, ended: Ended) -> None:
        for listener in self._listeners:
            listener(ended)

    def _model_of(self, request: Any) -> str:
        delivery = getattr(request, "delivery_info", None) or {}
        model = wire.model_of(delivery.get("routing_key"))
        return model if model in self._models else UNKNOWN


def code_of(error: object) -> str:
    """Give the code of whatever ended a job, the one that its client sees."""
    if isinstance(error, FleetError):
        return error.code
    if isinstance(error, TimeLimitExceeded | SoftTimeLimitExceeded):
        return DeadlineExceeded.code
    return InternalError.code


def _is_ours(task: Any) -> bool:
    return getattr(task, "name", None) in (wire.TASK_DETECT, wire.TASK_DETECT_MANY)


def _passage(job: str, index: int, outcome: Any, results: Sequence[Any], offset: float) -> Passage:
    """Describe one image; ``queued`` and ``finish`` are known only where it has a result."""
    result = results[index] if index < len(results) else None
    told = result.get("timings_ms") if isinstance(result, dict) else None
    return Passage(
        job=job,
        index=index,
        model=outcome.network.spec.name,
        code=OK if outcome.error is None else outcome.error.code,
        begun_at=outcome.starts.get("fetch", outcome.done_at) + offset,
        starts_at={stage: at + offset for stage, at in (*outcome.starts.items(), ("finish", outcome.done_at))},
        stages_ms=told if told is not None else dict(outcome.timings_ms),
        thread=outcome.thread,
        slot=outcome.slot,
        bytes=outcome.size_bytes,
        digest=outcome.network.digest,
    )
