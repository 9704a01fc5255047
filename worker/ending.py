"""The end of jobs in one step of Redis: outcomes are stored and told, and all that was kept for the jobs is gone.

Stage: the last of a job's way, called by :mod:`worker.results` for a job that Celery's tracer ends, and by
:mod:`worker.entrance` and :mod:`worker.request` where an outcome stands already. One script, so one round trip where
Celery, kombu and the books make five, and no death of a worker comes in between: a job has its outcome and is off the
books, or it comes back whole. Jobs that end together and come from one list are one call of it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from redis.exceptions import NoScriptError

from producer import scripts
from producer.books import STRIKE, keys_to_strike
from producer.envelope import UNACKED_INDEX_KEY, UNACKED_KEY
from producer.results import meta_key
from producer.wire import BEGUN_PREFIX, queue_key, queue_of_list
from worker.insist import MAY_EXCEED
from worker.lines import Lines

#: How the texts of a success and of a revocation begin, as Celery's encoder writes them.
SUCCESS, REVOKED = b'{"status": "SUCCESS"', b'{"status": "REVOKED"'

#: Keys that one command removes, and jobs that one call ends: Lua hands over some thousands of words at a time.
_AT_ONCE = 1000

#: Keys: unacked, its index, what the books need if there is a list; of each job result, and then, unless only its
#: outcome is to be stored, counter of begins and images. Arguments: queue or ""; of each job id, outcome or "", its
#: time to live in seconds or 0, delivery tag or "", number of keys after that of the result. A success that stands is
#: not overwritten, as Celery has it; nor is a revocation, of a job that was delivered twice.
END = (
    MAY_EXCEED
    + STRIKE
    + f"""
local function stands(result)
  local old = redis.pcall('GET', result)
  for _, start in ipairs({{'{SUCCESS.decode()}', '{REVOKED.decode()}'}}) do
    if type(old) == 'string' and string.sub(old, 1, #start) == start then return true end
  end
end

local function store(result, outcome, ttl)
  local living = ttl == '0' and {{}} or {{'EX', ttl}}
  if not redis.call('SET', result, outcome, 'NX', unpack(living)) then
    if stands(result) then return end
    redis.call('SET', result, outcome, unpack(living))
  end
  redis.call('PUBLISH', result, outcome)
end

local queue, gone, tags, ids, seen = ARGV[1], {{}}, {{}}, {{}}, {{}}
local key = queue == '' and 3 or 7
for at = 2, #ARGV, 5 do
  local id, outcome, ttl, tag, more = unpack(ARGV, at, at + 4)
  more = tonumber(more)
  if outcome ~= '' then store(KEYS[key], outcome, ttl) end
  for i = 1, more do gone[#gone + 1] = KEYS[key + i] end
  if tag ~= '' then tags[#tags + 1] = tag end
  if more > 0 and not seen[id] then ids[#ids + 1], seen[id] = id, true end
  key = key + 1 + more
end
for first = 1, #gone, {_AT_ONCE} do
  redis.call('UNLINK', unpack(gone, first, math.min(#gone, first + {_AT_ONCE - 1})))
end
if #tags > 0 then
  redis.call('HDEL', KEYS[1], unpack(tags))
  redis.call('ZREM', KEYS[2], unpack(tags))
end
if queue ~= '' and #ids > 0 then strike(3, queue, ids) end
"""
)

_DIGEST = scripts.digest_of(END)


class Remains(NamedTuple):
    """What is kept for a job until it ends.

    Attributes:
        waited_in: the Redis list that it came from, or None.
        images: Redis keys of its images.
        tag: its message's delivery tag, to acknowledge it in the same step; None where something is still to do.
    """

    waited_in: str | None = None
    images: Sequence[str] = ()
    tag: str | None = None


class JobEnd(NamedTuple):
    """How a job ends.

    Attributes:
        job_id: its id.
        remains: what goes; None to store the outcome alone.
        outcome: what Celery's backend stores, encoded; empty where an outcome stands.
        ttl_s: how long it is kept; 0 for ever.
    """

    job_id: str
    remains: Remains | None
    outcome: bytes | str = b""
    ttl_s: int = 0


def list_of(delivery: Mapping[str, Any] | None) -> str | None:
    """Return the Redis list that a job came from, as its ``delivery_info`` says; None if it says nothing."""
    queue = (delivery or {}).get("routing_key")
    return queue_key(queue, (delivery or {}).get("priority") or 0) if queue else None


class Ending:
    """Ends jobs. Thread-safe."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def __call__(self, end: JobEnd) -> None:
        """End a job; a second time changes nothing."""
        (error,) = self.together([end])
        if error is not None:
            raise error

    def together(self, ends: Sequence[JobEnd]) -> list[Exception | None]:
        """End several jobs in one round trip; return what Redis had against each, or those of its list, or None."""
        places: dict[tuple[str, int], list[int]] = {}
        for number, end in enumerate(ends):
            place = (end.remains and end.remains.waited_in) or ""
            places.setdefault((place, number // _AT_ONCE), []).append(number)
        commands = [_command(place, [ends[number] for number in group]) for (place, _), group in places.items()]
        replies = self._lines.ask(*commands)
        if any(isinstance(reply, NoScriptError) for reply in replies):
            replies = self._lines.ask(*scripts.spelled_out(commands))
        errors: list[Exception | None] = [None] * len(ends)
        for reply, group in zip(replies, places.values(), strict=True):
            for number in group:
                errors[number] = reply if isinstance(reply, Exception) else None
        return errors


def _command(place: str, ends: Sequence[JobEnd]) -> scripts.Command:
    """Give the command that ends jobs which came from the list ``place``, or from none."""
    keys = [UNACKED_KEY, UNACKED_INDEX_KEY, *(keys_to_strike(place) if place else ())]
    arguments: list[scripts.Value] = [queue_of_list(place)]
    for job_id, remains, outcome, ttl_s in ends:
        more = [] if remains is None else [BEGUN_PREFIX + job_id, *remains.images]
        keys += [meta_key(job_id), *more]
        arguments += [job_id, outcome, ttl_s, (remains and remains.tag) or "", len(more)]
    return scripts.call(_DIGEST, keys, arguments)
