"""Events of many jobs: whoever listens has all of them, and while nobody does a worker hardly publishes any."""

import base64
import contextlib
import itertools
import json
import threading
from collections.abc import Iterator
from typing import Any

from celery.result import AsyncResult
from redis import Redis

from tests.integration.kit import Fleet, faces
from tests.waiting import SOON_S, eventually

#: Where kombu publishes groups of events of jobs.
TOPIC = "/0.celeryev/task.multi"

#: What tells whoever watches the server that it was enough.
ENOUGH = "enough"

#: Of a job that succeeds.
KINDS = ["task-received", "task-started", "task-succeeded"]

JOBS = 60


@contextlib.contextmanager
def published(fleet: Fleet) -> Iterator[list[list[dict[str, Any]]]]:
    """Collect the groups of events that the server is asked to publish in the block, heard or not."""
    groups: list[list[dict[str, Any]]] = []
    with Redis.from_url(fleet.url, decode_responses=True) as redis, redis.monitor() as monitor:
        thread = threading.Thread(target=_collect, args=(monitor, groups), daemon=True)
        thread.start()
        try:
            yield groups
        finally:
            fleet.redis.echo(ENOUGH)
            thread.join(SOON_S)


def _collect(monitor: Any, groups: list[list[dict[str, Any]]]) -> None:
    for seen in monitor.listen():
        name, _, rest = seen["command"].partition(" ")
        topic, _, message = rest.partition(" ")
        if (name, topic) == ("ECHO", ENOUGH):
            return
        if (name, topic) == ("PUBLISH", TOPIC):
            groups.append(json.loads(base64.b64decode(json.loads(message)["body"])))


def kinds_by_job(jobs: list[AsyncResult], events: list[dict[str, Any]]) -> list[list[str]]:
    """List the kinds of the events of each job, in their order."""
    kinds: dict[str, list[str]] = {job.id: [] for job in jobs}
    for event in list(events):
        if event.get("uuid") in kinds:
            kinds[event["uuid"]].append(event["type"])
    return list(kinds.values())


def test_who_listens_has_every_event_of_every_job(fleet: Fleet) -> None:
    """Given a receiver of Celery's that was there first, then of each of many jobs all three events come, in order."""
    with fleet.events() as events:
        jobs = [fleet.detect() for _ in range(JOBS)]
        assert [faces(job.get(timeout=30)) for job in jobs] == [1] * JOBS
        eventually(lambda: sum(map(len, kinds_by_job(jobs, events))) >= 3 * JOBS, "the events")
        assert kinds_by_job(jobs, events) == [KINDS] * JOBS


def test_while_nobody_listens_hardly_any_event_is_published(fleet: Fleet) -> None:
    """Given no receiver, then many jobs have their answers, and of their events only a few are published."""
    eventually(lambda: fleet.redis.publish(TOPIC, "{}") == 0, "the end of another test's receiver")
    with published(fleet) as groups:
        jobs = [fleet.detect() for _ in range(JOBS)]
        assert [faces(job.get(timeout=30)) for job in jobs] == [1] * JOBS
        later: list[AsyncResult] = []

        def is_past() -> bool:  # events go in their order, so once one of a later job is seen, theirs are past
            later.append(fleet.detect())
            later[-1].get(timeout=30)
            return any(kinds_by_job(later, list(itertools.chain(*groups))))

        eventually(is_past, "an event of a later job")
    events = list(itertools.chain(*groups))
    assert sum(map(len, kinds_by_job(jobs, events))) < JOBS, "of three for each"
