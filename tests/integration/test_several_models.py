"""Several models in one worker: a queue each, and none waits behind another's flood."""

import base64
import json
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.integration.kit import Fleet, eventually, small_picture
from worker import embedded

SLOW, FAST, TWIN = "centerface", "blazeface_short", "twin"

#: Places, and with them messages that the worker holds at once: two rounds of jobs.
JOBS = 6
HELD = 2 * JOBS

FLOOD = 5000


@pytest.fixture
def fleet(store: Path, samples: Path, tmp_path: Path) -> Iterator[Fleet]:
    """Give a server without a worker, and a store in which one model stands twice, under two names."""
    own = tmp_path / "models"
    for name, source in ((SLOW, SLOW), (FAST, FAST), (TWIN, FAST)):
        shutil.copytree(store / source, own / name)
    with embedded.server() as url:
        made = Fleet(url, own, tmp_path, small_picture(samples))
        yield made
        made.redis.flushdb()  # the flood, of this server that is this test's own; a worker that drains has less to do
        made.close()


def queue_of(model: str) -> str:
    return f"detect.{model}"


def list_of(model: str, priority: int) -> str:
    """Name the list in Redis that holds a queue's jobs of one priority."""
    return queue_of(model) + (f"\x06\x16{priority}" if priority else "")


def flood(fleet: Fleet, model: str, count: int = FLOOD, *, priority: int = 0) -> list[str]:
    """Put many jobs into a model's queue at once, as Celery's messages; return their ids."""
    done, data = cv2.imencode(".jpg", np.full((48, 48, 3), 120, np.uint8))
    assert done
    image = {"data": base64.b64encode(data.tobytes()).decode()}
    fleet.app.send_task("fleet.detect", [image], queue="nobody's")
    sample = json.loads(fleet.redis.rpop("nobody's"))
    sample["properties"]["delivery_info"] = {"exchange": queue_of(model), "routing_key": queue_of(model)}
    sample["properties"]["priority"] = priority
    ids = [f"{model}-{priority}-{number}" for number in range(count)]
    with fleet.redis.pipeline(transaction=True) as pipe:
        for job in ids:
            sample["headers"] |= {"id": job, "root_id": job}
            sample["properties"] |= {"correlation_id": job, "delivery_tag": uuid.uuid4().hex}
            pipe.lpush(list_of(model, priority), json.dumps(sample))
        pipe.execute()
    return ids


def answered(fleet: Fleet, ids: list[str]) -> int:
    """Count the jobs that have their results."""
    return int(fleet.redis.exists(*(f"celery-task-meta-{job}" for job in ids)))


def run(fleet: Fleet, *models: str, **more: Any) -> None:
    fleet.start(extra=(), served=",".join(models), jobs=JOBS, **more)


def test_a_job_of_another_model_overtakes_five_thousand(fleet: Fleet) -> None:
    """Given a flood for a slow model, then a job for another is answered before a worker's holding of it has gone by.

    It is fetched when one of the flood ends, gets the next place, and has decode threads and requests of its own.
    """
    run(fleet, SLOW, FAST)
    crowd = flood(fleet, SLOW)
    eventually(lambda: answered(fleet, crowd) > HELD, "the flood")
    for _ in range(5):
        before = fleet.queued(queue_of(SLOW))

        result = fleet.detect(queue=queue_of(FAST)).get(timeout=30)

        assert result["model"] == FAST
        assert before - fleet.queued(queue_of(SLOW)) <= HELD
    assert answered(fleet, crowd) < len(crowd)


def test_two_floods_of_equal_models_go_on_side_by_side(fleet: Fleet) -> None:
    """Given as much for one as for the other, then neither has more than a fifth more answers."""
    first, second = flood(fleet, FAST), flood(fleet, TWIN)
    run(fleet, FAST, TWIN)

    eventually(lambda: answered(fleet, first) + answered(fleet, second) > 600, "six hundred answers", 90)

    one, other = answered(fleet, first), answered(fleet, second)
    assert max(one, other) <= 1.2 * min(one, other) + HELD, (one, other)


def test_a_slow_model_neither_holds_up_a_fast_one_nor_starves(fleet: Fleet) -> None:
    """Given floods of both, then each goes on at its own pace, and the fast one gives more answers."""
    slow, fast = flood(fleet, SLOW), flood(fleet, FAST)
    run(fleet, SLOW, FAST)

    eventually(lambda: answered(fleet, slow) >= 30, "answers of the slow one", 90)

    assert answered(fleet, fast) > 1.5 * answered(fleet, slow)
    places = fleet.inspect("stats")["pool"]["models"]
    assert set(places) == {SLOW, FAST}


def test_priorities_hold_among_several_models(fleet: Fleet) -> None:
    """Given floods of low priority for two models, then an urgent job overtakes both."""
    run(fleet, FAST, TWIN)
    crowds = [(model, flood(fleet, model, 2000, priority=9)) for model in (FAST, TWIN)]
    eventually(lambda: answered(fleet, crowds[0][1]) > HELD, "the flood")
    low = [list_of(model, 9) for model in (FAST, TWIN)]
    before = sum(fleet.queued(name) for name in low)

    fleet.detect(queue=queue_of(FAST), priority=0).get(timeout=30)

    assert before - sum(fleet.queued(name) for name in low) <= 3 * HELD
