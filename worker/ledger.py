"""Finds jobs that fell out of Redis's hands, and sends them again.

Stage: beside the consumer; :mod:`worker.bootsteps` runs it in a thread of its own. kombu fetches with BRPOP and writes
a message to ``unacked`` only after: a worker that dies in between takes the message with it. Our clients therefore
enter each job in a ledger (:mod:`producer.requests`), the worker strikes it out when the outcome is stored, and a sweep
looks for entries that are neither waiting, nor held by a worker, nor ended.

A queue is first-in first-out, so a job that is older than the oldest waiting message is not in it: the sweep never
looks through a backlog. What seems lost is looked at again a few seconds later, and then compared with the whole queue,
inside one script, before it is sent: a job that merely waits is never sent twice.
"""

import json
import logging
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from producer.books import strike_out
from producer.envelope import UNACKED_INDEX_KEY
from producer.ids import deadline_of
from producer.wire import JOBS_KEY, LEDGER_PREFIX, REPLAYED_PREFIX, ledger_key, queue_keys
from worker.envelopes import TAIL_BYTES
from worker.insist import MAY_EXCEED

logger = logging.getLogger(__name__)

#: Sorted set: id -> when a sweep first missed it.
SUSPECTS_KEY = "fleet:suspects"

#: Held by the worker that sweeps.
LOCK_KEY = "fleet:sweep"

#: Seconds between two sweeps, and for which a job must be missing; fetching takes milliseconds.
SWEEP_EVERY_S = 2.0
MISSING_FOR_S = 3.0

#: Ledger entries looked at in one go.
CHUNK = 500

#: A suspicion that nobody has looked into for so long is forgotten: its job has ended meanwhile.
SUSPECT_FOR_S = 60.0

#: Jobs of the ledger among which the oldest waiting one is looked for, since what was given back may lie out of turn;
#: and messages looked through for them in one go.
HEAD = 20
WINDOW = 200

#: Lua: looks through messages of a list from the end that is served next, one after the other and inside the server:
#: they may be other programs', any number of them, and of any size. Arguments besides list and ledger: how many to pass
#: over, how many to look at, how many of the ledger are enough, bytes of a message's end, where its headers are. Gives
#: how many it looked at, and when the oldest job of the ledger among them was sent.
_PEEK = """
local function peek(list, ledger, passed, window, head, tail)
  local seen, known, oldest = 0, 0, false
  while seen < tonumber(window) and known < tonumber(head) do
    local message = redis.call('LINDEX', list, -1 - passed - seen)
    if not message then break end
    seen = seen + 1
    local id = string.match(string.sub(message, -tail), '"id": ?"([%w_.-]+)"')
    local sent = id and redis.call('ZSCORE', ledger, id)
    if sent then
      known = known + 1
      if not oldest or tonumber(sent) < tonumber(oldest) then oldest = sent end
    end
  end
  return seen, oldest
end
"""

PEEK = _PEEK + "return {peek(KEYS[1], KEYS[2], unpack(ARGV))}"

#: Takes the turn to sweep, forgets old suspicions, and tells of each list whether its ledger begins with a job that is
#: older than the oldest waiting one: a fleet without work costs Redis one command. Keys: lock, suspects; of each list,
#: list and ledger. Arguments: milliseconds for which the turn is taken, age of an old suspicion, then those of
#: ``peek``. Gives nothing to whom the turn is not, else the time, and 1 for each list to look at.
TAKE_TURN = (
    MAY_EXCEED
    + _PEEK
    + """
if not redis.call('SET', KEYS[1], 1, 'NX', 'PX', ARGV[1]) then return {} end
local clock = redis.call('TIME')
local now = string.format('%d.%06d', clock[1], clock[2])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[2])

local function is_in_order(list, ledger)
  local first = redis.call('ZRANGE', ledger, 0, 0, 'WITHSCORES')[2]
  if not first then return true end
  local _, oldest = peek(list, ledger, 0, unpack(ARGV, 3))
  return oldest and tonumber(first) >= tonumber(oldest)
end

local found = {now}
for at = 3, #KEYS, 2 do
  local is_known, is_fine = pcall(is_in_order, KEYS[at], KEYS[at + 1])
  found[#found + 1] = is_known and is_fine and 0 or 1
end
return found
"""
)

#: Sends a job again unless it is waiting, held or ended after all. Keys: list, ledger, jobs, suspects, unacked index,
#: result. Arguments: id. Its message goes to the end that is served next.
RESEND = (
    MAY_EXCEED
    + """
if redis.call('ZSCORE', KEYS[5], ARGV[1]) or redis.call('EXISTS', KEYS[6]) == 1 then return 0 end
local message = redis.call('HGET', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
if not message then redis.call('ZREM', KEYS[2], ARGV[1]) return 0 end
if redis.call('LPOS', KEYS[1], message) then return 0 end
redis.call('RPUSH', KEYS[1], message)
return 1
"""
)


class Sweep:
    """Looks after the ledgers of some queues."""

    def __init__(self, redis: Redis, queues: list[str]) -> None:
        self._redis = redis
        self._lists = [name for queue in queues for name in queue_keys(queue)]
        self._resend = redis.register_script(RESEND)
        self._peek = redis.register_script(PEEK)
        self._take_turn = redis.register_script(TAKE_TURN)

    def run(self) -> list[str]:
        """Sweep once, unless another worker does, and return the ids of the jobs that were sent again."""
        keys = [LOCK_KEY, SUSPECTS_KEY, *(key for name in self._lists for key in (name, ledger_key(name)))]
        reply = self._take_turn(keys, [int(SWEEP_EVERY_S * 900), SUSPECT_FOR_S, HEAD, HEAD, TAIL_BYTES])
        if not reply:
            return []
        now, *found = reply
        sent: list[str] = []
        for name, is_to_look_at in zip(self._lists, found, strict=True):
            if is_to_look_at:
                try:
                    sent += self._sweep_list(name, float(now))
                except ResponseError as error:  # a key of another kind keeps no other list from being swept
                    logger.warning("ledger.sweep_failed list=%s error=%s", name, error)
        return sent

    def _sweep_list(self, name: str, now: float) -> list[str]:
        sent: list[str] = []
        oldest = self._oldest_waiting(name)
        before, start = (f"({oldest}" if oldest is not None else now), 0
        while True:
            found: Any = self._redis.zrange(ledger_key(name), "-inf", before, byscore=True, offset=start, num=CHUNK)
            ids, junk = _sorted_out(found)
            if junk:
                self._redis.zrem(ledger_key(name), *junk)
            left, again = self._look_at(name, ids, now)
            sent += again
            start += left
            if len(found) < CHUNK:
                return sent

    def _oldest_waiting(self, name: str) -> float | None:
        """Return when the oldest waiting job of the ledger was sent, by Redis's clock; None when none waits."""
        passed, keys = 0, [name, ledger_key(name)]
        while True:
            seen, oldest = self._peek(keys=keys, args=[passed, WINDOW, HEAD, TAIL_BYTES])
            if oldest is not None:
                return float(oldest)
            if seen < WINDOW or not self._redis.exists(keys[1]):
                return None
            passed += seen

    def _look_at(self, name: str, ids: list[str], now: float) -> tuple[int, list[str]]:
        """Look at one chunk; return how many entries of it stay in the ledger, and which jobs were sent again."""
        if not ids:
            return 0, []
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.zmscore(UNACKED_INDEX_KEY, ids)
            for job_id in ids:
                pipe.exists(_result_key(job_id))
            held, *ended = pipe.execute()
        late = self._late(ids, now)
        over = [job_id for job_id, known in zip(ids, ended, strict=True) if known or job_id in late]
        missing = [one for one, score in zip(ids, held, strict=True) if score is None and one not in set(over)]
        with self._redis.pipeline() as pipe:
            strike_out(pipe, name, over)
            pipe.zrem(SUSPECTS_KEY, "", *(one for one in ids if one not in set(missing)))
            for job_id in missing:
                pipe.zadd(SUSPECTS_KEY, {job_id: now}, nx=True)
            pipe.zmscore(SUSPECTS_KEY, ["", *missing])
            since = pipe.execute()[-1][1:]
        due = [one for one, when in zip(missing, since, strict=True) if when and now - float(when) >= MISSING_FOR_S]
        again = [job_id for job_id in due if self._send_again(name, job_id)]
        return len(ids) - len(over), again

    def _late(self, ids: list[str], now: float) -> set[str]:
        """Return the jobs whose deadline has passed: their clients have been told so, and nobody waits."""
        late = [job_id for job_id in ids if _is_over(job_id, now)]
        if not late:
            return set()
        replayed: Any = self._redis.mget([REPLAYED_PREFIX + job_id for job_id in late])
        return {one for one, until in zip(late, replayed, strict=True) if until is None or now > float(until)}

    def _send_again(self, name: str, job_id: str) -> bool:
        message: Any = self._redis.hget(JOBS_KEY, job_id)
        if (
            message is not None and _id_of(message) != job_id
        ):  # a worker would drop it, and the next sweep miss it again
            self._redis.hdel(JOBS_KEY, job_id)
        keys = [name, LEDGER_PREFIX + name, JOBS_KEY, SUSPECTS_KEY, UNACKED_INDEX_KEY, _result_key(job_id)]
        sent = bool(self._resend(keys=keys, args=[job_id]))
        if sent:
            logger.warning("ledger.sent_again job=%s list=%s", job_id, name)
        return sent


def _sorted_out(found: list[bytes]) -> tuple[list[str], list[bytes]]:
    """Tell our clients' ids, which carry a deadline, from whatever else somebody wrote into the ledger."""
    ids = [raw.decode("ascii", "replace") for raw in found]
    known = [deadline_of(job_id) is not None for job_id in ids]
    return [one for one, ours in zip(ids, known, strict=True) if ours], [
        raw for raw, ours in zip(found, known, strict=True) if not ours
    ]


def _result_key(job_id: str) -> str:
    return f"celery-task-meta-{job_id}"


def _is_over(job_id: str, now: float) -> bool:
    """Tell whether the deadline in the job's id has passed."""
    deadline = deadline_of(job_id)
    return deadline is not None and now > deadline + MISSING_FOR_S


def _id_of(message: bytes | str) -> str | None:
    try:
        name = json.loads(message)["headers"]["id"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return name if isinstance(name, str) else None
