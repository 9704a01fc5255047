"""How jobs come in: who may run beside whom, what is counted of each, and which are not begun at all.

Stage: inside :mod:`worker.detector`, between a job's arrival and its images. Neighbours: :mod:`worker.admission` says
who waits, :mod:`worker.deaths` knows what the counts mean, :mod:`worker.begins` asks Redis for several jobs at once.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import cast

from redis import Redis
from redis.exceptions import RedisError

from producer import blobs
from producer.errors import Cancelled, FleetError
from worker import deaths
from worker.admission import Admission
from worker.begins import Begins, Begun
from worker.detecting import Detecting, key_to_fetch
from worker.ending import Ending, JobEnd, Remains
from worker.inference import QueueClosedError
from worker.lanes import Lanes
from worker.outcome import Outcome
from worker.patience import until_done

logger = logging.getLogger(__name__)


class Entrance:
    """Lets jobs in, and keeps count of those that are. Thread-safe.

    Args:
        redis: where the counts are, and the dead list.
        ending: what ends jobs there.
        begins: what counts them, and asks for their first images.
        threads: what asks; called with a job's lane.
        go_on: called on one of the threads with a job that is begun, and Redis's reply to who asked for its first
            image, or None.
    """

    def __init__(
        self,
        redis: Redis,
        ending: Ending,
        begins: Begins,
        threads: Lanes,
        go_on: Callable[[Detecting, object], None],
    ) -> None:
        self._redis = redis
        self._ending = ending
        self._begins = begins
        self._threads = threads
        self._go_on = go_on
        self._admission = Admission()
        self._counted: set[str] = set()
        self._alone: dict[str, bool] = {}
        self._closed = False

    def enter(self, detecting: Detecting) -> None:
        """Let a job in, now or when its turn has come; never blocks."""
        if detecting.request.redelivered and detecting.request.job_id:
            self._threads.submit(detecting.lane, self._admit_again, detecting)
        else:
            self._admission.enter(lambda: self._begin(detecting))

    def finish(self, job_id: str, remains: Remains) -> None:
        """Remove what remains in Redis of a job that has ended, and forget it."""
        try:
            until_done(lambda: self._ending(JobEnd(job_id, remains)), unless=self.check_open)
        finally:
            self.forget(job_id)

    def forget(self, *job_ids: str) -> None:
        """Note that jobs are not counted as begun any more."""
        for job_id in job_ids:
            self._counted.discard(job_id)
            self._leave_alone(job_id)

    def is_counted(self, job_id: str) -> bool:
        """Tell whether the death of this process would be held against the job."""
        return job_id in self._counted

    def excuse(self, *job_ids: str) -> None:
        """Note that jobs which were begun have ended, or go back to the queue, without ending this process."""
        try:
            with self._redis.pipeline(transaction=False) as pipe:
                for job_id in job_ids:
                    deaths.end(pipe, job_id)
                pipe.execute()
        finally:
            self.forget(*job_ids)

    def check_open(self) -> None:
        """Raise when the worker stops.

        Raises:
            QueueClosedError: it does.
        """
        if self._closed:
            raise QueueClosedError

    def close(self) -> None:
        """Count nothing from now on: what comes in is not begun."""
        self._closed = True

    def excuse_all(self) -> None:
        """Excuse what is counted still; for after the threads have ended."""
        try:
            self.excuse(*list(self._counted))
        except RedisError as error:
            logger.warning("jobs.not_excused jobs=%d error=%s", len(self._counted), error)

    def _admit_again(self, detecting: Detecting) -> None:
        """Let in a job that came before: alone, if it may have ended a worker."""
        job_id = detecting.request.job_id
        try:
            suspect = deaths.is_suspect(self._redis, job_id)
        except Exception as error:  # noqa: BLE001 - whatever it is, the job gets an answer
            logger.warning("job.not_looked_up job=%s error=%r", job_id, error)
            suspect = True
        self._admission.enter(lambda: self._begin(detecting, alone=suspect), alone=suspect)

    def _begin(self, detecting: Detecting, *, alone: bool = False) -> None:
        detecting.add_done_callback(self._excuse_cancelled)  # not a lambda of its own: a future keeps its callbacks
        if alone:
            self._alone[detecting.request.job_id] = True
            detecting.add_done_callback(self._settled_alone)
        else:
            detecting.add_done_callback(lambda _: self._admission.leave())
        try:
            if detecting.request.redelivered:  # more is to be asked about it, and nobody waits for that
                self._threads.submit(detecting.lane, self._open, [detecting])
            else:
                self._threads.gather(detecting.lane, self._open, detecting)
        except RuntimeError:  # the worker stops; what it held comes back to the queue
            detecting.settle_all(detecting.cancelled_by or Cancelled())

    def _open(self, group: Sequence[Detecting]) -> None:
        """Count jobs as begun, and go on with the first; the others are next."""
        replies = self._count(group)
        while len(replies) > 1:  # taken out, for this thread is about to wait
            detecting = group[len(replies) - 1]
            try:
                self._threads.submit(detecting.lane, self._judge, detecting, replies.pop(), first=True)
            except RuntimeError:  # the worker stops
                detecting.settle_all(detecting.cancelled_by or Cancelled())
        self._judge(group[0], replies.pop())

    def _judge(self, detecting: Detecting, said: Begun | None) -> None:
        """Go on with a job, unless it was answered before or has ended two workers."""
        if detecting.is_duplicate:
            detecting.settle_all(Cancelled())
            return
        if said is not None and isinstance(said.times, int) and said.times > deaths.DEATHS:
            error = deaths.poisoned(detecting.request.job_id)
            try:
                bury(self._redis, detecting, error)
            except Exception as problem:  # noqa: BLE001 - then it is tried once more
                logger.warning("job.not_buried job=%s error=%r", detecting.request.job_id, problem)
            else:
                detecting.settle_all(error)
                return
        self._go_on(detecting, None if said is None else said.first)

    def _count(self, group: Sequence[Detecting]) -> list[Begun | None]:
        """Count jobs, and ask for their first images in the same trip; None where that was not to be, or failed.

        Then it is a job like any other.
        """
        asked: dict[int, tuple[str, str | None]] = {}
        said: list[Begun | None] = [None] * len(group)
        began = time.monotonic()
        try:
            for number, detecting in enumerate(group):
                if self._is_to_be_counted(detecting):
                    asked[number] = detecting.request.job_id, key_to_fetch(detecting, 0)
            for number, begun in zip(asked, self._begins([*asked.values()]) if asked else (), strict=True):
                said[number] = begun
                if isinstance(begun.times, Exception):
                    logger.warning("job.not_counted job=%s error=%s", asked[number][0], begun.times)
            if 0 in asked:  # the time is its own, for this thread goes on with it
                group[0].note_fetch(0, began)
        except RedisError as problem:
            logger.warning("jobs.not_counted jobs=%s error=%s", _ids(group), problem)
        except Exception:
            logger.exception("jobs.not_counted jobs=%s", _ids(group))
        return said

    def _is_to_be_counted(self, detecting: Detecting) -> bool:
        """Note that a job is begun; False if it is not to be counted, as one that was answered before."""
        request = detecting.request
        if not request.job_id or self._closed:
            return False
        if request.redelivered and deaths.is_answered(self._redis, request.job_id, retries=request.retries):
            detecting.is_duplicate = True
            self.finish(request.job_id, Remains(request.waited_in, blobs.refs_of([request.images])))
            return False
        self._counted.add(request.job_id)
        return True

    def _excuse_cancelled(self, settled: Future[list[Outcome]]) -> None:
        """Take back the count of a cancelled job: the pool cannot know of one that began while it was cancelled."""
        detecting = cast(Detecting, settled)
        if detecting.cancelled_by is not None and self.is_counted(detecting.request.job_id):
            with contextlib.suppress(RuntimeError):  # the worker stops, and excuses all
                self._threads.submit(detecting.lane, self.excuse, detecting.request.job_id)

    def _settled_alone(self, detecting: Future[list[Outcome]]) -> None:
        """Let others in, unless the job is counted: then its end is stored first, lest it pay for their deaths."""
        job_id = cast(Detecting, detecting).request.job_id
        if job_id not in self._counted:
            self._leave_alone(job_id)

    def _leave_alone(self, job_id: str) -> None:
        if self._alone.pop(job_id, False):  # in one step: two threads may come
            self._admission.leave()


def _ids(group: Sequence[Detecting]) -> str:
    return ",".join(detecting.request.job_id for detecting in group)


def bury(redis: Redis, detecting: Detecting, error: FleetError) -> None:
    """Put a job on the dead list, with its images."""
    detecting.is_buried = True
    deaths.bury(redis, detecting.request.as_dead(error))
