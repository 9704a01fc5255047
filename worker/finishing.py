"""The last stage of a job: Celery's tracer runs its body, for one job or for a few in turn whose outcomes go together.

Stage: under :mod:`worker.pool`, which says when a stage has ended and tells Celery how the job did. Neighbours:
:mod:`worker.bodies`, the threads, and :mod:`worker.results`, which stores outcomes together.

While all places are taken there is work enough, so a few jobs whose stages have ended wait a moment for each other: one
finisher runs their tracers one after the other, their outcomes go to Redis in one round trip, and the loop hears of all
at once. Between two inferences the caches are cold, and the same Python costs twice as much (docs/performance.md).

Mirrors celery 5.7: ``celery.app.trace`` (what the tracer returns, and what it lets out).
"""

import contextlib
import functools
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

from billiard.einfo import ExceptionInfo
from celery.exceptions import SoftTimeLimitExceeded

from worker.bodies import Finishers, Interrupted
from worker.jobs import UNREACHABLE, End, Job, lost, not_stored
from worker.request import Outcome, staged

logger = logging.getLogger(__name__)

#: Threads that run Celery's tracer for jobs whose asynchronous stage is over; they mostly wait for Redis.
FINISHERS = 2

#: Longest wait, while all places are taken, of a job whose stage has ended for others; and where jobs of several queues
#: have places, so that those of a fast model are not held up.
TOGETHER_S = 0.1
TOGETHER_OF_SEVERAL_S = 0.02


class Finishing:
    """Finishes jobs, alone or together. Any thread may call it, but those that say so are for the loop thread alone.

    Args:
        places: tells how many places the jobs of a job's queue have; a third of them wait for no more. From any thread.
        is_wanted: tells whether a job is not given up yet; called from any thread.
        tell: is told how jobs ended, of those that were finished together all at once; called from any thread.
        backend: gives Celery's result backend.
    """

    def __init__(
        self,
        places: Callable[[Job], int],
        *,
        is_wanted: Callable[[Job], bool],
        tell: Callable[[Sequence[End]], None],
        backend: Callable[[], Any],
    ) -> None:
        self._places = places
        self._is_wanted = is_wanted
        self._tell = tell
        self._backend = backend
        self._finishers = Finishers(0)
        self._ended: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._look: Any = None
        self._looks_soon = False

    def start(self, threads: int = FINISHERS) -> None:
        """Start the finishers."""
        for _ in range(threads):
            self._finishers.add()

    def replace_one(self) -> None:
        """Start one more finisher, in the place of one that may be stuck in a body that was given up."""
        self._finishers.add()

    # --------------------------------------------------------------------------------------------- loop thread

    def let_none_wait(self) -> None:
        """Let no job that ends from now on wait for others; those that wait already go on waiting. Loop thread."""
        self._looks_soon = False

    def let_wait(self, hub: Any, within_s: float = TOGETHER_S) -> None:
        """Let jobs that end wait for others, but not longer than ``within_s`` from the first call. Loop thread."""
        if self._look is None:
            self._look = hub.call_later(within_s, self.wait_no_more)
        self._looks_soon = True  # set last: who sees it knows that what it has put down will be found

    def wait_no_more(self) -> None:
        """Let those that wait for others be finished. Loop thread.

        To be called as well when a loop is lost, or ends, for that has lost its timers.
        """
        if self._look is not None:
            self._look.cancel()
        self._look, self._looks_soon = None, False
        self.gather()

    # ---------------------------------------------------------------------------------------------- any thread

    def aside(self, work: Callable[[], None], event: str) -> None:
        """Do ``work``, which may block on Redis or a disk, on a finisher; if it fails, log ``event``."""

        def guarded() -> bool:
            try:
                work()
            except UNREACHABLE as error:
                logger.warning("%s error=%s", event, error)
            except Exception:
                logger.exception("%s", event)
            return True

        self._finishers.submit(guarded)

    def take_alone(self, job: Job) -> None:
        """Have a job without a stage done on a thread of its own, since its body may block as long as it likes."""
        threading.Thread(target=self._run_together, args=([job],), name=f"task-{job.pid}", daemon=True).start()

    def take(self, job: Job) -> None:
        """Have a job whose stage has ended finished, by itself or with others that have ended."""
        if not self._is_wanted(job):
            return
        if not getattr(job.task, "brief", False):  # its body may take long, and would hold up the others
            self._finishers.submit(functools.partial(self._run_together, [job]))
            return
        self._ended.put(job)
        if not self._looks_soon or self._ended.qsize() >= self._places(job) // 3:
            self.gather()

    def gather(self) -> None:
        """Have those that wait finished together."""
        jobs = []
        with contextlib.suppress(queue.Empty):
            while True:
                jobs.append(self._ended.get_nowait())
        if jobs:
            self._finishers.submit(functools.partial(self._run_together, jobs))

    # -------------------------------------------------------------------------------- finishers and body threads

    def _run_together(self, jobs: Sequence[Job]) -> bool:
        """Run Celery's tracer for each job, then store their outcomes. False when one was given up in the middle.

        Then this thread has been replaced, and what it has not begun is for another.
        """
        outcomes: list[Outcome] = []
        ends: list[End] = []
        given_up = False
        for number, job in enumerate(jobs, 1):
            if len(jobs) > 1 and job.stage is not None:
                job.stage.together = outcomes
            if (end := self._run(job)) is not None:
                ends.append(end)
            if given_up := job.body.given_up:
                for later in jobs[number:]:
                    self._ended.put(later)
                self.gather()
                break
        refused = self._store(outcomes, jobs) if outcomes else {}
        outcomes.clear()  # a ring: each stage holds the list, and the list all stages
        self._tell([_unless_refused(end, refused) for end in ends])
        return not given_up

    def _store(self, outcomes: Sequence[Outcome], jobs: Sequence[Job]) -> dict[str, Exception]:
        """Store the outcomes, but for those of jobs that are given up; return why not, by job, where that cannot be."""

        def is_wanted(job_id: str) -> bool:  # a job that was delivered twice may be here twice
            return any(job.args[1] == job_id and self._is_wanted(job) for job in jobs)

        try:
            refused: dict[str, Exception] = self._backend().store_together(outcomes, is_wanted)
        except Exception as error:  # noqa: BLE001 - it ends these jobs, not the thread
            refused = {outcome.stage.job_id: error for outcome in outcomes}
        for job_id, why in refused.items():
            logger.error("job.not_stored job=%s error=%r", job_id, why)
        return refused

    def _run(self, job: Job) -> End | None:
        """Run Celery's tracer; return how the job ended, or None when it was given up.

        A soft limit strikes once and may do so anywhere in here. ``Interrupted`` may as well, after the job was given
        up and its outcome does not matter any more: it is not stored if it was kept back.
        """
        done = None
        with contextlib.suppress(Interrupted):
            try:
                job.body.enter()
                done = _trace(job) if self._is_wanted(job) else None
            except SoftTimeLimitExceeded as error:  # between the tracer's end and here
                done = None, lost(error)
            while True:
                try:
                    job.body.leave()  # from here on nothing strikes
                    break
                except SoftTimeLimitExceeded:  # in the last moment: the outcome stands
                    continue
            return None if done is None else End(job, *done)
        return None


def _trace(job: Job) -> tuple[Any, ExceptionInfo | None]:
    """Run Celery's tracer, which lets out only what has to do with the worker; Celery's callback judges that."""
    try:
        with staged(job.stage):
            return job.target(*job.args), None
    except Interrupted:
        raise
    except UNREACHABLE as error:
        return None, not_stored(error)
    except (MemoryError, SoftTimeLimitExceeded) as error:
        return None, lost(error)
    except Exception:  # noqa: BLE001
        return None, ExceptionInfo()
    except BaseException as error:  # noqa: BLE001 - a task that exits ends its job, not the worker
        return None, lost(error)


def _unless_refused(end: End, refused: dict[str, Exception]) -> End:
    """Say how a job ended, unless its outcome could not be stored, which is its end then."""
    error = refused.get(end.job.args[1])
    return end if error is None else End(end.job, None, not_stored(error))
