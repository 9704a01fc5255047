"""A user's own tasks that have an asynchronous stage: ``-I tests.integration.user_stages``, after the others."""

import sys
from concurrent.futures import Future
from typing import Any

from celery import Task, shared_task

from producer.errors import InferenceFailed, InvalidImage
from tests.integration.user_tasks import pass_gate, record, run_loop
from worker.request import current_stage
from worker.tasks import DetectTask


class Ready(Future[Any]):
    """A stage that is over before it began."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.set_result(value)


class FailsFirst(DetectTask):
    """A detection whose inference fails as often as its argument says."""

    abstract = True

    def begin(self, engine: Any, request: Any) -> Future[Any]:
        """Fail while there have been fewer retries than asked for; then do what a detection does."""
        image, failures = request["args"]
        inner = super().begin(engine, {**request, "args": [image], "kwargs": {}})
        if request["retries"] >= failures:
            return inner
        outcomes = inner.result(timeout=10)
        outcomes[0].error = InferenceFailed()
        return Ready(outcomes)


@shared_task(bind=True, base=FailsFirst, name="user.fails_first")
def fails_first(self: DetectTask, _image: Any, _failures: int) -> dict[str, Any]:
    """Return the detections and the number of retries."""
    return self.result_of(self.outcomes()[0]).to_json() | {"retries": self.request.retries}


def stage_of(task: Task) -> Future[Any]:
    """Return what the stage of the job at hand ended with."""
    stage = current_stage(task.request.id)
    assert stage is not None
    return stage.future


class Hanging(Future[Any]):
    """A stage that never ends by itself and notes when it is cancelled."""

    def __init__(self, job: str, *, deaf: bool) -> None:
        super().__init__()
        self.set_running_or_notify_cancel()
        self._job = job
        self._deaf = deaf

    def cancel(self) -> bool:
        """End, unless deaf."""
        record("cancelled", self._job)
        if not self._deaf:
            self.set_exception(InvalidImage("cancelled"))
        return not self._deaf


class HangingTask(Task):
    """A task whose stage hangs; its argument says whether it hears of a cancel."""

    abstract = True

    def begin(self, _engine: Any, request: Any) -> Future[Any]:
        """Begin and never end."""
        record("begun", request["id"])
        return Hanging(request["id"], deaf=bool(request["args"][0]))


@shared_task(bind=True, base=HangingTask, name="user.hang")
def hang(self: Task, _deaf: bool) -> str:
    """Raise what the stage ended with."""
    record("body", self.request.id)
    return str(stage_of(self).result(timeout=0))


class OddTask(Task):
    """A task whose ``begin`` does something that no ``begin`` should."""

    abstract = True

    def begin(self, _engine: Any, request: Any) -> Any:
        """Misbehave as the argument says."""
        (how,) = request["args"]
        if how == "none":
            return None
        if how == "raises":
            raise LookupError("begin failed")
        if how == "exits":
            sys.exit(4)
        return Ready(how)


@shared_task(bind=True, base=OddTask, name="user.odd")
def odd(self: Task, _how: str) -> str:
    """Return what the stage gave."""
    return str(stage_of(self).result(timeout=0))


class ReadyTask(Task):
    """A task whose stage is nothing."""

    abstract = True

    def begin(self, _engine: Any, _request: Any) -> Future[Any]:
        """End at once."""
        return Ready(None)


@shared_task(bind=True, base=ReadyTask, name="user.slow_body")
def slow_body(self: Task, key: str) -> str:
    """Block in the body, where a body should be quick."""
    return pass_gate(self.request.id, key)


@shared_task(bind=True, base=ReadyTask, name="user.loop_behind_stage")
def loop_behind_stage(self: Task, seconds: float) -> str:
    """Run Python code in the body."""
    return run_loop(self.request.id, seconds)
