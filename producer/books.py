"""The books: which jobs were accepted and have not ended, and how many bytes they hold in Redis.

Stage: both ends of a job's life. A client enters it in the same step that pushes its message, whoever learns of its end
strikes it out. The scripts are atomic, so the figures are exact whatever dies between two steps: an entry and its bytes
come and go together.

Why count here and not ask Redis for its memory: ``INFO`` knows nothing of queues, and counts results, the dead list and
other programs. What is counted is a job's images and twice its message, which stands in the queue and in the ledger.
"""

from collections.abc import Sequence
from typing import Any

from producer.wire import JOBS_KEY, ledger_key, queue_keys

#: Hashes: id -> bytes of a job that has not ended; queue -> bytes of all such jobs of its.
SIZES_KEY = "fleet:sizes"
BYTES_KEY = "fleet:bytes"

#: Hash of things that are counted for people: ``duplicates`` is how many submits were recognised as repeated.
COUNTERS_KEY = "fleet:counters"

#: What a job takes in Redis besides images and message: names, entries, pointers.
OVERHEAD_BYTES = 512

#: Lua: enters a job and pushes its message. The first write is one that a full server refuses, before anything is done.
ENTER = """
local function enter(jobs, sizes, bytes, ledger, list, id, message, sent_at, queue, size)
  redis.call('HSET', jobs, id, message)
  redis.call('HSET', sizes, id, size)
  redis.call('HINCRBY', bytes, queue, size)
  redis.call('ZADD', ledger, sent_at, id)
  redis.call('LPUSH', list, message)
end
"""

#: Keys: jobs, sizes, bytes, then the queue's ledgers. Arguments: id, queue.
_STRIKE_OUT = """
redis.call('HDEL', KEYS[1], ARGV[1])
local size = redis.call('HGET', KEYS[2], ARGV[1])
if size then
  redis.call('HDEL', KEYS[2], ARGV[1])
  if redis.call('HINCRBY', KEYS[3], ARGV[2], -size) <= 0 then redis.call('HDEL', KEYS[3], ARGV[2]) end
end
for i = 4, #KEYS do redis.call('ZREM', KEYS[i], ARGV[1]) end
"""


def strike_out(pipe: Any, queue: str, job_id: str) -> None:
    """Add to ``pipe`` what removes an ended job from the books; any other id is fine, and so is a second time."""
    keys = [JOBS_KEY, SIZES_KEY, BYTES_KEY, *(ledger_key(name) for name in queue_keys(queue))]
    pipe.eval(_STRIKE_OUT, len(keys), *keys, job_id, queue)


def size_of(message: bytes, images: Sequence[bytes] = ()) -> int:
    """Return the bytes that a job takes in Redis, near enough."""
    return 2 * len(message) + sum(map(len, images)) + OVERHEAD_BYTES
