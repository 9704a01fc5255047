"""The conversation that brings results back: one pub/sub connection, whatever the number of jobs.

Stage: between Redis and :class:`producer.waiting.Waiting`. Celery's backend SETEXes a result and PUBLISHes it on a
channel of the same name; a client's job ids share a prefix, so one PSUBSCRIBE hears all of them. Where Redis's access
list refuses that, each job's own channel is subscribed to. Pub/sub may lose
messages (a broken connection, a full output buffer), so every few seconds what is outstanding is read from its keys.
A connection that a firewall has forgotten gives no sign at all, so one that is silent is asked for one.
"""

import logging
import time
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from producer.dispatch import cancel
from producer.results import META_PREFIX, is_wake, meta_key, read_meta, wake_channel
from producer.scripts import Command
from producer.steps import Ask, Join, Listen, Open, Pause, Ping, Steps, jittered, once
from producer.waiting import READ_TTL_S, F, Waiting

logger = logging.getLogger(__name__)

#: Seconds between two looks at deadlines and at results to clean up.
TICK_S = 0.5

#: Seconds between two readings of everything outstanding.
BACKSTOP_S = 5.0

#: Seconds of silence after which the server is asked for a sign of life, and seconds that it has to give one.
SILENCE_S = 2.5
SIGN_S = 3.5

#: What it is asked with.
PING = "fleet"

#: Keys per MGET.
CHUNK = 250

#: Longest pause between two tries to reconnect.
MAX_RECONNECT_S = 2.0


def read_loop(waiting: Waiting[F], db: int) -> Steps[None]:
    """Deliver results until ``waiting`` is closed; survives every loss of the connection."""
    failures = 0
    while not waiting.closed:
        try:
            foreign = tuple(meta_key(job_id) for job_id in waiting.foreign_ids())
            own = None if waiting.one_by_one else meta_key(f"{waiting.client_id}-*")
            yield Open(own, (wake_channel(waiting.client_id), *foreign))
            if failures:
                logger.info("results.reconnected outstanding=%d", len(waiting))
            failures = 0
            yield from _listen(waiting, db)
        except (RedisError, OSError) as error:
            if waiting.closed:
                return
            if isinstance(error, NoPermissionError) and not waiting.one_by_one:
                # An access list allows a pattern only by its very text, and cannot know this client's.
                waiting.listen_one_by_one()
                continue
            failures += 1
            logger.warning("results.connection_lost failures=%d error=%r", failures, str(error))
            waiting.give_up(waiting.take_overdue(time.monotonic()))
            yield Pause(jittered(min(MAX_RECONNECT_S, 0.05 * 2 ** min(failures, 8))))


def _listen(waiting: Waiting[F], db: int) -> Steps[None]:
    tick_at = time.monotonic() + TICK_S
    backstop_at = time.monotonic() + BACKSTOP_S
    silent_since, asked = time.monotonic(), False
    while not waiting.closed:
        yield from _move(waiting)
        message = yield Listen(max(0.001, tick_at - time.monotonic()))
        now = time.monotonic()
        if message is not None:
            silent_since, asked = now, False
            yield from _hear(waiting, message)
        elif asked and now - silent_since > SIGN_S:
            raise RedisConnectionError("the connection is silent")
        elif not asked and now - silent_since > SILENCE_S:
            yield Ping()
            silent_since, asked = now, True
        if now >= backstop_at and not asked:  # a server that owes a sign of life would not answer this either
            yield from sweep(waiting, waiting.ids())
            backstop_at = time.monotonic() + BACKSTOP_S
        if now >= tick_at:
            yield from _expire(waiting, now)
            yield from tidy(waiting, db)
            tick_at = time.monotonic() + TICK_S


def _move(waiting: Waiting[F]) -> Steps[None]:
    join, leave = waiting.take_moves()
    for job_id in leave:
        yield Join(meta_key(job_id), leave=True)
    for job_id in join:
        yield Join(meta_key(job_id))


def _hear(waiting: Waiting[F], message: dict[str, Any]) -> Steps[None]:
    kind, job_id = message["type"], _job_of(message.get("channel"))
    if is_wake(job_id):
        return
    if kind in ("message", "pmessage"):
        outcome = read_meta(message["data"])
        if outcome is not None:
            waiting.settle(job_id, outcome)
    elif kind == "psubscribe":
        # Only now does Redis tell us everything; what ended before has to be looked up.
        yield from sweep(waiting, waiting.ids())
    elif kind == "subscribe":
        yield from sweep(waiting, [job_id])


def _job_of(channel: object) -> str:
    name = channel.decode("utf-8", "replace") if isinstance(channel, bytes) else str(channel)
    return name.removeprefix(META_PREFIX)


def _expire(waiting: Waiting[F], now: float) -> Steps[None]:
    overdue = waiting.take_overdue(now)
    if overdue:
        try:
            yield from sweep(waiting, overdue)
        finally:
            waiting.give_up(overdue)


def sweep(waiting: Waiting[F], job_ids: list[str]) -> Steps[None]:
    """Look up ``job_ids`` in Redis and settle those that have ended."""
    for start in range(0, len(job_ids), CHUNK):
        chunk = job_ids[start : start + CHUNK]
        (stored,) = yield Ask((("MGET", *map(meta_key, chunk)),))
        for job_id, raw in zip(chunk, stored, strict=True):
            outcome = read_meta(raw)
            if outcome is not None:
                waiting.settle(job_id, outcome)


def tidy(waiting: Waiting[F], db: int) -> Steps[None]:
    """Cancel abandoned jobs, delete results that are used up and shorten the life of those read, many at a time."""
    abandoned = waiting.take_abandoned()
    try:
        yield from cancel(abandoned, db, once)
    except ResponseError as error:
        # A full server, say: their deadlines end these jobs.
        logger.warning("jobs.cancel_refused jobs=%d error=%r", len(abandoned), str(error))
    except BaseException:
        waiting.abandon(abandoned)
        raise
    used, read = waiting.take_collected()
    for start in range(0, len(used), CHUNK):
        yield Ask((("UNLINK", *map(meta_key, used[start : start + CHUNK])),))
    for start in range(0, len(read), CHUNK):
        expire: list[Command] = [("EXPIRE", meta_key(job_id), READ_TTL_S) for job_id in read[start : start + CHUNK]]
        yield Ask(tuple(expire))
