"""The dead list: jobs that will not be tried again, kept with their images so that a person can look and replay.

Stage: beside the flow. A worker adds (:mod:`worker.detector`), ``fleet dead`` lists, shows, replays and drops. Bounded
in number and in bytes: the oldest goes when a newer one needs its place.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from redis import Redis

from producer.errors import InvalidRequest
from producer.wire import BLOB_PREFIX

#: Sorted set: id -> when, by Redis's clock.
ORDER_KEY = "fleet:dead"

#: Hashes: id -> entry as JSON; id -> bytes it takes, images included.
ENTRIES_KEY = "fleet:dead:jobs"
SIZES_KEY = "fleet:dead:sizes"

#: Most jobs and bytes kept, and for how long the images.
MAX_JOBS = 1000
MAX_BYTES = 256 * 1024 * 1024
KEEP_S = 7 * 86400

#: Adds one entry, keeps its images and removes the oldest that no longer fit. Keys: order, entries, sizes. Arguments:
#: id, entry, time to live of images, most jobs, most bytes, then the images' keys. Gives the number removed.
ADD = """
local size = #ARGV[2]
for i = 6, #ARGV do
  size = size + redis.call('STRLEN', ARGV[i])
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
    for _, key in ipairs(cjson.decode(entry).images) do redis.call('UNLINK', key) end
  end
  total = total - tonumber(redis.call('HGET', KEYS[3], oldest) or 0)
  redis.call('HDEL', KEYS[2], oldest)
  redis.call('HDEL', KEYS[3], oldest)
  removed = removed + 1
end
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
        first = self.args[0] if self.args else None
        found = first if isinstance(first, list) else [first]
        refs = [image.get("ref") for image in found if isinstance(image, dict)]
        return [ref for ref in refs if isinstance(ref, str) and ref.startswith(BLOB_PREFIX)]

    def to_json(self) -> dict[str, Any]:
        """Give the plain JSON form."""
        fields = {name: getattr(self, name) for name in ("id", "task", "queue", "args", "kwargs", "code", "reason")}
        return fields | {"images": self.images}


def add(redis: Redis, job: DeadJob, *, max_jobs: int = MAX_JOBS, max_bytes: int = MAX_BYTES) -> None:
    """Put ``job`` on the list and keep its images; adding it again replaces it."""
    entry = json.dumps(job.to_json())
    keys = [ORDER_KEY, ENTRIES_KEY, SIZES_KEY]
    redis.eval(ADD, len(keys), *keys, job.id, entry, KEEP_S, max_jobs, max_bytes, *job.images)


def read_all(redis: Redis) -> Iterator[DeadJob]:
    """Yield every job of the list, the oldest first."""
    order: Any = redis.zrange(ORDER_KEY, 0, -1, withscores=True)
    for raw_id, died_at in order:
        job = _read(redis, raw_id.decode(), died_at)
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


def drop(redis: Redis, job: DeadJob, *, keep_images: bool = False) -> None:
    """Take ``job`` off the list, its images with it unless another job needs them."""
    with redis.pipeline() as pipe:
        pipe.zrem(ORDER_KEY, job.id)
        pipe.hdel(ENTRIES_KEY, job.id)
        pipe.hdel(SIZES_KEY, job.id)
        if job.images and not keep_images:
            pipe.unlink(*job.images)
        pipe.execute()


def _read(redis: Redis, job_id: str, died_at: float) -> DeadJob | None:
    raw: Any
    raw, size = redis.hget(ENTRIES_KEY, job_id), redis.hget(SIZES_KEY, job_id)
    if raw is None:
        return None
    try:
        said = json.loads(raw)
        said.pop("images", None)
        return DeadJob(**said, died_at=float(died_at), size_bytes=int(size or 0))
    except (ValueError, TypeError, AttributeError):
        return None
