"""The books: which jobs were accepted and have not ended, and how many bytes they hold in Redis.

Stage: both ends of a job's life. A client enters it in the same step that pushes its message, whoever learns of its end
strikes it out. The scripts are atomic, so the figures are exact whatever dies between two steps: an entry and its bytes
come and go together.

Why count bytes and not only ask Redis for its memory: ``INFO`` knows nothing of queues. It is asked as well, because
results, the dead list and other programs need memory too, and a worker without room for a result cannot go on.
Measured with Valkey 9 on 2 busy cores: the script takes the server about 50 us, of which ``INFO`` is 5.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from producer.results import META_PREFIX, meta_key
from producer.scripts import Value, call, digest_of
from producer.wire import JOBS_KEY, ledger_key, queue_keys

#: Hashes: id -> bytes of a job that has not ended; queue -> bytes of all such jobs of its.
SIZES_KEY = "fleet:sizes"
BYTES_KEY = "fleet:bytes"

#: Hash of things that are counted for people: ``duplicates`` is how many submits were recognised as repeated.
COUNTERS_KEY = "fleet:counters"

#: Share of Redis's memory that images and messages may fill; the rest is for results, and for what workers hold.
MEMORY_SHARE = 0.8

#: What a job takes in Redis besides images and message: names, entries, pointers.
OVERHEAD_BYTES = 512

#: Lua: enters a job and pushes its message. The first write is one that a full server refuses, before anything is done.
#: The ledger has the very moment of the push: its order is that of the queue, which is what the sweep relies on.
ENTER = """
local function enter(jobs, sizes, bytes, ledger, list, id, message, queue, size)
  local now = redis.call('TIME')
  redis.call('HSET', jobs, id, message)
  redis.call('HSET', sizes, id, size)
  redis.call('HINCRBY', bytes, queue, size)
  redis.call('ZADD', ledger, now[1] + now[2] / 1000000, id)
  redis.call('LPUSH', list, message)
end
"""

#: Accepts a job, unless its queue or Redis is full, or a job with its idempotency key is known. Its images were stored
#: just before, in the same transaction, and are removed when it is not accepted. Accepting it again changes nothing.
#: Keys: jobs, sizes, bytes, ledger, list, result, counters, idempotency key or "", the queue's four lists, images.
#: Arguments: id, message or "" (only to ask for room), queue, size, most jobs, most bytes, share of memory,
#: fingerprint, time to live of the idempotency key, prefix of results. Gives a verdict, jobs, bytes, memory used and
#: allowed, and the id.
ACCEPT = (
    ENTER
    + """
local id, size, waiting, only_asked = ARGV[1], tonumber(ARGV[4]), 0, ARGV[2] == ''
for i = 9, 12 do waiting = waiting + redis.call('LLEN', KEYS[i]) end
local held = tonumber(redis.call('HGET', KEYS[3], ARGV[3]) or 0)
local used, allowed, said = 0, 0, redis.pcall('INFO', 'memory')
if type(said) == 'string' and string.find(said, 'maxmemory_policy:noeviction', 1, true) then
  used = tonumber(string.match(said, 'used_memory:(%d+)'))
  allowed = tonumber(string.match(said, 'maxmemory:(%d+)'))
end
local function verdict(word, which)
  if word ~= 'accepted' then
    for i = 13, #KEYS do redis.call('UNLINK', KEYS[i]) end
  end
  return {word, waiting, held, used, allowed, which or id}
end
if redis.call('HEXISTS', KEYS[1], id) == 1 then return verdict('accepted') end
if redis.call('EXISTS', KEYS[6]) == 1 then return verdict('ended') end
local known = KEYS[8] ~= '' and redis.call('GET', KEYS[8])
if known then
  local other, fingerprint = string.match(known, '^(%S+) (%S+)$')
  if redis.call('HEXISTS', KEYS[1], other) == 1 or redis.call('EXISTS', ARGV[10] .. other) == 1 then
    if fingerprint ~= ARGV[8] then return verdict('different') end
    redis.pcall('HINCRBY', KEYS[7], 'duplicates', 1)
    return verdict('duplicate', other)
  end
end
if waiting >= tonumber(ARGV[5]) then return verdict('jobs') end
if held > 0 and held + size > tonumber(ARGV[6]) then return verdict('bytes') end
if only_asked then used = used + size end
if allowed > 0 and used > allowed * ARGV[7] then return verdict('memory') end
if only_asked then return verdict('accepted') end
enter(KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], id, ARGV[2], ARGV[3], size)
if KEYS[8] ~= '' then redis.call('SET', KEYS[8], id .. ' ' .. ARGV[8], 'PX', ARGV[9]) end
return verdict('accepted')
"""
)

_ACCEPT = digest_of(ACCEPT)

#: Lua: strikes a job out. Its keys are jobs, sizes, bytes and the queue's four ledgers, which begin at ``at``.
STRIKE = """
local function strike(at, id, queue)
  redis.call('HDEL', KEYS[at], id)
  local size = redis.call('HGET', KEYS[at + 1], id)
  if size then
    redis.call('HDEL', KEYS[at + 1], id)
    if redis.call('HINCRBY', KEYS[at + 2], queue, -size) <= 0 then redis.call('HDEL', KEYS[at + 2], queue) end
  end
  for i = at + 3, at + 6 do redis.call('ZREM', KEYS[i], id) end
end
"""

_STRIKE_OUT = "#!lua flags=allow-oom\n" + STRIKE + "strike(1, ARGV[1], ARGV[2])"


class Verdict(NamedTuple):
    """What became of a job that was offered.

    Attributes:
        word: ``accepted``; ``ended``, as when it was accepted before; ``duplicate`` or ``different``, when its
            idempotency key is known with the same or another request; ``jobs``, ``bytes`` or ``memory``: what is full.
        jobs: messages that wait in its queue.
        held_bytes: what its queue's jobs take that have not ended.
        used_bytes: Redis's memory that is in use.
        allowed_bytes: its limit; both are 0 where Redis has none, evicts, or does not say.
        job_id: the job's id, or that of the one which is known.
    """

    word: str
    jobs: int
    held_bytes: int
    used_bytes: int
    allowed_bytes: int
    job_id: str

    @classmethod
    def parse(cls, reply: Any) -> "Verdict":
        """Read the reply of :data:`ACCEPT`."""
        word, jobs, held, used, allowed, job_id = reply
        return cls(word.decode(), jobs, held, used, allowed, job_id.decode())


class Limits(NamedTuple):
    """How full a queue may be: jobs that wait, and bytes of its jobs that have not ended."""

    jobs: int
    size_bytes: int


class Once(NamedTuple):
    """An idempotency key of Redis, what the request asks for in short, and for how long it is remembered."""

    key: str
    fingerprint: str
    ttl_s: float


def accept_command(  # noqa: PLR0913 - pure: everything it needs is an argument
    job_id: str,
    message: bytes,
    *,
    queue: str,
    message_list: str,
    size_bytes: int,
    limits: Limits,
    once: Once | None = None,
    images: Sequence[str] = (),
) -> tuple[Value, ...]:
    """Give the command that runs :data:`ACCEPT`; with an empty message it only asks whether there is room."""
    marks = [meta_key(job_id), COUNTERS_KEY, once.key if once else ""]
    keys = [JOBS_KEY, SIZES_KEY, BYTES_KEY, ledger_key(message_list), message_list, *marks, *queue_keys(queue), *images]
    told: list[Value] = [once.fingerprint if once else "", int(once.ttl_s * 1000) if once else 0, META_PREFIX]
    what: list[Value] = [job_id, message, queue, size_bytes, limits.jobs, limits.size_bytes, MEMORY_SHARE]
    return call(_ACCEPT, keys, (*what, *told))


def strike_out(pipe: Any, queue: str, job_id: str) -> None:
    """Add to ``pipe`` what removes an ended job from the books; any other id is fine, and so is a second time."""
    keys = keys_to_strike(queue)
    pipe.eval(_STRIKE_OUT, len(keys), *keys, job_id, queue)


def keys_to_strike(queue: str) -> list[str]:
    """Return the keys that :data:`STRIKE` touches, in its order."""
    return [JOBS_KEY, SIZES_KEY, BYTES_KEY, *(ledger_key(name) for name in queue_keys(queue))]


def size_of(message: bytes, images: Sequence[bytes] = ()) -> int:
    """Return the bytes that a job takes in Redis, near enough."""
    return 2 * len(message) + sum(map(len, images)) + OVERHEAD_BYTES
