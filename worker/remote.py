"""What a worker answers when it is asked about itself: ``celery -A worker.app inspect fleet``.

Stage: beside the consumer, over Celery's remote control; the answers are made on the loop thread. Neighbours:
:mod:`worker.trail` remembers the images, :mod:`worker.timeline` draws what ``fleet_passages`` gives.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from celery.worker.control import inspect_command
from redis.exceptions import RedisError

from producer.status import read_status
from producer.wire import model_of
from worker import cpu, settings
from worker.trail import OK, STAGES, Passage, Trail

#: Parts of a hundred that are told of each stage's times.
PERCENTS = (50, 95, 99)

#: Most images that one answer carries; it goes through Redis as one message.
MAX_PASSAGES = 4096


@inspect_command(name="fleet", visible=True)
def describe_worker(state: Any, **_: Any) -> dict[str, Any]:
    """Models and digests, requests busy and free, queues, percentiles of each stage, plan for the processor."""
    worker = state.consumer.controller
    info = worker.pool.info
    passages = worker.trail.passages()
    return {
        "models": {
            name: _model(stats, [one for one in passages if one.model == name])
            for name, stats in info["models"].items()
        },
        "jobs": {"in_flight": info["jobs"], "slots": info["max-concurrency"]},
        "queues": _queues(state, info["models"]),
        "plan": asdict(cpu.make_plan(settings.load())),
    }


@inspect_command(name="fleet_passages", args=[("since", float)], signature="[since=0]", visible=True)
def list_passages(state: Any, since: float = 0.0, **_: Any) -> dict[str, Any]:
    """The images this worker did since a moment of its own clock, and what that clock says."""
    trail: Trail = state.consumer.controller.trail
    worker = state.consumer.controller
    found = trail.passages(since)[-MAX_PASSAGES:]
    return {
        "now": trail.now(),
        "requests": {name: stats["requests"] for name, stats in worker.pool.info["models"].items()},
        "passages": [asdict(one) for one in found],
    }


def _model(stats: Mapping[str, Any], passages: list[Passage]) -> dict[str, Any]:
    return {
        "digest": stats["digest"],
        "versions": stats["versions"],
        "requests": {"busy": stats["in_flight"], "free": stats["requests"] - stats["in_flight"]},
        "last_images": len(passages),
        "failed": sum(one.code != OK for one in passages),
        "stages_ms": {stage: percentiles(one.stages_ms.get(stage) for one in passages) for stage in STAGES},
    }


def percentiles(values: Iterable[float | None]) -> dict[str, float]:
    """Give the :data:`PERCENTS` of the values that are there, by nearest rank; empty when there is none."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return {}
    return {f"p{part}": round(known[math.ceil(len(known) * part / 100) - 1], 2) for part in PERCENTS}


def _queues(state: Any, models: Iterable[str]) -> dict[str, Any]:
    """Tell what waits for this worker's models; by whom it is asked, Redis has just answered."""
    try:
        status = read_status(state.app.backend.client)
    except RedisError as error:
        return {"error": type(error).__name__}
    mine = [one for one in status.queues if model_of(one.queue) in set(models)]
    return {one.queue: {"waiting": one.waiting, "oldest_s": one.oldest_s} for one in mine}
