"""What an ended job held is free at once, without Python's collector: a few refused images fill a worker otherwise."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from celery.result import AsyncResult

from producer.errors import FleetError
from tests.hostile.conftest import Victim
from tests.integration.kit import QUEUE
from tests.waiting import eventually

#: What is there while a job asks.
ASKING = Counter({"Request": 1, "Job": 1, "Message": 2})

KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "good": (None, {}),
    "in tiles": (None, {"tile": 64, "min_score": 0}),
    "no image there": ({"ref": "fleet:blob:none"}, {}),
    "not an image": ({"data": "QUJD"}, {}),
    "not base64": ({"data": "?"}, {}),
    "too large": ({"data": "A" * 400_000}, {}),
    "no image at all": (5, {}),
    "a wrong option": (None, {"min_score": "high"}),
    "an unknown model": (None, {"model": "none"}),
}


def collected(victim: Victim, *, rest: bool) -> tuple[dict[str, int], dict[str, int]]:
    freed, used = victim.fleet.app.send_task("spy.collect", kwargs={"rest": rest}, queue=QUEUE).get(timeout=30)
    return freed, used


@pytest.fixture
def resting(victim: Victim) -> Iterator[Victim]:
    """Give a worker whose collector rests."""
    victim.assert_well()  # what is made once is made
    collected(victim, rest=True)
    yield victim
    collected(victim, rest=False)


def outcome(job: AsyncResult) -> object:
    try:
        return job.get(timeout=30)
    except FleetError as error:
        return error


def assert_nothing_is_left(victim: Victim) -> None:
    """Nothing is garbage, and in use are the asking job and, by Celery's consumer, the message before its own."""
    freed, used = collected(victim, rest=True)
    assert freed == {}
    eventually(lambda: Counter(collected(victim, rest=True)[1]) <= ASKING, f"that only {ASKING} is used, not {used}")


@pytest.mark.parametrize("kind", KINDS)
def test_an_ended_job_leaves_nothing_to_the_collector(resting: Victim, kind: str) -> None:
    """Given six jobs of a kind, good or refused, then with their outcomes all is free that was theirs."""
    image, options = KINDS[kind]
    jobs = [resting.fleet.detect(image, options=options) for _ in range(6)]
    assert len({type(outcome(job)) for job in jobs}) == 1
    resting.settle()
    assert_nothing_is_left(resting)


def test_a_batch_leaves_nothing_to_the_collector(resting: Victim) -> None:
    """Given images good and bad in one message, then they are free with its outcome."""
    fleet = resting.fleet
    images = [fleet.image, {"ref": "fleet:blob:none"}, {"data": "QUJD"}]
    jobs = [fleet.app.send_task("fleet.detect_many", [images], queue=QUEUE) for _ in range(4)]
    for job in jobs:
        good, missing, bad = job.get(timeout=30)
        assert ("error" in good, missing["error"]["code"], bad["error"]["code"]) == (
            False,
            "payload_missing",
            "invalid_image",
        )
    resting.settle()
    assert_nothing_is_left(resting)


def test_a_job_given_up_leaves_nothing_to_the_collector(resting: Victim) -> None:
    """Given jobs in tiles that are revoked, begun or not, then they are free as well."""
    jobs = [resting.fleet.detect(options={"tile": 64, "min_score": 0}) for _ in range(8)]
    for job in jobs:
        job.revoke(terminate=True)
    resting.settle()
    assert {job.state for job in jobs} & {"REVOKED"}
    assert_nothing_is_left(resting)
