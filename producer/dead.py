"""The dead list: jobs that will not be tried again, kept with their images so that a person can look and replay.

Stage: beside the flow. A worker adds (:mod:`worker.entrance`), ``fleet dead`` lists, shows, replays and drops. Bounded
in number and in bytes: the oldest goes when a newer one needs its place.
"""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from redis import Redis

from producer.blobs import refs_of
from producer.errors import InvalidRequest

#: Sorted set: id -> when, by Redis's clock.
ORDER_KEY = "fleet:dead"

#: Hashes: id -> entry as JSON; id -> bytes it takes, images included.
ENTRIES_KEY = "fleet:dead:jobs"
SIZES_KEY = "fleet:dead:sizes"

#: Most jobs and bytes kept, and for how long the images.
MAX_JOBS = 1000
MAX_BYTES = 256 * 1024 * 1024
KEEP_S = 7 * 86400

#: Entries read in one go; one may have megabytes.
_CHUNK = 50

#: Adds one entry, keeps its images and removes the oldest that no longer fit. Keys: order, entries, sizes. Arguments:
#: id, entry, time to live of images, most jobs, most bytes, then the images' keys. Gives the number removed.
ADD = """
local size = #ARGV[2]
for i = 6, #ARGV do
  local length = redis.pcall('STRLEN', ARGV[i])
  if type(length) == 'number' then size = size + length end
  redis.call('EXPIRE', ARGV[i], ARGV[3])
end
local now = redis.call('TIME')
redis.call('ZADD', KEYS[1], now[1] + now[2] / 1000000, ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('HSET', KEYS[3], ARGV[1], size)
local total = 0
for _, one in ipairs(redis.call('HVALS', KEYS[3])) do total = total + tonumber(one) end
local removed = 0
while true do
  local count = redis.call('ZCARD', KEYS[1])
  if count <= tonumber(ARGV[4]) and (total <= tonumber(ARGV[5]) or count == 1) then return removed end
  local oldest = redis.call('ZPOPMIN', KEYS[1])[1]
  local entry = redis.call('HGET', KEYS[2], oldest)
  if entry then
    local known, said = pcall(cjson.decode, entry)
    for _, key in ipairs(known and said.images or {}) do redis.call('UNLINK', key) end
  end
  total = total - tonumber(redis.call('HGET', KEYS[3], oldest) or 0)
  redis.call('HDEL', KEYS[2], oldest)
  redis.call('HDEL', KEYS[3], oldest)
  removed = removed + 1
end
"""

#: Removes one entry that is still there. Keys: order, entries, sizes, then the images'. Arguments: id.
DROP = """
if redis.call('HDEL', KEYS[2], ARGV[1]) == 0 then return 0 end
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[1], ARGV[1])
for i = 4, #KEYS do redis.call('UNLINK', KEYS[i]) end
return 1
"""


@dataclass(frozen=True, slots=True)
class DeadJob:
    """One job of the list.

    Attributes:
        id: the job's id.
        task: name of the task; queue: where it came from.
        args: of the task, plain JSON; kwargs likewise.
        code: why, as an error's code; reason: the same as a sentence.
        died_at: seconds since 1970, by Redis's clock.
        size_bytes: what it takes in Redis, images included.
    """

    id: str
    task: str
    queue: str
    args: list[Any]
    kwargs: dict[str, Any]
    code: str
    reason: str
    died_at: float = 0.0
    size_bytes: int = 0

    @property
    def images(self) -> list[str]:
        """The keys of its images; those that ride inside the message are not among them."""
        return refs_of(self.args)

    def to_json(self) -> dict[str, Any]:
        """Give the plain JSON form."""
        fields = {name: getattr(self, name) for name in ("id", "task", "queue", "args", "kwargs", "code", "reason")}
        return fields | {"images": self.images}


def add(redis: Redis, job: DeadJob, *, max_jobs: int = MAX_JOBS, max_bytes: int = MAX_BYTES) -> None:
    """Put ``job`` on the list and keep its images; adding it again replaces it."""
    entry = _written(job)
    keys = [ORDER_KEY, ENTRIES_KEY, SIZES_KEY]
    redis.eval(ADD, len(keys), *keys, job.id, entry, KEEP_S, max_jobs, max_bytes, *job.images)


def read_all(redis: Redis) -> Iterator[DeadJob]:
    """Yield every job of the list, the oldest first."""
    order: Any = redis.zrange(ORDER_KEY, 0, -1, withscores=True)
    for start in range(0, len(order), _CHUNK):
        ids = [raw_id for raw_id, _ in order[start : start + _CHUNK]]
        entries: Any = redis.hmget(ENTRIES_KEY, ids)
        sizes: Any = redis.hmget(SIZES_KEY, ids)
        for (_, died_at), entry, size in zip(order[start : start + _CHUNK], entries, sizes, strict=True):
            job = _parse(entry, died_at, size)
            if job is not None:
                yield job


def read(redis: Redis, job_id: str) -> DeadJob:
    """Return one job of the list.

    Raises:
        InvalidRequest: it is not there.
    """
    died_at: Any = redis.zscore(ORDER_KEY, job_id)
    job = _read(redis, job_id, died_at) if died_at is not None else None
    if job is None:
        raise InvalidRequest(f"There is no job {job_id!r} on the dead list.")
    return job


def drop(redis: Redis, job: DeadJob) -> None:
    """Take ``job`` off the list, its images with it.

    Raises:
        InvalidRequest: it is not there any more; its images may be another's now.
    """
    keys = [ORDER_KEY, ENTRIES_KEY, SIZES_KEY, *job.images]
    if not redis.eval(DROP, len(keys), *keys, job.id):
        raise InvalidRequest(f"There is no job {job.id!r} on the dead list.")


def _read(redis: Redis, job_id: str, died_at: float) -> DeadJob | None:
    entry, size = redis.hget(ENTRIES_KEY, job_id), redis.hget(SIZES_KEY, job_id)
    return _parse(entry, died_at, size)


def _parse(entry: Any, died_at: float, size: Any) -> DeadJob | None:
    if entry is None:
        return None
    try:
        said = json.loads(entry)
        said.pop("images", None)
        return DeadJob(**said, died_at=float(died_at), size_bytes=int(size or 0))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None


def _written(job: DeadJob) -> str:
    """Write ``job`` as JSON; arguments that cannot be written, which are no image's either, are left out."""
    try:
        return json.dumps(job.to_json(), default=_plain, skipkeys=True)
    except (ValueError, RecursionError):
        return json.dumps(replace(job, args=[], kwargs={}).to_json())


def _plain(value: object) -> str:
    """Write what JSON cannot: bytes that other Celery programs send are the base64 text that a request may have too."""
    return base64.b64encode(value).decode() if isinstance(value, bytes) else repr(value)[:200]
