"""The begin of jobs in Redis: each is counted, and its first image comes with the same round trip, of several jobs.

Stage: inside :mod:`worker.detector`, on its decode threads. Neighbours: :mod:`worker.deaths`, which reads the counts,
and :mod:`producer.blobs`, which reads the replies.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from redis import Redis
from redis.exceptions import OutOfMemoryError

from producer import blobs
from producer.scripts import Command
from worker import deaths
from worker.lines import Lines

#: Jobs that are begun in one round trip at most.
TOGETHER = 4

#: Longest image that is fetched ahead, while another of its group is decoded; what is longer is fetched in its turn.
AHEAD_BYTES = 1024 * 1024


class Begun(NamedTuple):
    """What Redis said of a job.

    Attributes:
        times: how often it was begun, this time too; or what Redis had against counting it.
        first: Redis's reply to who asks for its first image; None if nobody did, or it is too long to lie about.
    """

    times: int | Exception
    first: object


class Begins:
    """Begins jobs. Thread-safe.

    Args:
        redis: for what is asked once more.
        lines: for all else.
        most_bytes: longest image that is accepted.
    """

    def __init__(self, redis: Redis, lines: Lines, *, most_bytes: int) -> None:
        self._redis = redis
        self._lines = lines
        self._most_bytes = most_bytes

    def __call__(self, jobs: Sequence[tuple[str, str | None]]) -> list[Begun]:
        """Count each job, and ask for the image under the key beside its id, if there is one.

        Raises:
            redis.exceptions.RedisError: nobody knows whether they were counted.
        """
        commands: list[Command] = []
        limits = []
        for number, (job_id, ref) in enumerate(jobs):
            limits.append(self._most_bytes if number == 0 else min(AHEAD_BYTES, self._most_bytes))
            commands += deaths.beginning(job_id)
            commands += [] if ref is None else [blobs.asking(ref, most_bytes=limits[-1])]
        replies = iter(self._lines.ask(*commands))
        begun = []
        for (job_id, ref), most in zip(jobs, limits, strict=True):
            times, _ = next(replies), next(replies)
            first = None if ref is None else next(replies)
            if isinstance(first, bytes) and most < len(first) <= self._most_bytes:
                first = None
            begun.append(Begun(times if not isinstance(times, OutOfMemoryError) else self._count(job_id), first))
        return begun

    def _count(self, job_id: str) -> Any:
        """Count a job while memory is full: refused, so nothing was counted; a transaction is not."""
        with self._redis.pipeline() as pipe:
            for command in deaths.beginning(job_id):
                pipe.execute_command(*command)  # type: ignore[no-untyped-call]
            return pipe.execute()[0]
