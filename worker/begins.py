"""What is asked of Redis before images are decoded, for several in one round trip: the count of begun jobs, the bytes.

Stage: inside :mod:`worker.detector`, on its decode threads. Neighbours: :mod:`worker.deaths`, which reads the counts,
and :mod:`producer.blobs`, which reads the replies.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

from redis import Redis
from redis.exceptions import OutOfMemoryError, ResponseError

from producer import blobs
from producer.scripts import Command
from worker import deaths
from worker.lines import Lines
from worker.memory import AHEAD_BYTES

#: Images that are fetched in their turn after one that was too long to be fetched ahead: its beginning came in vain.
ALONE_FOR = 64


class Begun(NamedTuple):
    """What Redis said of a job.

    Attributes:
        times: how often it was begun, this time too; or what Redis had against counting it.
        first: Redis's reply to who asks for its first image; None if nobody did, or it is too long to wait its turn.
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
        self._alone_for = 0

    def __call__(self, jobs: Sequence[tuple[str, str | None]]) -> list[Begun]:
        """Count each job, and ask for the image under the key beside its id, if there is one.

        Raises:
            redis.exceptions.RedisError: nobody knows whether they were counted.
        """
        asking = [self._asking(number, ref) for number, (_, ref) in enumerate(jobs)]
        replies = iter(
            self._lines.ask(
                *(
                    command
                    for (job_id, _), fetch in zip(jobs, asking, strict=True)
                    for command in (deaths.beginning(job_id), *fetch)
                )
            )
        )
        begun = []
        for (job_id, _), fetch in zip(jobs, asking, strict=True):
            before = next(replies)
            first = self._unless_long(next(replies), fetch[0]) if fetch else None
            if before is None:
                begun.append(Begun(1, first))
            elif isinstance(before, bytes | OutOfMemoryError):
                begun.append(Begun(self._count_again(job_id), first))
            else:  # such as a master of before, whose images may be gone
                begun.append(Begun(cast(Exception, before), None))
        return begun

    def images(self, refs: Sequence[str | None]) -> list[object]:
        """Ask for images alone; None in the place of what is no key, or too long to wait its turn.

        Raises:
            redis.exceptions.RedisError: Redis was not reached.
        """
        asking = [self._asking(number, ref) for number, ref in enumerate(refs)]
        commands = [command for fetch in asking for command in fetch]
        replies = iter(self._lines.ask(*commands) if commands else ())
        return [self._unless_long(next(replies), fetch[0]) if fetch else None for fetch in asking]

    def _asking(self, number: int, ref: str | None) -> list[Command]:
        """Give the command that asks for an image, if there is one; only the first of several may be of any length."""
        if number == 0 or ref is None:
            return [] if ref is None else [blobs.asking(ref, most_bytes=self._most_bytes)]
        if self._alone_for > 0:
            self._alone_for -= 1
            return []
        return [blobs.asking(ref, most_bytes=min(AHEAD_BYTES, self._most_bytes))]

    def _unless_long(self, reply: object, command: Command) -> object:
        """Return ``reply`` unless it is only the beginning of an image that is accepted."""
        most = command[-1]
        if isinstance(reply, bytes) and isinstance(most, int) and most < len(reply) <= self._most_bytes:
            self._alone_for = ALONE_FOR
            return None
        return reply

    def _count_again(self, job_id: str) -> int | Exception:
        try:
            return deaths.count_again(self._redis, job_id)
        except ResponseError as error:  # it is this job's; others of the group are counted
            return error
