"""One job in the pool, how it begins and goes back, and what Celery is told of one that went wrong.

Stage: under :mod:`worker.pool`. Mirrors celery 5.7: ``celery.worker.request.Request`` (whose methods the callbacks
are), ``billiard.einfo.ExceptionInfo`` (what it reads of an error).
"""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from billiard.einfo import ExceptionInfo
from celery.exceptions import BackendError, Reject, WorkerLostError, WorkerShutdown, WorkerTerminate
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from worker.bodies import Body
from worker.request import Stage

logger = logging.getLogger(__name__)

#: What Celery's tracer raises when Redis could not be reached to store an outcome.
UNREACHABLE = (OSError, BackendError, OperationalError, RedisConnectionError, RedisTimeoutError)


class Job:
    """One accepted job. Belongs to the loop thread, but for ``body``; other threads only read."""

    __slots__ = (
        "__weakref__",
        "args",
        "body",
        "callback",
        "error_callback",
        "future",
        "pid",
        "stage",
        "target",
        "task",
    )

    def __init__(self, pid: int, target: Callable[..., Any], args: tuple[Any, ...], task: Any) -> None:
        self.pid = pid
        self.target = target
        self.args = args
        self.task = task
        self.callback: Any = None  # both are methods of Celery's request
        self.error_callback: Any = None
        self.future: Future[Any] | None = None
        self.stage: Stage | None = None
        self.body = Body()

    @property
    def tag(self) -> str | None:
        """The message's delivery tag, where acknowledging may be part of the job's end."""
        message = getattr(getattr(self.callback, "__self__", None), "message", None)
        return message.delivery_tag if message is not None and hasattr(message.channel.qos, "ended") else None

    def note_end(self) -> None:
        """Tell kombu that the message was acknowledged with the job's end, if it was."""
        ended = self.stage.ended if self.stage is not None else None
        if ended is not None and ended.tag is not None:
            self.callback.__self__.message.channel.qos.ended.add(ended.tag)

    @property
    def queue(self) -> str:
        """The queue that it came from; empty if it does not say."""
        return str((self.args[2].get("delivery_info") or {}).get("routing_key") or "")

    def forget_message(self) -> None:
        """Let no acknowledgement be sent, as if it had been."""
        self.callback.__self__.acknowledged = True

    def tell_accepted(self, tell: Callable[..., Any] | None) -> None:
        """Tell Celery that the job has a place; that may terminate it at once."""
        try:
            if tell is not None:
                tell(self.pid, time.monotonic())
        except Exception:
            logger.exception("job.accept_failed job=%s", self.args[1])

    def tell_end(self, returned: Any, problem: ExceptionInfo | None) -> None:
        """Tell Celery how the job ended: it acknowledges, sends events, counts."""
        try:
            self.note_end()
            if problem is None and self.callback is not None:
                self.callback(returned)
            elif problem is not None and self.error_callback is not None:
                self.error_callback(problem)
        except MemoryError:  # Celery passes on a task's own, to end the process; its outcome is stored
            logger.exception("job.out_of_memory job=%s", self.args[1])
            self.callback.__self__.acknowledge()
        except Exception:
            logger.exception("job.callback_failed job=%s", self.args[1])

    def terminate(self, signal: Any = None) -> None:
        """Do nothing: Celery calls this on what ``on_apply`` returned, after ``terminate_job`` did the work."""


class End(NamedTuple):
    """How a job ended: what the tracer returned, or what went wrong in the worker."""

    job: Job
    returned: Any
    problem: ExceptionInfo | None


def begun(begin: Callable[..., Any], engine: Any, job: Job) -> Future[Any]:
    """Start the job's stage; what goes wrong is raised by the body, inside Celery's tracer."""
    try:
        future = begin(engine, job.args[2])
    except (WorkerShutdown, WorkerTerminate):  # a signal's, which may come at any moment
        raise
    except BaseException as error:  # noqa: BLE001
        return failed(error)
    if not isinstance(future, Future):
        return failed(TypeError(f"{job.task.name}.begin returned {type(future).__name__} instead of a future"))
    return future


def give_back_all(waiting: Sequence[Any]) -> None:
    """Put the messages of requests that wait for a place back to the heads of their queues, in their order."""
    try:
        for request in reversed(waiting):
            give_back(request)
    except Exception as error:  # noqa: BLE001 - then they come back when the connection closes or the lease ends
        logger.warning("pool.not_given_back waiting=%d error=%r", len(waiting), error)


def give_back(request: Any) -> None:
    """Put a message back to the head of its queue now; Celery's own ``reject`` would put it to the end, and later."""
    if not request.acknowledged:
        qos = request.message.channel.qos
        qos.restore_by_tag(request.message.delivery_tag)
        qos.ack(request.message.delivery_tag)
        request.acknowledged = True


def unwind(info: Any) -> None:
    """Take the tracebacks off an error that was dealt with.

    Their frames hold the job, its message and the error itself: a ring that would keep every refused image in memory
    until Python's collector comes by.
    """
    error = getattr(info, "exception", None)
    error = getattr(error, "exc", error)  # billiard's own wrapper
    while isinstance(error, BaseException) and error.__traceback__ is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def failed(error: BaseException) -> Future[Any]:
    """Return a stage that has ended with ``error``."""
    future: Future[Any] = Future()
    future.set_exception(error)
    return future


def lost(error: BaseException) -> ExceptionInfo:
    """Give what Celery expects of a pool whose process ended in the middle of a task."""
    return as_another(WorkerLostError(repr(error)), error)


def not_stored(error: Exception) -> ExceptionInfo:
    """Give what Celery is told when no outcome could be stored.

    Where Redis was not reached the message goes back to the queue; what it refuses for good it would refuse again, so
    that is what the job ends with.
    """
    if isinstance(error, UNREACHABLE):
        return as_another(Reject(error, requeue=True), error)
    try:
        raise error
    except type(error):
        return ExceptionInfo()


def as_another(error: Exception, cause: BaseException) -> ExceptionInfo:
    """Give ``error`` as Celery takes it from a pool, with what it came from."""
    try:
        raise error from cause
    except type(error):
        return ExceptionInfo()  # reads what is being handled
