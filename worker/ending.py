"""The end of a job in one step of Redis: its outcome is stored and told, and all that was kept for it is gone.

Stage: the last of a job's way, called by :mod:`worker.results` for a job that Celery's tracer ends, and by
:mod:`worker.entrance` and :mod:`worker.request` where an outcome stands already. One script, so one round trip where
Celery, kombu and the books make five, and no death of a worker comes in between: a job has its outcome and is off the
books, or it comes back whole.
"""

from collections.abc import Sequence
from typing import NamedTuple

from redis.exceptions import NoScriptError

from producer import scripts
from producer.books import STRIKE, keys_to_strike
from producer.envelope import UNACKED_INDEX_KEY, UNACKED_KEY
from producer.results import meta_key
from producer.wire import BEGUN_PREFIX
from worker.insist import MAY_EXCEED
from worker.lines import Lines

#: How the texts of a success and of a revocation begin, as Celery's encoder writes them.
SUCCESS, REVOKED = b'{"status": "SUCCESS"', b'{"status": "REVOKED"'

#: Keys: result, counter of begins, unacked, its index, what the books need if there is a queue, images. Arguments: id,
#: outcome or "", its time to live in seconds or 0, delivery tag or "", queue or "", starts of texts that stand.
#: A success that stands is not overwritten, as Celery has it; nor is a revocation, of a job that was delivered twice.
END = (
    MAY_EXCEED
    + STRIKE
    + """
local id, outcome, ttl, tag, queue = unpack(ARGV)
local old = outcome ~= '' and redis.pcall('GET', KEYS[1])
local stands = outcome == ''
for i = 6, type(old) == 'string' and #ARGV or 0 do stands = stands or string.sub(old, 1, #ARGV[i]) == ARGV[i] end
if not stands then
  if ttl == '0' then redis.call('SET', KEYS[1], outcome) else redis.call('SETEX', KEYS[1], ttl, outcome) end
  redis.call('PUBLISH', KEYS[1], outcome)
end
if #KEYS == 1 then return end
redis.call('UNLINK', KEYS[2], unpack(KEYS, queue == '' and 5 or 12))
if tag ~= '' then
  redis.call('HDEL', KEYS[3], tag)
  redis.call('ZREM', KEYS[4], tag)
end
if queue ~= '' then strike(5, id, queue) end
"""
)

_DIGEST = scripts.digest_of(END)


class Remains(NamedTuple):
    """What is kept for a job until it ends.

    Attributes:
        queue: whose books it is in, or None.
        images: Redis keys of its images.
        tag: its message's delivery tag, to acknowledge it in the same step; None where something is still to do.
    """

    queue: str | None = None
    images: Sequence[str] = ()
    tag: str | None = None


class Ending:
    """Ends jobs. Thread-safe."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def __call__(self, job_id: str, remains: Remains | None, outcome: bytes | str = b"", ttl_s: int = 0) -> None:
        """Store ``outcome``, if there is one, and remove what remains of the job; a second time changes nothing."""
        (error,) = self.together([self.command(job_id, remains, outcome, ttl_s)])
        if error is not None:
            raise error

    @staticmethod
    def command(job_id: str, remains: Remains | None, outcome: bytes | str = b"", ttl_s: int = 0) -> scripts.Command:
        """Give the command that does so."""
        keys = [meta_key(job_id)]
        queue, images, tag = remains or Remains()
        if remains is not None:
            books = keys_to_strike(queue) if queue is not None else []
            keys += [BEGUN_PREFIX + job_id, UNACKED_KEY, UNACKED_INDEX_KEY, *books, *images]
        return scripts.call(_DIGEST, keys, (job_id, outcome, ttl_s, tag or "", queue or "", SUCCESS, REVOKED))

    def together(self, commands: Sequence[scripts.Command]) -> list[Exception | None]:
        """End several jobs in one round trip; return what Redis had against each, or None."""
        replies = self._lines.ask(*commands)
        if any(isinstance(reply, NoScriptError) for reply in replies):
            replies = self._lines.ask(*scripts.spelled_out(commands))
        return [reply if isinstance(reply, Exception) else None for reply in replies]
