"""Celery's pool: runs a task's asynchronous stage, then Celery's own tracer, and blocks the event loop for neither.

Stage: between Celery's consumer and :mod:`worker.detector`. All that knows Celery's insides is here and in
:mod:`worker.request`; nothing is patched. Selected by ``worker_pool = "worker.pool:DetectionPool"``.

A job's way::

    on_apply           loop thread     accept, arm time limits, begin
    task.begin(...)    returns a future at once; no thread waits for it
    tracer             a finisher      target(*args), unchanged: runs the body, stores the result, signals, chords
    _finish            loop thread     Celery's callback (ack, events), free the place

A task without ``begin`` goes straight to the tracer, on a thread of its own, since it may block as long as it likes.

Mirrors celery 5.7: ``celery.concurrency.base.BasePool`` (the methods), ``celery.concurrency.asynpool`` (what a pool
does with ``semaphore`` and time limits), ``celery.worker.request.Request`` (what the callbacks expect).
"""

import contextlib
import ctypes
import functools
import itertools
import logging
import queue
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from billiard.einfo import ExceptionInfo
from celery import signals
from celery.concurrency.base import BasePool
from celery.exceptions import SoftTimeLimitExceeded, WorkerLostError, WorkerShutdown
from celery.platforms import EX_FAILURE

from worker import cpu, detector, models, settings
from worker.alarms import Alarms
from worker.request import STAGE_KEY, Stage

logger = logging.getLogger(__name__)

#: Seconds between two self-tests of the networks.
HEALTH_EVERY_S = 5.0

#: Threads that run Celery's tracer for jobs whose asynchronous stage is over; they mostly wait for Redis.
FINISHERS = 2


class Interrupted(BaseException):
    """Raised inside a task's thread when its job was terminated or met its hard time limit.

    Not an ``Exception``: Celery's tracer then stores no outcome over the one that Celery has stored already.
    """


class Job:
    """One accepted job. Belongs to the loop thread; ``thread_id`` alone is written by the thread that runs the body."""

    __slots__ = (
        "__weakref__",
        "args",
        "callback",
        "error_callback",
        "future",
        "pid",
        "target",
        "task",
        "thread_id",
    )

    def __init__(self, pid: int, target: Callable[..., Any], args: tuple[Any, ...], task: Any) -> None:
        self.pid = pid
        self.target = target
        self.args = args
        self.task = task
        self.callback: Callable[..., Any] | None = None
        self.error_callback: Callable[..., Any] | None = None
        self.future: Future[Any] | None = None
        self.thread_id: int | None = None

    def terminate(self, signal: Any = None) -> None:
        """Do nothing: Celery calls this on what ``on_apply`` returned, after ``terminate_job`` did the work."""


class DetectionPool(BasePool):  # type: ignore[misc]
    """A pool whose jobs spend their time in OpenVINO's queue, not in a thread.

    ``limit`` (``--concurrency``, or ``FLEET_JOBS``) is the number of jobs held in all stages together.
    """

    #: Celery's consumer then asks the semaphore before each job, so that a job which has no place yet is still
    #: "reserved": it can be revoked, can expire, and goes back to the queue at shutdown.
    uses_semaphore = True
    signal_safe = False
    task_join_will_block = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._jobs: dict[int, Job] = {}
        self._pids = itertools.count(1)
        self._done: queue.SimpleQueue[tuple[Job, Any, ExceptionInfo | None]] = queue.SimpleQueue()
        self._alarms = Alarms()
        self._hub: Any = None
        self._engine: Any = None
        self._finishers: ThreadPoolExecutor | None = None
        self._answered_at = 0.0

    # ---------------------------------------------------------------------------------------------- lifecycle

    def open_engine(self) -> Any:
        """Load what the tasks' asynchronous stages need; tests put something simpler here."""
        chosen = settings.load()
        return detector.open_detector(chosen, cpu.make_plan(chosen))

    def on_start(self) -> None:
        """Load the networks. Runs before the consumer starts, so that a worker that is ready can work.

        Raises:
            WorkerShutdown: a network cannot be loaded; the log has one sentence.
        """
        try:
            self._engine = self.open_engine()
        except (models.ModelError, settings.SettingsError) as error:
            logger.critical("%s", error)
            raise WorkerShutdown(EX_FAILURE) from None
        self._finishers = ThreadPoolExecutor(FINISHERS, thread_name_prefix="finish")
        signals.worker_process_init.send(sender=None)

    def register_with_event_loop(self, hub: Any) -> None:
        """Meet the event loop; called again after each reconnect, when the loop has lost its timers and readers."""
        self._hub = hub
        self._alarms.meet(hub)
        hub.call_repeatedly(HEALTH_EVERY_S, self._check_health)
        hub.call_soon(self._check_health)
        hub.call_soon(self._announce)
        hub.call_soon(self._drain_done)

    def on_close(self) -> None:
        """Forget jobs that have no place yet: unacknowledged, they go back to the queue."""
        if (semaphore := self.options.get("semaphore")) is not None:
            semaphore.clear()

    def on_stop(self) -> None:
        """Warm shutdown: finish what is in flight within ``FLEET_DRAIN_S``; the rest goes back to the queue.

        The loop stands still here, so completions are taken from their queue directly. Celery runs the
        acknowledgements when it closes the loop right after, and then re-queues what is not acknowledged.
        """
        until = time.monotonic() + settings.load().drain_s
        while self._jobs and (left := until - time.monotonic()) > 0:
            self._hub.fire_timers(max_timers=100)  # time limits hold while draining
            try:
                self._finish(*self._done.get(timeout=min(left, 0.2)))
            except queue.Empty:
                continue
        if self._jobs:
            logger.warning("pool.drain_limit given_back=%d", len(self._jobs))
        self._shut()

    def on_terminate(self) -> None:
        """Cold shutdown: drop everything now; what is not acknowledged comes back."""
        self._shut()

    def _shut(self) -> None:
        for job in list(self._jobs.values()):
            self._abandon(job)
        if self._engine is not None:
            self._engine.close()
        if self._finishers is not None:
            self._finishers.shutdown(wait=True, cancel_futures=True)

    # --------------------------------------------------------------------------------------------- loop thread

    def on_apply(  # noqa: PLR0913 - Celery's signature
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None = None,
        *,
        accept_callback: Callable[..., Any] | None = None,
        callback: Callable[..., Any] | None = None,
        error_callback: Callable[..., Any] | None = None,
        timeout_callback: Callable[..., Any] | None = None,
        soft_timeout: float | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> Job:
        """Take a job: ``target(*args)`` is Celery's tracer, ``args`` is (task name, id, request, body, ...)."""
        job = Job(next(self._pids), target, tuple(args), self.app.tasks[args[0]])
        job.callback, job.error_callback = callback, error_callback
        if not self.active:  # an ETA that came due while draining; unacknowledged, it goes back to the queue
            return job
        self._jobs[job.pid] = job
        if accept_callback is not None:
            accept_callback(job.pid, time.monotonic())  # may terminate the job at once
        if job.pid in self._jobs:
            self._arm(job, timeout_callback, soft_timeout or self.options.get("soft_timeout"), soft=True)
            self._arm(job, timeout_callback, timeout or self.options.get("timeout"), soft=False)
            self._begin(job)
        return job

    def terminate_job(self, pid: int, signal: Any = None) -> None:
        """Stop a job that was revoked with ``terminate=True``; Celery has stored and acknowledged its outcome."""
        if job := self._jobs.get(pid):
            self._abandon(job)

    def _begin(self, job: Job) -> None:
        begin = getattr(job.task, "begin", None)
        if begin is None:
            threading.Thread(target=self._run, args=(job,), name=f"task-{job.pid}", daemon=True).start()
            return
        request = job.args[2]
        try:
            job.future = begin(self._engine, request)
        except Exception as error:  # noqa: BLE001 - the body raises it, inside Celery's tracer
            job.future = Future()
            job.future.set_exception(error)
        request[STAGE_KEY] = Stage(self._engine, job.future)
        job.future.add_done_callback(lambda _: self._enter_body(job))

    def _arm(self, job: Job, tell: Callable[..., Any] | None, limit_s: float | None, *, soft: bool) -> None:
        if limit_s and tell is not None:
            act = self._soft_limit if soft else self._hard_limit
            self._alarms.set(job.pid, limit_s, functools.partial(act, job, tell, limit_s))

    def _soft_limit(self, job: Job, tell: Callable[..., Any], limit_s: float) -> None:
        if job.pid not in self._jobs:
            return
        tell(True, limit_s)
        if job.future is not None and not job.future.done():
            job.args[2][STAGE_KEY] = Stage(self._engine, _failed(SoftTimeLimitExceeded(limit_s)))
            job.future.cancel()
        else:
            _raise_in_thread(job.thread_id, SoftTimeLimitExceeded)

    def _hard_limit(self, job: Job, tell: Callable[..., Any], limit_s: float) -> None:
        if job.pid in self._jobs:
            self._abandon(job)
            tell(False, limit_s)

    def _abandon(self, job: Job) -> None:
        """Free the job's place now; whatever it still does is stopped where it can be, and ignored."""
        self._forget(job)
        if job.future is not None:
            job.future.cancel()
        else:
            _raise_in_thread(job.thread_id, Interrupted)

    def _forget(self, job: Job) -> None:
        del self._jobs[job.pid]
        self._alarms.clear(job.pid)
        if (semaphore := self.options.get("semaphore")) is not None:
            semaphore.release()

    def _drain_done(self) -> None:
        while True:
            try:
                done = self._done.get_nowait()
            except queue.Empty:
                return
            self._finish(*done)

    def _finish(self, job: Job, returned: Any, problem: ExceptionInfo | None) -> None:
        """Tell Celery how the job ended: acknowledge, send events, count."""
        if job.pid not in self._jobs:
            return
        try:
            if problem is None:
                self._answered_at = time.monotonic()
                if job.callback is not None:
                    job.callback(returned)
            elif job.error_callback is not None:
                job.error_callback(problem)
        except Exception:
            logger.exception("job.callback_failed job=%s", job.args[1])
        finally:
            self._forget(job)

    # ------------------------------------------------------------------------------- completion and body threads

    def _enter_body(self, job: Job) -> None:
        if job.pid in self._jobs and self._finishers is not None:
            try:
                self._finishers.submit(self._run, job)
            except RuntimeError:
                logger.debug("pool.closed job=%s", job.args[1])

    def _run(self, job: Job) -> None:
        """Run Celery's tracer; whatever happens ends in the queue of completions."""
        with contextlib.suppress(Interrupted):  # which may also arrive after the body, outside of _trace
            if job.future is None:
                job.thread_id = threading.get_ident()
            if job.pid in self._jobs:
                self._done.put((job, *self._trace(job)))
                self._hub.call_soon(self._drain_done)

    @staticmethod
    def _trace(job: Job) -> tuple[Any, ExceptionInfo | None]:
        try:
            return job.target(*job.args), None
        except Interrupted:
            raise
        except Exception:  # noqa: BLE001 - Celery's callback judges it
            return None, ExceptionInfo()
        except BaseException as error:  # noqa: BLE001 - a task that exits ends its job, not the worker
            return None, _lost(error)
        finally:
            job.thread_id = None

    # ------------------------------------------------------------------------------------------------- health

    def _announce(self) -> None:
        self._aside(self._engine.announce, "engine.announce_failed")

    def _check_health(self) -> None:
        """Touch the health file while the networks answer; jobs that were answered lately prove it as well."""
        if time.monotonic() - self._answered_at < HEALTH_EVERY_S:
            self._aside(_touch, "health.touch_failed")
        else:
            self._engine.check().add_done_callback(self._on_checked)

    def _on_checked(self, test: Future[bool]) -> None:
        if test.result():
            self._aside(_touch, "health.touch_failed")
        else:
            logger.error("health.self_test_failed")

    def _aside(self, work: Callable[[], None], event: str) -> None:
        """Do ``work``, which may block on Redis or a disk, off the loop thread."""

        def guarded() -> None:
            try:
                work()
            except Exception:
                logger.exception("%s", event)

        if self._finishers is not None:
            self._finishers.submit(guarded)

    def flush(self) -> None:
        """After broker loss: jobs in flight go on and store their results; only their acknowledgements are lost."""

    def grow(self, n: int = 1) -> None:
        """Refuse: the number of jobs does not make inference faster."""
        raise ValueError("This pool does not grow: set FLEET_JOBS or --concurrency, or start another worker.")

    def shrink(self, n: int = 1) -> None:
        """Refuse, as :meth:`grow` does."""
        raise ValueError("This pool does not shrink: set FLEET_JOBS or --concurrency.")

    def _get_info(self) -> dict[str, Any]:
        info: dict[str, Any] = super()._get_info()
        info["jobs"] = len(self._jobs)
        info["models"] = self._engine.stats() if self._engine is not None else {}
        return info


class NoAutoscaler:
    """Stands where Celery would make its autoscaler, and says why there is none."""

    def __init__(self, *_: Any, **__: Any) -> None:
        sys.exit(
            "--autoscale does not fit this pool: it runs no child processes, and more jobs do not make inference "
            "faster. Leave it out; to scale, start more workers (docker compose up --scale worker=N)."
        )


def _touch() -> None:
    settings.load().health_file.touch()


def _failed(error: Exception) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(error)
    return future


def _lost(error: BaseException) -> ExceptionInfo:
    """Give what Celery expects of a pool whose process ended in the middle of a task."""
    try:
        raise WorkerLostError(repr(error)) from error  # noqa: TRY301 - ExceptionInfo reads what is being handled
    except WorkerLostError:
        return ExceptionInfo()


def _raise_in_thread(thread_id: int | None, error: type[BaseException]) -> None:
    """Raise ``error`` in another thread, as soon as it runs Python code; one that is inside C sees it on return."""
    if thread_id is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), ctypes.py_object(error))
