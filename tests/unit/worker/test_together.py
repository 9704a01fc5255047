"""Jobs whose bodies one thread runs after each other: what befalls one of them is no other's affair."""

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from tests.waiting import eventually
from worker.bodies import Finishers, Interrupted
from worker.ending import Remains
from worker.jobs import Job
from worker.pool import DetectionPool
from worker.request import Outcome, Stage, current_stage

#: What Celery's tracer returns of a success: failed, value, runtime.
FINE = (0, "fine", 0.1)


class Backend:
    """Stands in for the result backend: refuses some jobs, or fails."""

    def __init__(self) -> None:
        self.stored: list[list[str]] = []
        self.refuses: dict[str, Exception] = {}
        self.fails: Exception | None = None

    def store_together(self, outcomes: list[Outcome], is_wanted: Callable[[str], bool]) -> dict[str, Exception]:
        """Note who came together."""
        if self.fails:
            raise self.fails
        self.stored.append([one.stage.job_id for one in outcomes if is_wanted(one.stage.job_id)])
        return self.refuses


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
def pool(backend: Backend) -> Iterator[DetectionPool]:
    """Give a pool of eight places, all taken, that waits for jobs to end together."""
    made = DetectionPool(8, app=SimpleNamespace(backend=backend))
    made._finishers = Finishers(1)
    made._looks_soon = True
    yield made
    made._bell.close()


def add(pool: DetectionPool, name: str, act: Callable[[Job], Any] = lambda _: FINE) -> Job:
    """Put a job into the pool whose tracer does ``act`` and keeps its outcome back."""

    def trace(*_: Any) -> Any:
        stage = current_stage(name)
        if stage is not None and stage.together is not None:
            stage.together.append(Outcome(stage, Remains(), ()))
        return act(job)

    job = Job(len(pool._jobs) + 1, trace, ("task", name, {}), SimpleNamespace(brief=True))
    job.stage = Stage(name, None, Future())
    pool._jobs[job.pid] = job
    return job


def ends(pool: DetectionPool, count: int) -> dict[str, Any]:
    """Wait for so many ends; return what each job returned, or what Celery is told instead."""
    eventually(lambda: pool._done.qsize() == count, "the ends")
    found = [pool._done.get() for _ in range(count)]
    return {end.job.args[1]: end.returned or _name_of(end.problem.exception) for end in found}


def _name_of(error: Any) -> str:
    return type(getattr(error, "exc", error)).__name__  # without billiard's wrapper


def test_two_of_eight_wait_for_each_other_and_are_stored_together(pool: DetectionPool, backend: Backend) -> None:
    """Given a full pool of eight, then one that ends waits, and a second one sets both going."""
    first, second = add(pool, "first"), add(pool, "second")
    pool._enter_body(first)
    assert pool._ended.qsize() == 1
    pool._enter_body(second)
    assert ends(pool, 2) == {"first": FINE, "second": FINE}
    assert backend.stored == [["first", "second"]]


def test_one_that_nobody_joins_is_finished_by_itself(pool: DetectionPool, backend: Backend) -> None:
    """Given one that waits, when the wait is over, then it stores its outcome itself."""
    pool._enter_body(add(pool, "alone"))
    pool._wait_no_more()
    assert ends(pool, 1) == {"alone": FINE}
    assert backend.stored == []
    pool._enter_body(add(pool, "next"))  # there is no look to come, so it does not wait
    assert ends(pool, 1) == {"next": FINE}


def test_one_that_fails_is_told_apart(pool: DetectionPool, backend: Backend) -> None:
    """Given a tracer that raises, then that is what its job ends with; the other's outcome is stored."""

    def breaks(_: Job) -> None:
        raise ZeroDivisionError

    for job in (add(pool, "breaks", breaks), add(pool, "fine")):
        pool._enter_body(job)
    assert ends(pool, 2) == {"breaks": "ZeroDivisionError", "fine": FINE}


def test_one_that_is_given_up_leaves_the_others_to_another_thread(pool: DetectionPool, backend: Backend) -> None:
    """Given a job that is given up in the middle, then what came before is stored, and what comes after is run."""
    threads: dict[str, int] = {}

    def gives_up(job: Job) -> None:
        pool._forget(job)
        assert pool._finishers is not None
        pool._finishers.add()
        threading.Thread(target=job.body.give_up, args=(Interrupted,)).start()
        eventually(lambda: False)

    def notes(job: Job) -> Any:
        threads[job.args[1]] = threading.get_ident()
        return FINE

    jobs = [add(pool, "before", notes), add(pool, "given up", gives_up), add(pool, "after", notes)]
    for job in jobs[:2]:
        pool._ended.put(job)
    pool._enter_body(jobs[2])
    assert ends(pool, 2) == {"before": FINE, "after": FINE}
    assert threads["before"] != threads["after"]
    assert backend.stored == [["before"]], "of the other, what Celery stored when it was given up stands"


@pytest.mark.parametrize(
    ("why", "told"), [(ResponseError("wrong type"), "ResponseError"), (RedisConnectionError(), "Reject")]
)
def test_one_that_cannot_be_stored_is_told_apart(
    pool: DetectionPool, backend: Backend, why: Exception, told: str
) -> None:
    """Given a refusal for good, then the job ends with it; given no connection, then its message goes back."""
    backend.refuses = {"refused": why}
    for job in (add(pool, "refused"), add(pool, "fine")):
        pool._enter_body(job)
    assert ends(pool, 2) == {"refused": told, "fine": FINE}


def test_none_is_lost_when_storing_fails(pool: DetectionPool, backend: Backend) -> None:
    """Given a backend that fails as nobody foresaw, then both jobs end with that."""
    backend.fails = ZeroDivisionError()
    for job in (add(pool, "one"), add(pool, "two")):
        pool._enter_body(job)
    assert ends(pool, 2) == {"one": "ZeroDivisionError", "two": "ZeroDivisionError"}


def test_one_whose_body_may_take_long_holds_up_nobody(pool: DetectionPool, backend: Backend) -> None:
    """Given a task that does not say that its body is brief, then it neither waits for others nor lets them wait."""
    slow = add(pool, "slow")
    slow.task.brief = False
    pool._enter_body(slow)
    assert ends(pool, 1) == {"slow": FINE}
    assert backend.stored == []


def test_nothing_of_a_job_is_left_in_a_ring(pool: DetectionPool) -> None:
    """Given two that were stored together, when the pool has let go of them, then their stages are gone at once."""
    gc.collect()
    gc.disable()
    try:
        jobs = [add(pool, "one"), add(pool, "two")]
        stages = [weakref.ref(job.stage.future) for job in jobs if job.stage and job.stage.future]
        for job in jobs:
            pool._enter_body(job)
        ends(pool, 2)
        for job in jobs:
            job.stage = None
        eventually(lambda: [stage() for stage in stages] == [None, None], "their end", 5)
    finally:
        gc.enable()
