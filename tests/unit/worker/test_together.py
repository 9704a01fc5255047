"""Jobs whose bodies one thread runs after each other: what befalls one of them is no other's affair."""

import gc
import itertools
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from kombu.asynchronous import Hub
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from tests.waiting import eventually
from worker.bodies import Interrupted
from worker.ending import JobEnd, Remains
from worker.finishing import Finishing
from worker.jobs import End, Job
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


class Places:
    """Stands in for the pool: eight places, all taken, and one finisher, so jobs that have ended wait for each other.

    The loop turns when a test turns it.
    """

    def __init__(self, backend: Backend) -> None:
        self.jobs: dict[int, Job] = {}
        self.hub = Hub()
        self._pids = itertools.count(1)
        self._ends: list[End] = []
        self.taken: dict[str, int] = {}
        self.finishing = Finishing(
            lambda job: self.taken.get(job.args[1], 8), is_wanted=self._holds, tell=self._note, backend=lambda: backend
        )
        self.finishing.start(1)
        self.finishing.let_wait(self.hub)

    def _holds(self, job: Job) -> bool:
        return job.pid in self.jobs

    def _note(self, ends: Sequence[End]) -> None:
        self._ends += ends

    def add(self, name: str, act: Callable[[Job], Any] = lambda _: FINE) -> Job:
        """Put a job into a place, whose tracer keeps its outcome back and then does ``act``."""

        def trace(*_: Any) -> Any:
            stage = current_stage(name)
            if stage is not None and stage.together is not None:
                stage.together.append(Outcome(stage, JobEnd(name, Remains())))
            return act(job)

        job = Job(next(self._pids), trace, ("task", name, {}), SimpleNamespace(brief=True))
        job.stage = Stage(name, None, Future())
        self.jobs[job.pid] = job
        return job

    def ends(self, count: int) -> dict[str, Any]:
        """Wait for so many ends; return what each job returned, or what Celery is told instead."""
        eventually(lambda: len(self._ends) == count, "the ends")
        found, self._ends = self._ends, []
        return {end.job.args[1]: end.returned or _name_of(end.problem.exception) for end in found}


def _name_of(error: Any) -> str:
    return type(getattr(error, "exc", error)).__name__  # without billiard's wrapper


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
def places(backend: Backend) -> Places:
    return Places(backend)


@pytest.fixture
def finishing(places: Places) -> Finishing:
    return places.finishing


def test_two_of_eight_wait_for_each_other_and_are_stored_together(
    places: Places, finishing: Finishing, backend: Backend
) -> None:
    """Given eight places taken, then one that ends waits, and a second one sets both going."""
    first, second = places.add("first"), places.add("second")
    finishing.take(first)
    assert finishing._ended.qsize() == 1
    finishing.take(second)
    assert places.ends(2) == {"first": FINE, "second": FINE}
    assert backend.stored == [["first", "second"]]


def test_one_of_a_queue_with_few_places_waits_for_few(places: Places, finishing: Finishing) -> None:
    """Given a queue whose jobs have three of the places, then one that ends does not wait for other queues' jobs."""
    places.taken["fast"] = 3
    finishing.take(places.add("fast"))
    assert places.ends(1) == {"fast": FINE}


def test_one_that_nobody_joins_is_finished_by_itself(places: Places, finishing: Finishing, backend: Backend) -> None:
    """Given one that waits, when the wait is over, then it stores its outcome itself."""
    finishing.take(places.add("alone"))
    finishing.wait_no_more()
    assert places.ends(1) == {"alone": FINE}
    assert backend.stored == []
    finishing.take(places.add("next"))  # there is no look to come, so it does not wait
    assert places.ends(1) == {"next": FINE}


def test_one_that_waits_is_found_by_the_look_that_is_to_come(places: Places, finishing: Finishing) -> None:
    """Given one that waits, when the loop turns and nothing else happens, then it is finished."""
    finishing.take(places.add("waits"))

    def looked() -> bool:
        places.hub.fire_timers()
        return finishing._ended.empty()

    eventually(looked, "the look")
    assert places.ends(1) == {"waits": FINE}


def test_one_that_fails_is_told_apart(places: Places, finishing: Finishing) -> None:
    """Given a tracer that raises, then that is what its job ends with; the other's outcome is stored."""

    def breaks(_: Job) -> None:
        raise ZeroDivisionError

    for job in (places.add("breaks", breaks), places.add("fine")):
        finishing.take(job)
    assert places.ends(2) == {"breaks": "ZeroDivisionError", "fine": FINE}


def test_one_that_is_given_up_leaves_the_others_to_another_thread(
    places: Places, finishing: Finishing, backend: Backend
) -> None:
    """Given a job that is given up in the middle, then what came before is stored, and what comes after is run."""
    threads: dict[str, int] = {}

    def gives_up(job: Job) -> None:
        del places.jobs[job.pid]
        finishing.replace_one()
        threading.Thread(target=job.body.give_up, args=(Interrupted,)).start()
        eventually(lambda: False)

    def notes(job: Job) -> Any:
        threads[job.args[1]] = threading.get_ident()
        return FINE

    jobs = [places.add("before", notes), places.add("given up", gives_up), places.add("after", notes)]
    for job in jobs[:2]:
        finishing._ended.put(job)
    finishing.take(jobs[2])
    assert places.ends(2) == {"before": FINE, "after": FINE}
    assert threads["before"] != threads["after"]
    assert backend.stored == [["before"]], "of the other, what Celery stored when it was given up stands"


@pytest.mark.parametrize("given_up", [0, 1])
def test_of_a_job_that_is_here_twice_the_outcome_of_either_is_stored(
    places: Places, finishing: Finishing, backend: Backend, given_up: int
) -> None:
    """Given a job that was delivered twice, when one of the two is given up meanwhile, then the other's is stored."""

    def frees_a_place(_: Job) -> Any:
        places.jobs.pop(jobs[given_up].pid, None)
        return FINE

    jobs = [places.add("twice", frees_a_place) for _ in range(2)]
    for job in jobs:
        finishing.take(job)
    stored = eventually(lambda: backend.stored, "the storing")
    assert set(stored[0]) == {"twice"}


@pytest.mark.parametrize(
    ("why", "told"), [(ResponseError("wrong type"), "ResponseError"), (RedisConnectionError(), "Reject")]
)
def test_one_that_cannot_be_stored_is_told_apart(
    places: Places, finishing: Finishing, backend: Backend, why: Exception, told: str
) -> None:
    """Given a refusal for good, then the job ends with it; given no connection, then its message goes back."""
    backend.refuses = {"refused": why}
    for job in (places.add("refused"), places.add("fine")):
        finishing.take(job)
    assert places.ends(2) == {"refused": told, "fine": FINE}


def test_none_is_lost_when_storing_fails(places: Places, finishing: Finishing, backend: Backend) -> None:
    """Given a backend that fails as nobody foresaw, then both jobs end with that."""
    backend.fails = ZeroDivisionError()
    for job in (places.add("one"), places.add("two")):
        finishing.take(job)
    assert places.ends(2) == {"one": "ZeroDivisionError", "two": "ZeroDivisionError"}


def test_one_whose_body_may_take_long_holds_up_nobody(places: Places, finishing: Finishing, backend: Backend) -> None:
    """Given a task that does not say that its body is brief, then it neither waits for others nor lets them wait."""
    slow = places.add("slow")
    slow.task.brief = False
    finishing.take(slow)
    assert places.ends(1) == {"slow": FINE}
    assert backend.stored == []


def test_nothing_of_a_job_is_left_in_a_ring(places: Places, finishing: Finishing) -> None:
    """Given two that were stored together, when the pool has let go of them, then their stages are gone at once."""
    gc.collect()
    gc.disable()
    try:
        jobs = [places.add("one"), places.add("two")]
        stages = [weakref.ref(job.stage.future) for job in jobs if job.stage and job.stage.future]
        for job in jobs:
            finishing.take(job)
        places.ends(2)
        for job in jobs:
            job.stage = None
        eventually(lambda: [stage() for stage in stages] == [None, None], "their end", 5)
    finally:
        gc.enable()
