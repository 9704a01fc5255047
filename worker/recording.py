"""Records what a server does for a few seconds: workers that run already, or two servers fed with the same photos.

Stage: behind ``fleet-worker timeline``; asks workers over :mod:`worker.remote`, runs :mod:`worker.rival` itself.
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
from worker.rival import LIST_KEY, THREADS, Rival
from worker.settings import Settings
from worker.timeline import Recording, RecordingError
from worker.trail import Passage

#: Jobs kept waiting while a server is fed, so that it never lacks work.
AHEAD = 32

#: Seconds before recording begins, in which caches warm up and queues fill.
WARM_UP_S = 1.0

#: Longest wait for the answer of a worker.
ANSWER_WITHIN_S = 10.0


def record_workers(url: str, seconds: float, worker: str | None = None) -> list[Recording]:
    """Record what workers do from now on, whatever their clients send.

    Args:
        url: the fleet's Redis.
        seconds: for how long.
        worker: name of the one to record; None means all that answer.

    Raises:
        RecordingError: no worker answered, or none had anything to do.
    """
    with Celery("timeline", broker=url, set_as_current=False) as app:
        clocks = {name: answer["now"] for name, answer in _ask(app, worker, since=time.time()).items()}
        time.sleep(seconds)
        answers = {name: _ask(app, name, since=clock)[name] for name, clock in clocks.items()}
    found = [_recording(name, answer) for name, answer in sorted(answers.items()) if len(answer["passages"]) > 1]
    if not found:
        raise RecordingError(f"No worker did anything in {seconds:g} s. Send images meanwhile, or give photos.")
    return found


def _ask(app: Celery, worker: str | None, *, since: float) -> dict[str, Any]:
    """Ask for passages; all workers have a second to answer, a named one has longer."""
    inspect = app.control.inspect(destination=worker and [worker], timeout=ANSWER_WITHIN_S if worker else 1.0)
    answers: dict[str, Any] | None = inspect._request("fleet_passages", since=since)  # noqa: SLF001 - how Celery's own command asks
    if not answers:
        raise RecordingError(f"No answer from {worker or 'any worker'}; is it running, and on this Redis?")
    return answers


def _recording(name: str, answer: dict[str, Any]) -> Recording:
    passages = [Passage(**one) for one in answer["passages"]]
    model = passages[0].model  # one picture shows one model's requests
    mine = [one for one in passages if one.model == model]
    return Recording(name, mine, answer["requests"].get(model, 0))


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
        (recording,) = _since(running.url, begin)
    return recording


def _since(url: str, begin: float) -> list[Recording]:
    with Celery("timeline", broker=url, set_as_current=False) as app:
        answers = _ask(app, None, since=begin)
    return [_recording("asynchronous worker", answer) for answer in answers.values()]


def record_rival(settings: Settings, url: str, photos: Sequence[bytes], seconds: float) -> Recording:
    """Feed the server of threads that start and wait, in this process, and record it.

    Raises:
        models.ModelError: its network cannot be loaded.
    """
    loaded = network.load(*models.read(settings.models[0], settings.model_store), settings, make_plan(settings).threads)
    with Redis.from_url(url) as redis, Rival(loaded, settings, url) as rival:
        begin = _feed(redis, LIST_KEY, photos, lambda key: redis.rpush(LIST_KEY, key), seconds)
        redis.delete(LIST_KEY)
    passages = [one for one in rival.passages if one.begun_at >= begin]
    return Recording(f"{THREADS} threads that start and wait", passages, THREADS, blocking=True)


def _feed(redis: Redis, queue: str, photos: Sequence[bytes], send: Callable[[str], Any], seconds: float) -> float:
    """Keep ``queue`` filled for a while; return when the warm-up was over."""
    endless = itertools.cycle(photos)
    begin = time.time() + WARM_UP_S
    while time.time() < begin + seconds:
        for _ in range(AHEAD - int(redis.llen(queue))):
            send(blobs.put(redis, next(endless), ttl_s=120))
        time.sleep(0.005)
    return begin
