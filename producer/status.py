"""What the fleet is doing, read out of Redis: nobody is asked, so a fleet that hangs is seen as well.

Stage: under ``fleet status``.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from producer.books import BYTES_KEY, COUNTERS_KEY
from producer.dead import ORDER_KEY
from producer.envelope import UNACKED_KEY
from producer.wire import (
    ALIVE_WITHIN_S,
    JOBS_KEY,
    MODELS_KEY,
    SENT_AT_HEADER,
    SERVED_WITHIN_S,
    WORKERS_KEY,
    queue_keys,
    queue_of,
)

#: The queue of tasks that are not detections.
_OTHER_QUEUE = "fleet"


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """One queue: messages that wait, seconds since the oldest was sent (None: unknown), bytes of jobs not ended."""

    queue: str
    waiting: int
    oldest_s: float | None
    bytes: int


@dataclass(frozen=True, slots=True)
class Status:
    """The fleet at one moment.

    Attributes:
        workers: name -> seconds since it said that it lives; those silent for long are left out.
        models: name -> what workers say of it, with ``served``: whether one does so now.
        queues: those of all models, and any other that has jobs.
        in_flight: messages that workers hold.
        ledger: jobs of our own clients that were accepted and have not ended.
        dead: jobs on the dead list.
        counters: what was counted, such as ``duplicates``.
        memory: Redis's own: ``used_bytes`` and ``limit_bytes`` (0: none); empty when it does not say.
    """

    workers: dict[str, float]
    models: dict[str, dict[str, Any]]
    queues: list[QueueStatus]
    in_flight: int
    ledger: int
    dead: int
    counters: dict[str, int] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Give the plain JSON form."""
        return asdict(self)


def read_status(redis: Redis) -> Status:
    """Read the state of the fleet; two round trips, whatever its size."""
    with redis.pipeline(transaction=False) as pipe:
        pipe.time()
        pipe.zrange(WORKERS_KEY, 0, -1, withscores=True)
        pipe.hgetall(MODELS_KEY)
        pipe.hgetall(BYTES_KEY)
        pipe.hgetall(COUNTERS_KEY)
        pipe.hlen(UNACKED_KEY)
        pipe.hlen(JOBS_KEY)
        pipe.zcard(ORDER_KEY)
        time, workers, models, held, counters, in_flight, ledger, dead = pipe.execute()
    now = time[0] + time[1] / 1e6
    described = {_text(name): _describe(said, now) for name, said in models.items()}
    sizes = {_text(queue): _number(size) for queue, size in held.items()}
    names = dict.fromkeys([*map(queue_of, described), *sizes, _OTHER_QUEUE])
    queues = [one for one in _queues(redis, names, sizes, now) if one.waiting or one.bytes or one.queue != _OTHER_QUEUE]
    alive = {_text(name): round(now - at, 1) for name, at in workers if now - at <= ALIVE_WITHIN_S}
    counted = {_text(name): _number(count) for name, count in counters.items()}
    return Status(alive, described, queues, in_flight, ledger, dead, counted, _memory(redis))


def _queues(redis: Redis, names: Iterable[str], sizes: dict[str, int], now: float) -> list[QueueStatus]:
    found = []
    with redis.pipeline(transaction=False) as pipe:
        for name in names:
            for key in queue_keys(name):
                pipe.llen(key)
                pipe.lindex(key, -1)  # the end that is served next
        replies = iter(pipe.execute())
    for name in names:
        pairs = [(next(replies), next(replies)) for _ in queue_keys(name)]
        sent = [at for _, message in pairs if (at := _sent_at(message)) is not None]
        oldest_s = round(max(0.0, now - min(sent)), 1) if sent else None
        found.append(QueueStatus(name, sum(length for length, _ in pairs), oldest_s, sizes.get(name, 0)))
    return found


def _sent_at(message: bytes | None) -> float | None:
    try:
        at = json.loads(message or b"")["headers"][SENT_AT_HEADER]
        return float(at)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _describe(said: bytes, now: float) -> dict[str, Any]:
    try:
        known = dict(json.loads(said))
        seen_at = float(known.pop("seen_at", now))
    except (ValueError, TypeError, RecursionError):
        return {"served": False}
    return known | {"served": now - seen_at <= SERVED_WITHIN_S}


def _memory(redis: Redis) -> dict[str, int]:
    try:
        said = redis.info("memory")
    except ResponseError:  # an ACL, say
        return {}
    return {"used_bytes": int(said["used_memory"]), "limit_bytes": int(said["maxmemory"])}


def _number(value: bytes) -> int:
    """Read a count as the scripts of :mod:`producer.books` do: whatever else somebody wrote there is 0."""
    return int(value) if value.isdigit() and len(value) < 16 else 0


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")
