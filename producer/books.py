"""The books: which jobs were accepted and have not ended, and how many bytes they hold in Redis.

Stage: both ends of a job's life. A client enters it in the same step that pushes its message, whoever learns of its end
strikes it out. The scripts are atomic, so the figures are exact whatever dies between two steps: an entry and its bytes
come and go together.

Why count bytes and not only ask Redis for its memory: ``INFO`` knows nothing of queues. It is asked as well, because
results, the dead list and other programs need memory too, and a worker without room for a result cannot go on.

Jobs that come or go together are one call. Between two inferences of a large network Redis finds its caches cold: then
``INFO`` takes it 20 us, each other command of a script 3, and each call of a script more than that.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from producer.results import META_PREFIX, meta_key
from producer.scripts import Command, Value, call, digest_of
from producer.wire import JOBS_KEY, ledger_key, queue_keys, queue_of_list

#: Hashes: id -> bytes of a job that has not ended; queue -> bytes of all such jobs of its.
SIZES_KEY = "fleet:sizes"
BYTES_KEY = "fleet:bytes"

#: Hash of things that are counted for people: ``duplicates`` is how many submits were recognised as repeated.
COUNTERS_KEY = "fleet:counters"

#: Share of Redis's memory that images and messages may fill; the rest is for results, and for what workers hold.
MEMORY_SHARE = 0.8

#: What a job takes in Redis besides images and message: names, entries, pointers.
OVERHEAD_BYTES = 512

#: Lua: reads a number of bytes; whatever else somebody wrote there is 0.
WHOLE = """
local function whole(text)
  return text and #text < 16 and string.match(text, '^%d+$') and tonumber(text) or 0
end
"""

#: Lua: enters jobs, of each id, message and bytes, after which their queue holds ``held`` bytes, and pushes their
#: messages. The first write is one that a full server refuses, before anything is done. The ledger has the very moment
#: of the push: its order is that of the queue, which is what the sweep relies on.
ENTER = """
local function enter(jobs, sizes, bytes, ledger, list, queue, entries, held)
  local now, told, weighed, noted, messages = redis.call('TIME'), {}, {}, {}, {}
  for i, entry in ipairs(entries) do
    local id, message, size = unpack(entry)
    told[2 * i - 1], told[2 * i] = id, message
    weighed[2 * i - 1], weighed[2 * i] = id, size
    noted[2 * i - 1], noted[2 * i] = now[1] + (now[2] + i - 1) / 1000000, id
    messages[i] = message
  end
  redis.call('HSET', jobs, unpack(told))
  redis.call('HSET', sizes, unpack(weighed))
  redis.call('HSET', bytes, queue, held)
  redis.call('ZADD', ledger, unpack(noted))
  redis.call('LPUSH', list, unpack(messages))
end
"""

#: Judges each of several jobs of one queue and priority, and enters those that are accepted: a job is, unless its queue
#: or Redis is full, or a job with its idempotency key is known. Images were stored just before, in the same
#: transaction, and are removed when their job is not accepted. Accepting it again changes nothing.
#: Keys: jobs, sizes, bytes, ledger, list, counters, idempotency key or "", the queue's four lists; of each job result
#: and images. Arguments: queue, most jobs, most bytes, fingerprint, time to live of the idempotency key, prefix of
#: results; of each job id, message or "" (only to ask for room), size, number of images. Gives of each job a verdict
#: and the id, and where it is not accepted jobs, bytes, memory used and allowed.
ACCEPT = (
    WHOLE
    + ENTER
    + f"""
local queue, most_jobs, most_bytes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local waiting, held, used, allowed = 0, whole(redis.call('HGET', KEYS[3], queue)), 0, 0
for i = 8, 11 do waiting = waiting + redis.call('LLEN', KEYS[i]) end
local said = redis.pcall('INFO', 'memory')
local function figure(name)
  local _, at = string.find(said, name, 1, true)  -- a pattern would be tried at each of some thousand characters
  return tonumber(string.match(said, '^%d+', at + 1))
end
if type(said) == 'string' and string.find(said, 'maxmemory_policy:noeviction', 1, true) then
  used, allowed = figure('used_memory:'), figure('maxmemory:')
end
local ids, results, key = {{}}, {{}}, 12
for at = 7, #ARGV, 4 do
  ids[#ids + 1], results[#results + 1] = ARGV[at], KEYS[key]
  if ARGV[at + 1] ~= '' then used = used - ARGV[at + 2] end  -- stored already, and none is to pay for another
  key = key + 1 + ARGV[at + 3]
end
local has_ended = redis.call('EXISTS', unpack(results)) > 0

local function namesake()
  local known = KEYS[7] ~= '' and redis.call('GET', KEYS[7])
  if not known then return end
  local other, fingerprint = string.match(known, '^(%S+) (%S+)$')
  if redis.call('HEXISTS', KEYS[1], other) == 1 or redis.call('EXISTS', ARGV[6] .. other) == 1 then
    if fingerprint ~= ARGV[4] then return 'different' end
    redis.pcall('HINCRBY', KEYS[6], 'duplicates', 1)
    return 'duplicate', other
  end
end

local function judge(i, size)
  if redis.call('HEXISTS', KEYS[1], ids[i]) == 1 then return 'accepted' end
  if has_ended and redis.call('EXISTS', results[i]) == 1 then return 'ended' end
  local word, other = namesake()
  if word then return word, other end
  if waiting >= most_jobs then return 'jobs' end
  if held > 0 and held + size > most_bytes then return 'bytes' end
  if allowed > 0 and used + size > allowed * {MEMORY_SHARE} then return 'memory' end
  return 'room'
end

local entries, verdicts = {{}}, {{}}
key = 12
for i = 1, #ids do
  local id, message, size, images = unpack(ARGV, 3 + 4 * i, 6 + 4 * i)
  size, images = tonumber(size), tonumber(images)
  local word, other = judge(i, size)
  if word == 'room' and message ~= '' then
    entries[#entries + 1], word = {{id, message, size}}, 'accepted'
    waiting, held, used = waiting + 1, held + size, used + size
  elseif word ~= 'accepted' then
    for at = key + 1, key + images do redis.call('UNLINK', KEYS[at]) end
  end
  verdicts[i] = word == 'accepted' and {{word, id}} or {{word, other or id, waiting, held, used, allowed}}
  key = key + 1 + images
end
if #entries > 0 then
  enter(KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], queue, entries, held)
  if KEYS[7] ~= '' then redis.call('SET', KEYS[7], ids[1] .. ' ' .. ARGV[4], 'PX', ARGV[5]) end
end
return verdicts
"""
)

_ACCEPT = digest_of(ACCEPT)

#: Lua: strikes jobs out. Its keys are jobs, sizes, bytes and the ledger, which begin at ``at``; no id may come twice.
STRIKE = (
    WHOLE
    + """
local function strike(at, queue, ids)
  redis.call('HDEL', KEYS[at], unpack(ids))
  local freed = 0
  for _, size in ipairs(redis.call('HMGET', KEYS[at + 1], unpack(ids))) do
    freed = freed + whole(size)
  end
  if redis.call('HDEL', KEYS[at + 1], unpack(ids)) > 0 then
    local left = redis.pcall('HINCRBY', KEYS[at + 2], queue, -freed)
    if type(left) ~= 'number' or left <= 0 then redis.call('HDEL', KEYS[at + 2], queue) end
  end
  redis.call('ZREM', KEYS[at + 3], unpack(ids))
end
"""
)

_STRIKE_OUT = "#!lua flags=allow-oom\n" + STRIKE + "strike(1, ARGV[1], {unpack(ARGV, 2)})"


class Verdict(NamedTuple):
    """What became of a job that was offered.

    Attributes:
        word: ``accepted``; ``ended``, as when it was accepted before; ``duplicate`` or ``different``, when its
            idempotency key is known with the same or another request; ``jobs``, ``bytes`` or ``memory``: what is full;
            ``room``, when that was only asked for.
        job_id: the job's id, or that of the one which is known.
        jobs: messages that wait in its queue.
        held_bytes: what its queue's jobs take that have not ended.
        used_bytes: Redis's memory that is in use.
        allowed_bytes: its limit; both are 0 where Redis has none, evicts, or does not say.
    """

    word: str
    job_id: str
    jobs: int = 0
    held_bytes: int = 0
    used_bytes: int = 0
    allowed_bytes: int = 0

    @classmethod
    def parse(cls, reply: Any) -> "Verdict":
        """Read one of the verdicts that :data:`ACCEPT` gives."""
        word, job_id, *figures = reply
        return cls(word.decode(), job_id.decode(), *figures)


class Limits(NamedTuple):
    """How full a queue may be: jobs that wait, and bytes of its jobs that have not ended."""

    jobs: int
    size_bytes: int


class Once(NamedTuple):
    """An idempotency key of Redis, what the request asks for in short, and for how long it is remembered."""

    key: str
    fingerprint: str
    ttl_s: float


class Entry(NamedTuple):
    """A job that asks to be accepted: id, message (empty to ask only for room), bytes, and keys of its images."""

    job_id: str
    message: bytes
    size_bytes: int
    images: Sequence[str] = ()


def accept_command(
    entries: Sequence[Entry], *, queue: str, message_list: str, limits: Limits, once: Once | None = None
) -> Command:
    """Give the command that runs :data:`ACCEPT` for jobs of one queue and priority; of one, if it has a key."""
    shared = [JOBS_KEY, SIZES_KEY, BYTES_KEY, ledger_key(message_list), message_list, COUNTERS_KEY]
    keys = [*shared, once.key if once else "", *queue_keys(queue)]
    recognised: list[Value] = [once.fingerprint, int(once.ttl_s * 1000)] if once else ["", 0]
    arguments: list[Value] = [queue, limits.jobs, limits.size_bytes, *recognised, META_PREFIX]
    for job_id, message, size_bytes, images in entries:
        keys += [meta_key(job_id), *images]
        arguments += [job_id, message, size_bytes, len(images)]
    return call(_ACCEPT, keys, arguments)


def strike_out(pipe: Any, message_list: str, job_ids: Sequence[str]) -> None:
    """Add to ``pipe`` what removes ended jobs from the books; any other id is fine, and so is a second time."""
    if job_ids:
        keys = keys_to_strike(message_list)
        pipe.eval(_STRIKE_OUT, len(keys), *keys, queue_of_list(message_list), *job_ids)


def keys_to_strike(message_list: str) -> list[str]:
    """Return the keys that :data:`STRIKE` touches, in its order, for jobs that waited in ``message_list``."""
    return [JOBS_KEY, SIZES_KEY, BYTES_KEY, ledger_key(message_list)]


def size_of(message: bytes, images: Sequence[bytes] = ()) -> int:
    """Return the bytes that a job takes in Redis, near enough."""
    return 2 * len(message) + sum(map(len, images)) + OVERHEAD_BYTES
