"""What is known of a job that comes a second time: whether it was answered, and whether it ends its workers.

Stage: inside :mod:`worker.entrance`, before a job's first image is fetched. Neighbours: :mod:`worker.admission` lets a
suspect run alone, :mod:`producer.dead` keeps what is buried. Every job that is begun is counted until it has ended; a
count that is left over is a worker's death.
"""

import logging
from typing import Any

from redis import Redis

from producer import dead
from producer.books import COUNTERS_KEY
from producer.errors import FleetError, InternalError
from producer.ids import deadline_of
from producer.results import meta_key, read_meta
from producer.scripts import Command
from producer.wire import BEGUN_PREFIX, JOBS_KEY

logger = logging.getLogger(__name__)

#: The counter of a job is forgotten after a day.
BEGUN_TTL_S = 86400

#: A job that has ended this many workers is not begun again.
DEATHS = 2


def is_suspect(redis: Redis, job_id: str) -> bool:
    """Tell, of a job that was delivered again, whether a worker began it and did not end it."""
    with redis.pipeline(transaction=False) as pipe:
        pipe.hincrby(COUNTERS_KEY, "redelivered")
        pipe.get(BEGUN_PREFIX + job_id)
        count: Any = pipe.execute()[1]
    return count is not None


def is_answered(redis: Redis, job_id: str, *, retries: int) -> bool:
    """Tell, and count, whether a job that was delivered again has its outcome already.

    A client removes a result that it has read. But its jobs are on the ledger until they end, so one that is not has
    ended; unless the message is a retry, which goes on as Celery's own.
    """
    with redis.pipeline(transaction=False) as pipe:
        pipe.get(meta_key(job_id))
        pipe.hexists(JOBS_KEY, job_id)
        raw, is_open = pipe.execute()
    struck_out = not is_open and retries == 0 and deadline_of(job_id) is not None
    if read_meta(raw) is None and not struck_out:
        return False
    redis.hincrby(COUNTERS_KEY, "answered_before")
    return True


def beginning(job_id: str) -> Command:
    """Give the command that notes that ``job_id`` begins; the reply is None unless it was begun before.

    Then nothing was noted, and :func:`count_again` does.
    """
    return "SET", BEGUN_PREFIX + job_id, 1, "EX", BEGUN_TTL_S, "NX", "GET"


def count_again(redis: Redis, job_id: str) -> int:
    """Note that ``job_id`` begins, and return how often it has begun, this time too.

    Raises:
        redis.exceptions.RedisError: nobody knows whether it was noted.
    """
    with redis.pipeline() as pipe:  # a transaction: a worker's is done when memory is full, too (worker.insist)
        pipe.incr(BEGUN_PREFIX + job_id)
        pipe.expire(BEGUN_PREFIX + job_id, BEGUN_TTL_S)
        times: int = pipe.execute()[0]
    return times


def end(pipe: Any, job_id: str) -> None:
    """Add to ``pipe`` what notes that ``job_id`` has ended, or goes back to the queue in good order."""
    pipe.unlink(BEGUN_PREFIX + job_id)


def poisoned(job_id: str) -> FleetError:
    """Give the error of a job that is buried for the workers it has ended."""
    return InternalError(
        f"This job ended its worker process {DEATHS} times. It is on the dead list: fleet dead show {job_id}"
    )


def bury(redis: Redis, job: dead.DeadJob) -> None:
    """Put ``job`` on the dead list with its images."""
    dead.add(redis, job)
    logger.error("job.buried job=%s code=%s", job.id, job.code)
