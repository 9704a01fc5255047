"""Celery's pool: runs a task's asynchronous stage, then Celery's own tracer, and blocks the event loop for neither.

Stage: between Celery's consumer and :mod:`worker.detector`. Neighbours: :mod:`worker.inhand`, which has the jobs,
:mod:`worker.limits`, which ends them early, and :mod:`worker.finishing`, which runs the tracer. Nothing of Celery's is
patched. Selected by ``worker_pool = "worker.pool:DetectionPool"``.

A job's way::

    on_apply           loop thread     accept, arm time limits, begin
    task.begin(...)    returns a future at once; no thread waits for it
    tracer             a finisher      target(*args), unchanged: runs the body, stores the result, signals, chords
    _finish            loop thread     Celery's callback (ack, events), free the place

A task without ``begin`` goes straight to the tracer, on a thread of its own, since it may block as long as it likes.

Mirrors celery 5.7: ``celery.concurrency.base.BasePool`` (the methods), ``celery.concurrency.asynpool`` (what a pool
does with ``semaphore``), ``celery.worker.request.Request`` (what the callbacks expect).
"""

import contextlib
import functools
import itertools
import logging
import queue
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from billiard.einfo import ExceptionInfo
from celery import signals
from celery.concurrency.base import BasePool
from celery.exceptions import WorkerShutdown
from celery.platforms import EX_FAILURE
from celery.worker import state

from worker import cpu, models, opening, settings, slices
from worker.bell import Bell
from worker.finishing import TOGETHER_OF_SEVERAL_S, TOGETHER_S, Finishing
from worker.fixed import Fixed
from worker.health import Health, Signs
from worker.inhand import InHand
from worker.jobs import End, Job, begun, give_back_all, lost, unwind
from worker.limits import Limits
from worker.request import Stage
from worker.stops import Stops

logger = logging.getLogger(__name__)

#: Seconds between two looks whether a place that was kept for others may be given away.
LOOK_EVERY_S = 0.5


class DetectionPool(Fixed, BasePool):  # type: ignore[misc]
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
        self._jobs = InHand(self.options)
        self._pids = itertools.count(1)
        self._done: queue.SimpleQueue[End] = queue.SimpleQueue()
        self._bell = Bell()
        self._closes = False
        self._hub: Any = None
        self._engine: Any = None
        self._stops = Stops(self._bell.ring)
        self._finishing = Finishing(
            lambda job: self._jobs.of(job.queue),
            is_wanted=self._jobs.__contains__,
            tell=self._note_ends,
            backend=lambda: self.app.backend,
        )
        self._limits = Limits(self._jobs, self._finishing, engine=lambda: self._engine, ring=self._bell.ring)

    # ---------------------------------------------------------------------------------------------- lifecycle

    def open_engine(self) -> Any:
        """Load what the tasks' asynchronous stages need; tests put something simpler here."""
        chosen = settings.load()
        return opening.open_detector(chosen, cpu.make_plan(chosen))

    @property
    def engine(self) -> Any:
        """What :meth:`open_engine` gave; None before the start."""
        return self._engine

    def on_start(self) -> None:
        """Load the networks. Runs before the consumer starts, so that a worker that is ready can work.

        Raises:
            WorkerShutdown: a network cannot be loaded; the log has one sentence.
        """
        self._stops.install()
        slices.lengthen(settings.load().slice_ms)  # before there are threads
        try:
            self._engine = self.open_engine()
        except (models.ModelError, settings.SettingsError) as error:
            logger.critical("%s", error)
            raise WorkerShutdown(EX_FAILURE) from None
        self.health = Health(settings.load().health_file)
        self._signs = Signs(self.health, self._engine, self._finishing.aside)
        self._does_debug = False  # Celery would log each message as it is, image included
        self._finishing.start()
        signals.worker_process_init.send(sender=None)

    def register_with_event_loop(self, hub: Any) -> None:
        """Meet the event loop; called again after each reconnect, when the loop has lost its timers and readers."""
        self._hub = hub
        self._finishing.wait_no_more()
        self._limits.meet(hub)
        self._bell.listen(hub, self._settle)
        self._bell.ring()
        self._signs.meet(hub)
        if (places := self.options.get("semaphore")) is not None and hasattr(places, "give"):
            hub.call_repeatedly(LOOK_EVERY_S, places.give)

    def flush(self) -> None:
        """After broker loss: jobs in flight go on and store their results, and keep their places.

        Celery has just freed all places, so theirs are taken again. Their messages cannot be acknowledged until there
        is a connection, and trying to would end the worker: what ends meanwhile comes back, and is recognised.

        Celery calls this at a shutdown as well, where the connection is there until all jobs have ended.
        """
        if self._closes:
            return
        self._finishing.wait_no_more()
        self._engine.drop_connections()
        for job in self._jobs:
            job.forget_message()
        self._jobs.take_places_again()

    def remember_messages(self) -> list[Any]:
        """After a reconnect: let the jobs in flight be acknowledged again, and return their messages."""
        requests = [job.callback.__self__ for job in self._jobs if job.callback is not None]
        for request in requests:
            request.acknowledged = False
        return [request.message for request in requests]

    def on_close(self) -> None:
        """Give back the jobs that have no place yet, so that other workers can begin them while this one drains.

        In a cold shutdown those that have a place are given up as well, before their messages go back.
        """
        self._closes = True
        self._finishing.wait_no_more()
        self._finishing.aside(self.health.stops, "health.touch_failed")
        if (semaphore := self.options.get("semaphore")) is not None:
            semaphore.clear()
        give_back_all([one for one in state.requests.values() if one not in state.active_requests])
        if state.should_terminate:
            self._settle()
            self._shut()

    def on_stop(self) -> None:
        """Warm shutdown: finish what is in flight within ``FLEET_DRAIN_S``; the rest goes back to the queue.

        The loop goes on meanwhile: acknowledgements leave at once, leases are renewed, time limits hold. The consumer
        is cancelled already, and what is not acknowledged is re-queued when Celery closes the connection right after.
        """
        limit_s = settings.load().drain_s
        until = time.monotonic() + limit_s
        if self._jobs and limit_s:
            self._hub.call_later(limit_s, _nothing)  # so that the loop does not sleep longer
        self._settle()
        while self._jobs and time.monotonic() < until and not state.should_terminate:
            self._turn_loop()
            self._settle()
        if self._jobs:
            logger.warning("pool.drain_limit given_back=%d", len(self._jobs))
        self._shut()

    def on_terminate(self) -> None:
        """Cold shutdown: drop everything now; what is not acknowledged comes back."""
        self._shut()

    def _turn_loop(self) -> None:
        try:
            self._hub.run_once()
        except Exception as error:  # noqa: BLE001 - the broker went away; jobs can end without it
            logger.warning("pool.loop_failed error=%r", error)
            time.sleep(0.1)

    def _shut(self) -> None:
        for job in self._jobs:
            self._limits.give_up(job)
        if self._engine is not None:
            self._engine.close()

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
        self._jobs.take(job)
        try:
            job.tell_accepted(accept_callback)
            if job in self._jobs:
                self._limits.arm(job, timeout_callback, soft_timeout or self.options.get("soft_timeout"), soft=True)
                self._limits.arm(job, timeout_callback, timeout or self.options.get("timeout"), soft=False)
                self._begin(job)
        except Exception as error:  # such as no more threads; it ends this job, not the loop
            logger.exception("job.not_begun job=%s", job.args[1])
            self._note_ends([End(job, None, lost(error))])
        return job

    def taken(self, queue: str) -> int:
        """Return how many places the jobs of a queue have."""
        return self._jobs.of(queue)

    def terminate_job(self, pid: int, signal: Any = None) -> None:
        """Stop a job that was revoked with ``terminate=True``; Celery has stored and acknowledged its outcome."""
        if job := self._jobs.get(pid):
            self._limits.give_up(job)

    def _begin(self, job: Job) -> None:
        begin = getattr(job.task, "begin", None)
        if begin is None:
            self._finishing.take_alone(job)
            return
        job.future = begun(begin, self._engine, job)
        job.stage = Stage(job.args[1], self._engine, job.future, job.tag)
        job.future.add_done_callback(functools.partial(self._staged, job.pid))  # not the job: a future keeps callbacks

    def _settle(self) -> None:
        """Tell Celery of the jobs that have ended, then give their places to those that wait."""
        self._finishing.let_none_wait()  # until it is known whether all places are taken
        self._bell.clear()
        with contextlib.suppress(queue.Empty):
            while True:
                self._finish(*self._done.get_nowait())
        self._jobs.give_places()
        if len(self._jobs) < self.limit or self._closes or self._hub is None:
            self._finishing.gather()
        else:
            self._finishing.let_wait(self._hub, TOGETHER_OF_SEVERAL_S if self._jobs.is_mixed else TOGETHER_S)

    def _finish(self, job: Job, returned: Any, problem: ExceptionInfo | None) -> None:
        """Tell Celery how the job ended, unless it was given up, and forget it."""
        try:
            if job in self._jobs:
                if problem is None and job.future is not None and not returned[0]:  # the tracer's (failed, value, ...)
                    self._signs.answered()
                try:
                    job.tell_end(returned, problem)
                finally:
                    self._limits.forget(job)
        finally:
            unwind(problem if problem is not None else returned[1])

    # ---------------------------------------------------------------------------------------------- any thread

    def _staged(self, pid: int, _: Future[Any]) -> None:
        """Have a job finished whose stage has ended."""
        if (job := self._jobs.get(pid)) is not None:
            self._finishing.take(job)

    def _note_ends(self, ends: Sequence[End]) -> None:
        """Have the loop thread tell Celery of jobs that have ended."""
        for end in ends:
            self._done.put(end)
        self._bell.ring()

    # ---------------------------------------------------------------------------------------- remote control

    def _get_info(self) -> dict[str, Any]:
        info: dict[str, Any] = super()._get_info()
        info["jobs"] = len(self._jobs)
        info["models"] = self._engine.stats() if self._engine is not None else {}
        return info


def _nothing() -> None:
    pass
