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

from tests.integration.kit import Fleet, small_picture
from tests.waiting import eventually
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
        for key in made.redis.keys("detect.*"):  # the flood: a worker that drains has less to do
            made.redis.delete(key)
        made.close()


def queue_of(model: str) -> str:
    return f"detect.{model}"


def list_of(model: str, priority: int) -> str:
    """Name the list in Redis that holds a queue's jobs of one priority."""
    return queue_of(model) + (f"\x06\x16{priority}" if priority else "")


def message(fleet: Fleet, model: str, priority: int) -> dict[str, Any]:
    """Give a job for a model as Celery writes it."""
    done, data = cv2.imencode(".jpg", np.full((48, 48, 3), 120, np.uint8))
    assert done
    image = {"data": base64.b64encode(data.tobytes()).decode()}
    fleet.app.send_task("fleet.detect", [image], queue="nobody's")
    sample: dict[str, Any] = json.loads(fleet.redis.rpop("nobody's"))
    sample["properties"]["delivery_info"] = {"exchange": queue_of(model), "routing_key": queue_of(model)}
    sample["properties"]["priority"] = priority
    return sample


def put(pipe: Any, sample: dict[str, Any], model: str, job: str, priority: int) -> None:
    """Put a job under an id of its own into its model's queue."""
    sample["headers"] |= {"id": job, "root_id": job}
    sample["properties"] |= {"correlation_id": job, "delivery_tag": uuid.uuid4().hex}
    pipe.lpush(list_of(model, priority), json.dumps(sample))


def flood(fleet: Fleet, model: str, count: int = FLOOD, *, priority: int = 0) -> list[str]:
    """Put many jobs into a model's queue at once; return their ids, in the order in which they will be taken."""
    sample = message(fleet, model, priority)
    ids = [f"{model}-{priority}-{number}" for number in range(count)]
    with fleet.redis.pipeline(transaction=True) as pipe:
        for job in ids:
            put(pipe, sample, model, job, priority)
        pipe.execute()
    return ids


def overtaken(fleet: Fleet, job: str, model: str, crowds: dict[str, list[str]], priority: int = 0) -> set[str]:
    """Send one job among floods, wait for its answer, and return those of them that were taken after it was sent.

    Which of a flood still waited is read in the transaction that sends the job; what was taken before it is told by the
    worker's own events, which come in the order in which its loop did things. No clock has a part in it.
    """
    sample = message(fleet, model, priority)
    with fleet.events() as seen:
        with fleet.redis.pipeline(transaction=True) as pipe:
            for list_ in crowds:
                pipe.llen(list_)
            put(pipe, sample, model, job, priority)
            *left, _ = pipe.execute()
        waiting = {one for (_, ids), count in zip(crowds.items(), left, strict=True) for one in ids[len(ids) - count :]}
        eventually(lambda: any(one["type"] == "task-succeeded" and one["uuid"] == job for one in seen), "its answer")
        order = [(one["type"], one["uuid"]) for one in seen if one["type"].startswith("task-")]
    assert waiting, "the flood was over"
    before = order[: order.index(("task-started", job))]
    return {one for kind, one in before if kind == "task-started" and one in waiting}


def answered(fleet: Fleet, ids: list[str]) -> int:
    """Count the jobs that have their results."""
    return int(fleet.redis.exists(*(f"celery-task-meta-{job}" for job in ids)))


def run(fleet: Fleet, *models: str, **more: Any) -> None:
    fleet.start(extra=(), served=",".join(models), jobs=JOBS, **more)


@pytest.mark.parametrize(("crowded", "other"), [(SLOW, FAST), (FAST, SLOW)])
def test_a_job_of_another_model_overtakes_five_thousand(fleet: Fleet, crowded: str, other: str) -> None:
    """Given a flood for one model, then a job for another is begun before all but one of those that waited.

    It is fetched next and gets the next place. A message of the flood may be on its way to the worker already.
    """
    run(fleet, SLOW, FAST)
    crowd = flood(fleet, crowded)
    eventually(lambda: answered(fleet, crowd) > HELD, "the flood")

    for number in range(3):
        assert len(overtaken(fleet, f"one-{number}", other, {queue_of(crowded): crowd})) <= 1


@pytest.mark.parametrize(("one", "other"), [(FAST, TWIN), (SLOW, FAST)])
def test_neither_of_two_floods_takes_the_others_places(fleet: Fleet, one: str, other: str) -> None:
    """Given floods for two models, a free place goes to a job at hand of the model that has fewer, equal or slower.

    And there is one at hand: a slow model that was fetched as often as a fast one would have nearly all six. How many
    answers each gives with its places is up to its network, and to the core that the host has for it.
    """
    run(fleet, one, other)
    with fleet.events() as seen:
        crowds = [flood(fleet, one), flood(fleet, other)]
        eventually(lambda: min(answered(fleet, crowd) for crowd in crowds) > 100, "a hundred answers of each", 90)

    given, wrongly, apart = places(seen, *map(set, crowds))

    assert given > 200
    assert wrongly == 0
    assert apart < JOBS * 0.4


def places(seen: list[dict[str, Any]], one: set[str], other: set[str]) -> tuple[int, int, float]:
    """Tell how often a place was given, how often to one while the other had fewer and waited, and how far apart.

    The worker's events come in the order in which its loop did things. The last is the mean, at each event from the
    other's first turn on, of how many places the first had more than the other.
    """
    waits, have, given, wrongly, more = [0, 0], [0, 0], 0, 0, []
    for event in seen:
        if (whose := 0 if event.get("uuid") in one else 1 if event.get("uuid") in other else None) is None:
            continue
        if event["type"] == "task-received":
            waits[whose] += 1
        elif event["type"] == "task-started":
            waits[whose] -= 1
            given += 1
            wrongly += waits[1 - whose] > 0 and have[1 - whose] < have[whose]
            have[whose] += 1
        elif event["type"] == "task-succeeded":
            have[whose] -= 1
        if more or have[1]:
            more.append(have[0] - have[1])
    return given, wrongly, abs(sum(more) / len(more))


def test_jobs_that_do_not_end_leave_their_part_to_others(fleet: Fleet) -> None:
    """Given more jobs of one queue than there are places, none of which ends, then a model's flood is answered."""
    for _ in range(3 * HELD):
        fleet.user("gate", "shut")
    crowd = flood(fleet, FAST, 200)
    fleet.start(served=FAST, jobs=JOBS)

    eventually(lambda: answered(fleet, crowd) == len(crowd), "all answers", 60)

    assert fleet.redis.llen("entered:shut") >= JOBS // 2
    fleet.redis.delete("fleet")
    fleet.redis.rpush("go:shut", *["go"] * 3 * HELD)


def test_priorities_hold_among_several_models(fleet: Fleet) -> None:
    """Given floods of low priority for two models, then an urgent job is begun before nearly all of both.

    It is fetched next; jobs of its own model that are held already keep their turn for a place.
    """
    run(fleet, FAST, TWIN)
    crowds = {list_of(model, 9): flood(fleet, model, priority=9) for model in (FAST, TWIN)}
    eventually(lambda: all(answered(fleet, ids) > HELD for ids in crowds.values()), "the floods")

    assert len(overtaken(fleet, "urgent", FAST, crowds, priority=0)) <= HELD
