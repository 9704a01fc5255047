"""Jobs whose time has not come, beyond those that a worker holds: they lie in Redis until it has.

Stage: beside the consumer. :mod:`worker.guard` puts off what :mod:`worker.broker` has no room for, the thread of
:mod:`worker.bootsteps` brings it back. Celery's worker holds every such message itself. Here the bytes of messages that
it holds are bounded, so some hundreds of images for tomorrow would keep it from doing anything today.
"""

import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

from redis import Redis
from redis.exceptions import ResponseError

from producer.wire import LATER_PREFIX, MAX_HELD_BYTES, queue_key
from worker.clock import redis_clock
from worker.insist import MAY_EXCEED

logger = logging.getLogger(__name__)

#: Bytes of such messages that a worker holds itself; the other half is for what can be done now.
MAX_LATER_BYTES = MAX_HELD_BYTES // 2

#: What is due sooner than this is held in any case.
SOON_S = 5.0

#: Most of a queue that are brought back in one go.
CHUNK = 200

#: Moves a message from ``unacked`` to those that wait. Keys: later, unacked, its index. Arguments: delivery tag, when
#: it is due.
PUT_OFF = (
    MAY_EXCEED
    + """
local held = redis.call('HGET', KEYS[2], ARGV[1])
if not held then return end
redis.call('ZADD', KEYS[1], ARGV[2], held)
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
"""
)

#: Tells of each queue whether anything is due. Keys: later of each queue. Gives the time, then 1 for each that has.
DUE = """
local found = redis.call('TIME')
found[2] = nil
for i, later in ipairs(KEYS) do
  local due = redis.pcall('ZRANGE', later, '-inf', found[1], 'BYSCORE', 'LIMIT', 0, 1)
  found[i + 1] = (due.err or #due > 0) and 1 or 0
end
return found
"""

#: Moves a message to the end of its list that is served next, once; where that is no list, it stays. Keys: later, list.
#: Arguments: as it lay there, the message.
BRING_BACK = (
    MAY_EXCEED
    + """
if redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  redis.call('RPUSH', KEYS[2], ARGV[2])
  redis.call('ZREM', KEYS[1], ARGV[1])
end
"""
)


def put_off(message: Any) -> bool:
    """Let Redis keep a message that was checked, if its time is far and there is no room; tell whether it does."""
    qos, eta = message.channel.qos, message.headers.get("eta")
    if eta is None or getattr(qos, "later_bytes", 0) <= MAX_LATER_BYTES:
        return False
    due = datetime.fromisoformat(eta)
    due_s = (due if due.tzinfo else due.replace(tzinfo=UTC)).timestamp()
    if due_s < redis_clock.now() + SOON_S:
        return False
    tag, later = message.delivery_tag, LATER_PREFIX + message.delivery_info["routing_key"]
    with qos.channel.conn_or_acquire() as redis:
        redis.eval(PUT_OFF, 3, later, qos.unacked_key, qos.unacked_index_key, tag, str(due_s))
    qos.ended.add(tag)
    message.ack()
    logger.debug("job.put_off job=%s eta=%s", message.headers["id"], eta)
    return True


def bring_back(redis: Redis, queues: Sequence[str]) -> None:
    """Put what is due by Redis's clock back into its queue. What is no message of ours goes, or it would stay first."""
    keys = [LATER_PREFIX + queue for queue in queues]
    now, *found = cast("list[Any]", redis.eval(DUE, len(keys), *keys))
    for key, queue, is_due in zip(keys, queues, found, strict=True):
        if is_due:
            try:
                _bring_back(redis, key, queue, int(now))
            except ResponseError as error:  # a key of another kind keeps no other queue's from coming back
                logger.warning("later.not_brought_back queue=%s error=%s", queue, error)


def _bring_back(redis: Redis, key: str, queue: str, now: int) -> None:
    while due := cast("list[bytes]", redis.zrange(key, "-inf", now, byscore=True, offset=0, num=CHUNK)):
        for raw in due:
            try:
                message = json.loads(raw)[0]  # as worker.leases wrote it
                where = queue_key(queue, message["properties"]["priority"])
            except (ValueError, LookupError, TypeError, RecursionError) as error:
                logger.warning("message.dropped queue=%s bytes=%d reason=%r", queue, len(raw), error)
                redis.zrem(key, raw)
            else:
                redis.eval(BRING_BACK, 2, key, where, raw, json.dumps(message))
