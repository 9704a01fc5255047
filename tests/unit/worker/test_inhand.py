"""Jobs in hand: each has one place, which goes back once."""

import pytest
from kombu.asynchronous.semaphore import LaxBoundedSemaphore

from worker.inhand import InHand
from worker.jobs import Job


def job(pid: int, queue: str = "detect.faces") -> Job:
    """Make a job of a queue."""
    return Job(pid, print, ("fleet.detect", f"id{pid}", {"delivery_info": {"routing_key": queue}}), None)


@pytest.fixture
def places() -> LaxBoundedSemaphore:
    """Give a semaphore with three places, of which none is free."""
    made = LaxBoundedSemaphore(3)
    for _ in range(3):
        made.acquire(print)
    return made


def test_a_place_goes_back_once_and_only_when_it_is_given(places: LaxBoundedSemaphore) -> None:
    """Given three jobs, when one is let go of twice, then one place is free, and not before places are given."""
    in_hand = InHand({"semaphore": places})
    jobs = [job(1), job(2), job(3, "detect.cars")]
    for one in jobs:
        in_hand.take(one)
    assert (len(in_hand), in_hand.of("detect.faces"), in_hand.is_mixed) == (3, 2, True)

    assert in_hand.let_go(jobs[2])
    assert not in_hand.let_go(jobs[2])
    assert places.value == 0
    in_hand.give_places()

    assert places.value == 1
    assert (list(in_hand), in_hand.is_mixed, in_hand.get(3)) == (jobs[:2], False, None)


def test_who_gets_a_place_may_end_at_once(places: LaxBoundedSemaphore) -> None:
    """Given a job that waits, when it gets a place and is let go of in the same breath, then that place is free too."""
    in_hand = InHand({"semaphore": places})
    first, second = job(1), job(2)
    in_hand.take(first)

    def begin() -> None:
        in_hand.take(second)
        in_hand.let_go(second)

    places.acquire(begin)
    in_hand.let_go(first)
    in_hand.give_places()

    assert (len(in_hand), places.value) == (0, 1)


def test_jobs_keep_their_places_when_celery_has_freed_all(places: LaxBoundedSemaphore) -> None:
    """Given two jobs of which one has ended, when all places were freed, then the other has one and no more go back."""
    in_hand = InHand({"semaphore": places})
    ended, under_way = job(1), job(2)
    in_hand.take(ended)
    in_hand.take(under_way)
    in_hand.let_go(ended)

    places.clear()
    in_hand.take_places_again()
    in_hand.give_places()

    assert places.value == 2


def test_a_pool_without_places_has_jobs() -> None:
    """Given a pool without an event loop, and so without a semaphore, then jobs come and go."""
    in_hand = InHand({})
    in_hand.take(job(1))
    in_hand.take_places_again()
    assert in_hand.let_go(job(1))
    in_hand.give_places()
    assert len(in_hand) == 0
