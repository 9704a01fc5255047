"""Sends a job of the dead list again, under its own id and with a new deadline.

Stage: between ``fleet dead replay`` and the queue. The stored error goes and the message comes in one step, so whoever
asks for the id from then on gets the new answer, and a crash leaves the job either on the list or in the queue.
Celery recognises repeated jobs by a stored success; there is none under this id any more.
"""

from datetime import UTC, datetime
from typing import Any

from redis import Redis

from producer import dead
from producer.books import BYTES_KEY, ENTER, SIZES_KEY, WHOLE, size_of
from producer.dead import DeadJob
from producer.envelope import UNACKED_INDEX_KEY, task_message
from producer.errors import FleetError, InvalidRequest, PayloadMissing
from producer.requests import BLOB_EXTRA_S
from producer.results import RESULT_TTL_S, meta_key
from producer.wire import (
    BEGUN_PREFIX,
    JOBS_KEY,
    REPLAYED_PREFIX,
    SENT_AT_HEADER,
    describe_images,
    ledger_key,
    model_of,
)

#: Keys: jobs, sizes, bytes, ledger, list, result, begun, replayed, order, entries and sizes of the dead list, unacked
#: index, then images. Arguments: id, message, queue, size without images, images' time to live, deadline, its time
#: to live.
_REPLAY = (
    WHOLE
    + ENTER
    + """
if redis.call('HEXISTS', KEYS[10], ARGV[1]) == 0 then return 'gone' end
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 or redis.call('ZSCORE', KEYS[12], ARGV[1]) then return 'held' end
local size = tonumber(ARGV[4])
for i = 13, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 0 then return 'missing' end
  local length = redis.pcall('STRLEN', KEYS[i])
  if type(length) == 'number' then size = size + length end
end
local held = whole(redis.call('HGET', KEYS[3], ARGV[3])) + size
enter(KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], ARGV[3], {{ARGV[1], ARGV[2], size}}, held)
redis.call('SET', KEYS[8], ARGV[6], 'PX', ARGV[7])
redis.call('UNLINK', KEYS[6], KEYS[7])
for i = 13, #KEYS do redis.call('PEXPIRE', KEYS[i], ARGV[5]) end
redis.call('ZREM', KEYS[9], ARGV[1])
redis.call('HDEL', KEYS[10], ARGV[1])
redis.call('HDEL', KEYS[11], ARGV[1])
return 'sent'
"""
)

_WHY_NOT: dict[bytes, FleetError] = {
    b"gone": InvalidRequest("It is no longer on the dead list."),
    b"held": InvalidRequest("A worker has not finished with it. Try again in a moment."),
    b"missing": PayloadMissing("Its image is no longer in Redis. Drop it, and send the image again."),
}


def replay(redis: Redis, job: DeadJob, *, deadline_s: float) -> None:
    """Send ``job`` again; its answer is wanted for ``deadline_s`` seconds from now.

    Raises:
        InvalidRequest: it is no longer on the list, a worker still holds it, or it came from no queue of a model.
        PayloadMissing: its image has expired.
    """
    if model_of(job.queue) is None:
        raise InvalidRequest("It did not come from a model's queue, so nobody knows where to send it.")
    seconds, microseconds = redis.time()
    now = seconds + microseconds / 1e6
    answer: Any = redis.eval(_REPLAY, 12 + len(job.images), *_keys(job), *_arguments(job, now, deadline_s))
    if answer != b"sent":
        raise _WHY_NOT[answer]


def _keys(job: DeadJob) -> list[str]:
    books = [JOBS_KEY, SIZES_KEY, BYTES_KEY, ledger_key(job.queue), job.queue]
    marks = [meta_key(job.id), BEGUN_PREFIX + job.id, REPLAYED_PREFIX + job.id]
    return [*books, *marks, dead.ORDER_KEY, dead.ENTRIES_KEY, dead.SIZES_KEY, UNACKED_INDEX_KEY, *job.images]


def _arguments(job: DeadJob, now: float, deadline_s: float) -> list[Any]:
    message = task_message(
        task_id=job.id,
        task=job.task,
        queue=job.queue,
        args=job.args,
        kwargs=job.kwargs,
        expires=datetime.fromtimestamp(now + deadline_s, UTC).isoformat(),
        priority=0,
        argsrepr=describe_images(job.args),
        kwargsrepr=repr(job.kwargs),
        own_headers={SENT_AT_HEADER: round(now, 4)},
        tag=job.id,
    )
    images_ms, known_ms = (int((deadline_s + extra_s) * 1000) for extra_s in (BLOB_EXTRA_S, RESULT_TTL_S))
    return [job.id, message.body, job.queue, size_of(message.body), images_ms, now + deadline_s, known_ms]
