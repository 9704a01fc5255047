"""The tasks: ``fleet.detect`` for one image, ``fleet.detect_many`` for a batch in one message.

Stage: a task's ``begin`` runs before its body, on the loop thread, and starts the asynchronous stage in the detector;
the body runs inside Celery's tracer once that stage is over, and makes the result.
"""

import time
from collections.abc import Mapping
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any

from celery import Task, shared_task
from celery.exceptions import Ignore

from producer import wire
from producer.errors import FleetError, InferenceFailed, InternalError, InvalidRequest
from worker.clock import redis_clock
from worker.detector import Detector
from worker.ending import list_of
from worker.outcome import Outcome, Request
from worker.request import current_stage
from worker.shown import ShownResult, ShownResults

#: Tries of a job whose inference failed, the first included.
TRIES = 3


class DetectTask(Task):  # type: ignore[misc]
    """A task whose images go through the detector before its body runs.

    Any task of this pool may have such a stage: ``begin(engine, request) -> Future``, called on the event loop and so
    never blocking; the body finds the settled future with :func:`worker.request.current_stage`. If the body only builds
    a result, ``brief=True`` lets the pool run it after those of other jobs, on the same thread.
    """

    abstract = True
    Request = "worker.request:ImageRequest"
    max_retries = TRIES - 1
    #: A caller's mistake is an answer, not an incident: one line in the log, no traceback.
    throws = (FleetError,)
    #: A hung inference ends here, and its request is replaced.
    time_limit = 300
    #: Characters of a result in logs, events and Flower, which worker.shown makes a sentence of. Celery makes this text
    #: for every job, read or not; of the JSON itself, with its own 1024, that is 0.2 ms of each (docs/performance.md).
    resultrepr_maxsize = 200
    #: Whether the task's one positional argument is a list of images.
    batch = False

    def begin(self, engine: Detector, request: Mapping[str, Any]) -> Future[Any]:
        """Start the asynchronous stage of the job that ``request``, Celery's own dictionary, describes.

        Raises:
            FleetError: the request is bad as a whole; the pool lets the body raise it.
        """
        raw = _one_argument(request["args"])
        delivery = request.get("delivery_info") or {}
        return engine.start(
            Request(
                images=wire.parse_images(raw) if self.batch else [raw],
                options=wire.Options.parse(request["kwargs"]),
                model=wire.model_of(delivery.get("routing_key")),
                job_id=request["id"],
                deadline=_epoch(request.get("expires")),
                many=self.batch,
                waited_in=list_of(delivery),
                redelivered=bool(delivery.get("redelivered")),
                retries=request.get("retries") or 0,
            )
        )

    def outcomes(self) -> list[Outcome]:
        """Return what became of each image; retry the job while an inference failed and there are tries left.

        Raises:
            FleetError: the job's own error.
            celery.exceptions.Retry: it will be tried again.
            celery.exceptions.Ignore: it was answered before; that answer stands.
        """
        stage = current_stage(self.request.id)
        if stage is None:
            raise InternalError("The worker does not run the pool worker.pool:DetectionPool.")
        outcomes: list[Outcome] = stage.future.result(timeout=0)
        if getattr(stage.future, "is_duplicate", False):
            raise Ignore
        for outcome in outcomes:
            if isinstance(outcome.error, InferenceFailed) and self.request.retries < self.max_retries:
                raise self.retry(exc=outcome.error, eta=_soon(2**self.request.retries * 0.5))
        return outcomes

    def result_of(self, outcome: Outcome) -> wire.Result:
        """Build one image's result.

        Raises:
            FleetError: the image's own error.
        """
        sent_at = getattr(self.request, wire.SENT_AT_HEADER, None)
        begun_at = redis_clock.now() - self._age_s(outcome)
        queued_ms = max(0.0, begun_at - sent_at) * 1000 if isinstance(sent_at, int | float) else 0.0
        return outcome.result(worker=self.request.hostname or "", queued_ms=queued_ms)

    def item_of(self, outcome: Outcome) -> dict[str, Any]:
        """Build one image's part of a batch: its result, or its error."""
        try:
            return self.result_of(outcome).to_json()
        except FleetError as error:
            return {"error": error.to_json()}

    @staticmethod
    def _age_s(outcome: Outcome) -> float:
        """Seconds since the image's first stage began."""
        return time.monotonic() - outcome.done_at + sum(outcome.timings_ms.values()) / 1000

    def after_return(self, status: str, retval: Any, task_id: str, *_: Any) -> None:
        """Once the outcome is stored, and the job with it gone from Redis, let the detector forget it.

        An outcome that is to be stored together with others is not yet; whoever stores them sees to the rest.
        """
        stage = current_stage(self.request.id)
        if stage is not None and not stage.waits:
            if stage.ended is None:
                stage.engine.finish(task_id, stage.remains(self.request)._replace(tag=None))
            stage.engine.forget(task_id)

    def on_retry(self, exc: Any, task_id: str, *_: Any) -> None:
        """Take the job from the books but keep its images: it goes on as a message of Celery's own."""
        stage = current_stage(self.request.id)
        if stage is not None:
            stage.engine.finish(task_id, stage.remains(self.request)._replace(images=(), tag=None))


def _one_argument(args: Any) -> Any:
    if not isinstance(args, list | tuple) or len(args) != 1:
        raise InvalidRequest("The task takes one positional argument, an image or a list of them; options go by name.")
    return args[0]


def _soon(seconds: float) -> datetime:
    """Give a moment of the near future by Redis's clock, for whichever worker gets the message."""
    return datetime.fromtimestamp(redis_clock.now() + seconds, UTC)


def _epoch(expires: Any) -> float | None:
    if not isinstance(expires, str):
        return None
    try:
        return datetime.fromisoformat(expires).timestamp()
    except ValueError:
        return None


@shared_task(bind=True, base=DetectTask, name=wire.TASK_DETECT, brief=True)
def detect(self: DetectTask, *_: Any, **__: Any) -> ShownResult:
    """Detect the objects of one image: ``fleet.detect(image, **options)``; see :mod:`producer.wire`."""
    return ShownResult(self.result_of(self.outcomes()[0]).to_json())


@shared_task(bind=True, base=DetectTask, name=wire.TASK_DETECT_MANY, batch=True, brief=True)
def detect_many(self: DetectTask, *_: Any, **__: Any) -> ShownResults:
    """Detect the objects of several images: a result or ``{"error": {...}}`` for each, in their order."""
    return ShownResults(self.item_of(outcome) for outcome in self.outcomes())
