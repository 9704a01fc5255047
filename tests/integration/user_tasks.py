"""A user's own tasks, as they stand in a module beside the fleet's: ``-I tests.integration.user_tasks``.

They say what they do through Redis: ``record:<kind>:<job>`` is a list, a gate is a pair of lists.
"""

import itertools
import json
import os
import signal
import sys
import time
from typing import Any

from celery import Task, current_app, shared_task, signals
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from celery.worker.control import control_command
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

#: Tries again for ten seconds, so that a user's task outlives a cut connection.
redis = Redis.from_url(os.environ["FLEET_URL"], socket_timeout=None, retry=Retry(ConstantBackoff(0.1), 100))

if policy := os.environ.get("USER_CELERY_KEYS"):
    current_app.conf.update(json.loads(policy))


def record(kind: str, job: str, what: object = "") -> None:
    """Note something about a job."""
    redis.rpush(f"record:{kind}:{job}", str(what))


# --------------------------------------------------------------------------------------------------- plain tasks


@shared_task(name="user.echo")
def echo(*values: Any) -> list[Any]:
    """Return the arguments."""
    return list(values)


@shared_task(bind=True, name="user.gate")
def gate(self: Task, key: str) -> str:
    """Block in C until somebody opens the gate."""
    return pass_gate(self.request.id, key)


@shared_task(bind=True, name="user.early_gate", acks_late=False)
def early_gate(self: Task, key: str) -> str:
    """Do the same, acknowledged before it runs."""
    return pass_gate(self.request.id, key)


def pass_gate(job: str, key: str) -> str:
    """Say that the body runs, and wait."""
    record("ran", job)
    redis.rpush(f"entered:{key}", "in")
    redis.blpop([f"go:{key}"], timeout=60)
    return "through"


@shared_task(bind=True, name="user.about")
def about(self: Task, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return what the task sees of itself."""
    seen = self.request
    names = ("id", "task", "args", "kwargs", "retries", "hostname", "delivery_info", "root_id", "parent_id", "expires")
    return {name: getattr(seen, name) for name in names} | {"called_directly": seen.called_directly}


@shared_task(bind=True, name="user.flaky", max_retries=5)
def flaky(self: Task, failures: int) -> int:
    """Fail and retry so many times, then return the number of retries."""
    if self.request.retries < failures:
        raise self.retry(exc=RuntimeError("not yet"), countdown=0.01)
    return int(self.request.retries)


@shared_task(name="user.fail")
def fail(text: str) -> None:
    """Raise a ValueError."""
    raise ValueError(text)


@shared_task(name="user.on_error")
def on_error(request: Any, exc: Any, traceback: Any) -> None:
    """Note which job failed; for ``link_error``."""
    record("errback", request.id, type(exc).__name__)


@shared_task(name="user.count")
def count(result: dict[str, Any], note_under: str = "") -> int:
    """Count a result's detections; the next step of a chain."""
    if note_under:
        record("count", note_under, len(result["detections"]))
    return len(result["detections"])


@shared_task(name="user.total")
def total(results: list[dict[str, Any]]) -> int:
    """Count the detections of all results; the body of a chord."""
    return sum(len(result["detections"]) for result in results)


@shared_task(name="user.sleep")
def sleep_in_c(seconds: float) -> None:
    """Block in C, deaf to everything."""
    time.sleep(seconds)


@shared_task(bind=True, name="user.loop")
def loop(self: Task, seconds: float, *, catch: bool = False) -> str:
    """Run Python code, which can be interrupted."""
    try:
        return run_loop(self.request.id, seconds)
    except SoftTimeLimitExceeded:
        if catch:
            return "caught"
        raise


def run_loop(job: str, seconds: float) -> str:
    """Run for so long, and note what ended it before."""
    try:
        record("ran", job)  # whoever reads it may interrupt at once
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.002)
    except SoftTimeLimitExceeded:
        raise
    except BaseException as error:
        record("interrupted", job, type(error).__name__)
        raise
    return "done"


class Drastic(BaseException):
    """Not an Exception."""


@shared_task(name="user.raise_this")
def raise_this(what: str) -> None:
    """End in one of the unusual ways."""
    if what == "exit":
        sys.exit(3)
    raise {"base": Drastic, "memory": MemoryError, "interrupt": KeyboardInterrupt, "generator": GeneratorExit}[what]


@shared_task(bind=True, name="user.reject")
def reject(self: Task, requeue: bool) -> str:
    """Reject the message the first time."""
    record("ran", self.request.id)
    if redis.llen(f"record:ran:{self.request.id}") == 1:
        raise Reject("not mine", requeue=requeue)
    return "second time"


@shared_task(bind=True, name="user.ignore")
def ignore(self: Task) -> None:
    """Say that no state shall be stored."""
    record("ran", self.request.id)
    raise Ignore


@shared_task(bind=True, name="user.fail_unacknowledged", acks_on_failure_or_timeout=False)
def fail_unacknowledged(self: Task) -> None:
    """Fail without an acknowledgement; Celery then drops the message."""
    record("ran", self.request.id)
    raise ValueError("dropped")


@shared_task(bind=True, name="user.silent", ignore_result=True)
def silent(self: Task) -> str:
    """Run, and leave no result."""
    record("ran", self.request.id)
    return "nobody sees this"


@shared_task(name="user.not_json")
def not_json() -> object:
    """Return what no serializer takes."""
    return object()


# --------------------------------------------------------------------------------------------------- signals

_order = itertools.count()

if os.environ.get("USER_RECORDS_SIGNALS"):

    def _note(name: str, **known: Any) -> None:
        request = known.get("request")
        job = known.get("task_id") or getattr(request, "id", None)
        if name == "task_success":
            job = known["sender"].request.id
        if job:
            record("signals", job, name)

    def _listen(name: str) -> None:
        def receiver(**known: Any) -> None:
            _note(name, **known)

        getattr(signals, name).connect(receiver, weak=False)

    for _name in (
        "task_received",
        "task_prerun",
        "task_postrun",
        "task_success",
        "task_failure",
        "task_retry",
        "task_revoked",
        "task_internal_error",
        "task_rejected",
        "task_unknown",
    ):
        _listen(_name)

    @signals.worker_process_init.connect(weak=False)
    def _on_init(**_: Any) -> None:
        record("signals", "process", f"worker_process_init {os.getpid()}")

    @signals.worker_ready.connect(weak=False)
    def _on_ready(**_: Any) -> None:
        record("signals", "process", f"worker_ready {os.getpid()}")


# ----------------------------------------------------------------------------------------------- control commands


@control_command()
def quit_while_sending_events(state: Any) -> dict[str, str]:
    """Get SIGQUIT while the loop sends events: it has the lock, and as many more as make the next one be sent."""
    dispatcher = state.consumer.event_dispatcher
    while len(dispatcher._group_buffer["task"]) < dispatcher.buffer_limit - 1:
        dispatcher.send("task-sent", uuid="any")
    with dispatcher.mutex:
        os.kill(os.getpid(), signal.SIGQUIT)
    return {"ok": "still here"}
