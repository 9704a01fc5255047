"""Places of a worker that is full: an end is told, and its place given away, though nothing else may ever end."""

from typing import Any

from producer.wire import JOBS_KEY, ledger_key
from tests.integration.kit import QUEUE, USER_TASKS, Fleet, faces
from tests.waiting import eventually

#: So many that ends wait for each other.
PLACES = 8
WORKER: dict[str, Any] = {"extra": [*USER_TASKS, "-c", str(PLACES)]}


def test_a_single_end_among_jobs_that_go_on_is_told(fleet: Fleet) -> None:
    """Given all places taken and a job that waits, when one ends and no other does, then the job has its place."""
    gates = [fleet.gate().entered() for _ in range(PLACES)]
    for _ in range(3):
        waits = fleet.gate()
        eventually(lambda: fleet.inspect("reserved"), "the reservation")
        gates.pop().open()
        gates.append(waits.entered())
    for gate in gates:
        gate.open()
    assert [gate.job.get(timeout=30) for gate in gates] == ["through"] * PLACES
    eventually(lambda: not fleet.unacked() and not fleet.queued("fleet"), "the acknowledgements")


def test_many_short_jobs_pass_through_the_one_place_that_is_left(fleet: Fleet) -> None:
    """Given all places but one taken for long, then short jobs follow each other through it."""
    gates = [fleet.gate().entered() for _ in range(PLACES - 1)]
    jobs = [fleet.user("echo", number) for number in range(40)]
    assert [job.get(timeout=30) for job in jobs] == [[number] for number in range(40)]
    for gate in gates:
        gate.open()
    eventually(lambda: not fleet.unacked(), "the acknowledgements")


def test_an_inference_that_ends_alone_in_a_full_worker_is_answered(fleet: Fleet) -> None:
    """Given all places but one taken for long, then each image in the last one has its answer."""
    gates = [fleet.gate().entered() for _ in range(PLACES - 1)]
    jobs = [fleet.detect() for _ in range(10)]
    assert [faces(job.get(timeout=30)) for job in jobs] == [1] * 10
    for gate in gates:
        gate.open()
    eventually(lambda: not fleet.unacked(), "the acknowledgements")


def test_inferences_that_end_together_are_answered_once_each(fleet: Fleet) -> None:
    """Given many more images than places, some bad, then each has one outcome, and nothing is left of any."""
    jobs = [fleet.detect(fleet.image if number % 5 else {"data": "AAAA"}) for number in range(200)]
    eventually(lambda: all(job.ready() for job in jobs), "every answer", 60)
    assert [job.state for job in jobs] == [("SUCCESS" if number % 5 else "FAILURE") for number in range(200)]
    eventually(lambda: not fleet.unacked() and not fleet.queued(), "the acknowledgements")
    assert not fleet.redis.exists(JOBS_KEY, ledger_key(QUEUE))
    assert not fleet.redis.keys("fleet:begun:*")
