"""Jobs that are given up: at their time limits, when they are revoked, and when a worker ends at once.

Stage: under :mod:`worker.pool`. Neighbours: :mod:`worker.alarms`, the timer, and :mod:`worker.inhand`, which has the
jobs. A job that is given up has no place any more, whatever it still does.

Mirrors ``celery.concurrency.asynpool`` of celery 5.7 (what a pool does with time limits).
"""

import functools
from collections.abc import Callable
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded

from worker.alarms import Alarms
from worker.bodies import Interrupted
from worker.finishing import Finishing
from worker.inhand import InHand
from worker.jobs import Job, failed
from worker.request import Stage

#: A body behind a stage that has run for less than this is not interrupted when its job is given up: it may be storing
#: a result, and an exception in the middle of that could leave a lock or a connection behind.
SPARED_S = 1.0


class Limits:
    """Ends jobs that take too long. Belongs to the loop thread.

    Args:
        jobs: those in hand.
        finishing: where bodies run that do not hear; each costs a thread until it does.
        engine: gives what the stages run in.
        ring: has the loop look at what has ended.
    """

    def __init__(
        self, jobs: InHand, finishing: Finishing, *, engine: Callable[[], Any], ring: Callable[[], None]
    ) -> None:
        self._jobs = jobs
        self._finishing = finishing
        self._engine = engine
        self._ring = ring
        self._alarms = Alarms()

    def meet(self, hub: Any) -> None:
        """Use the timers of ``hub`` from now on."""
        self._alarms.meet(hub)

    def arm(self, job: Job, tell: Callable[..., Any] | None, limit_s: float | None, *, soft: bool) -> None:
        """End a job after so many seconds, and ``tell(soft, seconds)`` Celery; None is no limit."""
        if limit_s and tell is not None:
            act = self._soft if soft else self._hard
            self._alarms.set(job.pid, limit_s, functools.partial(act, job, tell, limit_s))

    def give_up(self, job: Job, *, spare_s: float = SPARED_S) -> None:
        """Free the job's place now; whatever it still does is stopped where it can be, and ignored."""
        self.forget(job)
        self._ring()
        if job.future is None:
            job.body.give_up(Interrupted)
            return
        job.future.cancel()
        if job.body.give_up(Interrupted, older_than_s=spare_s):
            self._finishing.replace_one()

    def forget(self, job: Job) -> None:
        """Free the job's place, once, to be given away when the loop looks at what has ended."""
        if self._jobs.let_go(job):
            self._alarms.clear(job.pid)
            engine = self._engine()
            if job.future is not None and engine.is_counted(job.args[1]):
                self._finishing.aside(functools.partial(engine.excuse, job.args[1]), "engine.excuse_failed")

    def _soft(self, job: Job, tell: Callable[..., Any], limit_s: float) -> None:
        if job not in self._jobs:
            return
        tell(True, limit_s)
        if not job.body.interrupt(SoftTimeLimitExceeded) and job.future is not None:
            job.stage = Stage(job.args[1], self._engine(), failed(SoftTimeLimitExceeded(limit_s)), job.tag)
            job.future.cancel()

    def _hard(self, job: Job, tell: Callable[..., Any], limit_s: float) -> None:
        if job in self._jobs:
            self.give_up(job, spare_s=0.0)
            tell(False, limit_s)
