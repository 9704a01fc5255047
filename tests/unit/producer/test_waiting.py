"""The table of outstanding jobs."""

import time
from concurrent.futures import Future
from typing import Any

from producer import DeadlineExceeded, InternalError
from producer.results import GRACE_S
from producer.waiting import Waiting


def make() -> "Waiting[Future[Any]]":
    """Make an empty table of client 'c'."""
    return Waiting("c", Future)


def test_a_promise_is_kept_once() -> None:
    """Given a job, when two outcomes come, then the first counts."""
    waiting = make()
    promise = waiting.add("c-1", None)
    first = InternalError("first")
    assert waiting.settle("c-1", first)
    assert not waiting.settle("c-1", InternalError("second"))
    assert promise.result() is first
    assert len(waiting) == 0


def test_two_who_wait_for_one_job_share_its_promise() -> None:
    """Given a job that is waited for, when it is added again, then the same promise."""
    waiting = make()
    assert waiting.add("c-1", None) is waiting.add("c-1", 0)


def test_jobs_become_overdue_in_order_and_once() -> None:
    """Given jobs with deadlines, then each is reported once, after its deadline and the grace."""
    waiting = make()
    now = time.time()
    for second in (3, 1, 2):
        waiting.add(f"c-{second}", now + second)
    waiting.settle("c-2", InternalError())
    assert waiting.take_overdue(time.monotonic() + GRACE_S) == []
    assert waiting.take_overdue(time.monotonic() + GRACE_S + 10) == ["c-1", "c-3"]
    assert waiting.take_overdue(time.monotonic() + GRACE_S + 10) == []


def test_giving_up_is_a_missed_deadline() -> None:
    """Given an overdue job, when it is given up, then DeadlineExceeded."""
    waiting = make()
    promise = waiting.add("c-1", 0)
    waiting.give_up(["c-1"])
    assert isinstance(promise.result(), DeadlineExceeded)


def test_a_long_life_leaves_nothing_behind() -> None:
    """Given 20,000 jobs that came and went, then the clock holds no more than the open ones and a thousand."""
    waiting = make()
    keep = waiting.add("c-keep", time.time() + 5)
    for number in range(20_000):
        waiting.add(f"c-{number}", time.time() + 600)
        waiting.settle(f"c-{number}", InternalError())
    assert len(waiting._by_time) <= 1002
    assert waiting.take_overdue(time.monotonic() + 10) == ["c-keep"]
    assert not keep.done()


def test_foreign_jobs_are_joined_and_left() -> None:
    """Given a job of another client, then its channel is joined once and left when it ends; an own one needs none."""
    waiting = make()
    waiting.add("c-own", None)
    waiting.add("other", None)
    assert waiting.take_moves() == (["other"], [])
    assert waiting.foreign_ids() == ["other"]
    waiting.settle("other", InternalError())
    assert waiting.take_moves() == ([], ["other"])
