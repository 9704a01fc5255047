"""Records servers that are fed with the same photos: a worker of this project's, and two bare ones.

Stage: behind ``fleet-worker timeline PHOTO...``, which loads this module, and with it OpenVINO. Neighbours:
:mod:`worker.recording` asks the worker, :mod:`worker.rival` has the others.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

from celery import Celery
from redis import Redis

from producer import blobs, wire
from worker import local, models, network
from worker.cpu import make_plan
from worker.recording import record_since
from worker.rival import LIST_KEY, THREADS, Rival, Unwaiting
from worker.settings import Settings
from worker.timeline import Recording

#: Jobs kept waiting while a server is fed, so that it never lacks work.
AHEAD = 32

#: Seconds before recording begins, in which caches warm up and queues fill.
WARM_UP_S = 1.0


def record_fleet(settings: Settings, photos: Sequence[bytes], seconds: float) -> Recording:
    """Start a server and one worker, feed it with photos, and record it.

    Raises:
        RecordingError: it gave no answer.
        local.LocalError: it did not start.
        embedded.ServerError: its server did not start.
    """
    queue = wire.queue_of(settings.models[0])
    with local.fleet(settings) as running, Redis.from_url(running.url) as redis:
        with Celery("timeline", broker=running.url, set_as_current=False) as app:

            def send(key: str) -> None:
                app.send_task(wire.TASK_DETECT, [{"ref": key}], queue=queue, expires=60)

            begin = _feed(redis, queue, photos, send, seconds)
            redis.delete(queue)
        return record_since(running.url, begin, "worker of the fleet")


def record_bare(settings: Settings, url: str, photos: Sequence[bytes], seconds: float, *, waits: bool) -> Recording:
    """Feed a bare server, in this process, and record it: of threads that start and wait, or of some that do not wait.

    Raises:
        models.ModelError: its network cannot be loaded.
    """
    loaded = network.load(*models.read(settings.models[0], settings.model_store), settings, make_plan(settings).threads)
    with Redis.from_url(url) as redis, (Rival if waits else Unwaiting)(loaded, settings, url) as rival:
        begin = _feed(redis, LIST_KEY, photos, lambda key: redis.rpush(LIST_KEY, key), seconds)
        redis.delete(LIST_KEY)
    passages = [one for one in rival.passages if one.begun_at >= begin]
    name = f"bare server, {THREADS} threads that start and wait" if waits else "bare server, asynchronous"
    return Recording(name, passages, THREADS, blocking=waits)


def _feed(redis: Redis, queue: str, photos: Sequence[bytes], send: Callable[[str], Any], seconds: float) -> float:
    """Keep ``queue`` filled for a while; return when the warm-up was over."""
    endless = itertools.cycle(photos)
    begin = time.time() + WARM_UP_S
    while time.time() < begin + seconds:
        for _ in range(AHEAD - int(redis.llen(queue))):
            send(blobs.put(redis, next(endless), ttl_s=120))
        time.sleep(0.005)
    return begin
