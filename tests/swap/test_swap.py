"""A version takes over while jobs are sent: none is lost, and each is answered by the version that it names."""

import json
import shutil
import signal
from collections import Counter

import pytest
from redis import Redis

from producer import Client
from tests.swap.conftest import Marks
from tests.swap.load import swap_under_load
from tests.swap.versions import NAME, picture
from tests.waiting import eventually
from worker.rollout import RolloutError
from worker.versions import LOCK_PREFIX, VERSIONS_KEY


def test_under_load_every_job_is_answered_by_the_version_that_it_names(marks: Marks) -> None:
    """Given clients that send all the time, when versions change every two seconds, then every image is answered."""
    marks.start()

    swaps, versions, sent = swap_under_load(marks, seconds=10.0, every_s=2.0)

    assert swaps >= 2
    assert versions.total() == sent
    assert set(versions) == {1, 2}


def test_a_swap_is_seen_in_results_and_a_worker_that_comes_later_serves_the_same(marks: Marks) -> None:
    """Given a swap, then jobs get the new version from the worker that was there, and from one that comes later."""
    first = marks.start()
    assert marks.number_of(marks.ask(80), 80) == 1

    (said,) = marks.swap(2)

    assert said.done
    assert marks.digests[2] in said.sentence
    assert marks.number_of(marks.ask(80), 80) == 2
    first.stop()
    second = marks.start()
    assert marks.shares(second) == {2: 1.0}
    assert marks.number_of(marks.ask(80), 80) == 2
    assert all(one.done for one in marks.swap(1))
    assert marks.number_of(marks.ask(80), 80) == 1


def test_one_worker_that_cannot_keeps_all_at_the_old_version(marks: Marks) -> None:
    """Given a worker whose store lacks the version, then nobody changes, and the operator is told who and why."""
    able = marks.start()
    shutil.copytree(marks.store / NAME, marks.folder / "elsewhere" / NAME)
    unable = marks.start(model_store=marks.folder / "elsewhere")

    with pytest.raises(RolloutError) as told:
        marks.swap(2)

    assert f"{unable.name}: There is no version 'marks@2'" in str(told.value)
    assert f"{able.name}: marks@2 ready" in str(told.value)
    assert marks.shares(able) == marks.shares(unable) == {1: 1.0}
    assert marks.number_of(marks.ask(), 100) == 1


def test_a_worker_that_heard_no_command_follows(marks: Marks) -> None:
    """Given a worker that stood still while the others changed, when it goes on, then it changes as well."""
    deaf, other = marks.start(), marks.start()
    deaf.signal(signal.SIGSTOP)
    eventually(lambda: set(marks.served()) == {other.name}, "only one worker that lives", 60)
    assert [one.worker for one in marks.swap(2)] == [other.name]
    deaf.signal(signal.SIGCONT)

    eventually(lambda: marks.served().get(deaf.name) and marks.shares(deaf) == {2: 1.0}, "the change", 60)


def test_a_canary_gets_its_share_and_a_job_that_comes_again_gets_the_same_version(marks: Marks, redis: Redis) -> None:
    """Given a canary for a quarter, then about a quarter of the jobs go to it, and all who ask are told so."""
    worker = marks.start()
    assert all(one.done for one in marks.swap(2, share=0.25))

    with Client(marks.url, model=NAME) as client:
        jobs = [client.submit(picture(60)) for _ in range(200)]
        got = Counter(marks.number_of(job.result(60), 60) for job in jobs)

    assert 20 <= got[2] <= 85
    assert got[1] + got[2] == 200
    assert marks.shares(worker) == {1: 0.75, 2: 0.25}
    assert json.loads(redis.hget(VERSIONS_KEY, NAME))["canary"]["share"] == 0.25
    told = eventually(lambda: json.loads(redis.hget("fleet:models", NAME))["versions"][1:], "the announcement")
    assert told == [{"version": 2, "digest": marks.digests[2], "share": 0.25}]


def test_a_canary_ends_or_takes_over(marks: Marks) -> None:
    """Given a canary, when its share is made 0, it gets nothing; when it is swapped in, it gets all, also later."""
    worker = marks.start()
    marks.swap(2, share=0.5)
    marks.swap(2, share=0)
    assert marks.shares(worker) == {1: 1.0}
    assert {marks.number_of(marks.ask(red), red) for red in range(20, 36)} == {1}

    marks.swap(3, share=0.5)
    later = marks.start()
    eventually(lambda: marks.shares(later) == {1: 0.5, 3: 0.5}, "the canary in a worker that came later")
    marks.swap(3)

    assert marks.shares(worker) == marks.shares(later) == {3: 1.0}
    assert {marks.number_of(marks.ask(red), red) for red in range(20, 36)} == {3}


def test_a_batch_is_of_one_version_and_each_of_its_images_says_which(marks: Marks) -> None:
    """Given a canary for half of the jobs, then every image of a batch is made by the version that it names."""
    marks.start()
    marks.swap(2, share=0.5)
    reds = list(range(10, 250, 5))
    seen = set()
    with Client(marks.url, model=NAME) as client:
        for _ in range(4):
            answers = list(client.map([picture(red) for red in reds], batch=8))
            numbers = [marks.number_of(answer.result, red) for answer, red in zip(answers, reds, strict=True)]
            batches = [set(numbers[at : at + 8]) for at in range(0, len(numbers), 8)]
            assert all(len(batch) == 1 for batch in batches)
            seen |= set(numbers)
    assert seen == {1, 2}


def test_two_operators_at_once_are_told_apart(marks: Marks, redis: Redis) -> None:
    """Given a change under way, when another begins, then it is refused with the name of who is at it."""
    worker = marks.start()
    redis.set(LOCK_PREFIX + NAME, "elsewhere:7", ex=60)

    with pytest.raises(RolloutError, match="marks is being changed by elsewhere:7; one change at a time"):
        marks.swap(2)

    assert marks.shares(worker) == {1: 1.0}


def test_two_commands_at_once_are_one_and_a_refusal(marks: Marks) -> None:
    """Given a worker that prepares a version, when it is told another, then it says what it is at."""
    worker = marks.start()
    marks.add(70, work=60)
    (first,) = marks.order("swap_model", worker, version="marks@4", order="first")
    (second,) = marks.order("swap_model", worker, version="marks@3", order="second")

    assert "ok" in first
    assert second == {"error": "marks@4 is being prepared; one change at a time."}
    assert marks.outcome("first")["state"] == "serving"


def test_when_redis_has_lost_the_record_it_is_written_again(marks: Marks, redis: Redis) -> None:
    """Given a worker that swapped, when the record is gone, then the worker writes it, for those who come later."""
    marks.start()
    marks.swap(2)
    before = redis.hget(VERSIONS_KEY, NAME)
    redis.delete(VERSIONS_KEY)

    assert eventually(lambda: redis.hget(VERSIONS_KEY, NAME), "the record") == before
