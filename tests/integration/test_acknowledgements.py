"""When a message leaves Redis for good: late, early, on failure, and in the unusual ends of a task."""

from typing import Any

import pytest

from tests.integration.kit import USER_TASKS, Fleet, faces
from tests.waiting import eventually

WORKER: dict[str, Any] = {"extra": [*USER_TASKS, "-c", "2", "--prefetch-multiplier", "1"]}


def settled(fleet: Fleet) -> bool:
    """Whether no message is anywhere."""
    return not fleet.unacked() and not fleet.queued() and not fleet.queued("fleet")


def test_a_job_stays_unacknowledged_until_its_result_is_stored(fleet: Fleet) -> None:
    """Given a task in its body, then its message is kept; once it is answered, the message is gone."""
    gate = fleet.gate().entered()
    assert fleet.unacked() == 1
    gate.open()
    gate.job.get(timeout=30)
    eventually(lambda: settled(fleet), "the acknowledgement")


def test_a_detection_stays_unacknowledged_while_it_runs(fleet: Fleet) -> None:
    """Given a job in its stage, then its message is kept."""
    job = fleet.user("hang", False, soft_time_limit=0.5)
    eventually(lambda: fleet.records("begun", job), "the stage")
    assert fleet.unacked() == 1
    job.get(timeout=30, propagate=False)
    eventually(lambda: settled(fleet), "the acknowledgement")


def test_a_task_with_early_acknowledgement_gives_its_message_up_before_it_runs(fleet: Fleet) -> None:
    """Given acks_late=False, then the message is gone while the body still runs."""
    job = fleet.user("early_gate", "early")
    fleet.redis.blpop(["entered:early"], timeout=30)
    eventually(lambda: settled(fleet), "the acknowledgement")
    assert not job.ready()
    fleet.redis.rpush("go:early", "go")
    assert job.get(timeout=30) == "through"


def test_acknowledgements_do_not_wait_for_the_next_job(fleet: Fleet) -> None:
    """Given as many jobs at hand as there are places, then twenty come one after the other without a pause."""
    jobs = [fleet.detect() for _ in range(20)]
    assert [faces(job.get(timeout=8)) for job in jobs] == [1] * 20


def test_a_failed_task_is_acknowledged(fleet: Fleet) -> None:
    """Given a task that raises, then its caller gets the error and the message is gone."""
    error = fleet.user("fail", "no").get(timeout=30, propagate=False)
    assert repr(error) == "ValueError('no')"
    eventually(lambda: settled(fleet), "the acknowledgement")


def test_a_task_that_wants_no_acknowledgement_on_failure_is_dropped(fleet: Fleet) -> None:
    """Given acks_on_failure_or_timeout=False, then the message is rejected, and runs once."""
    job = fleet.user("fail_unacknowledged")
    assert repr(job.get(timeout=30, propagate=False)) == "ValueError('dropped')"
    eventually(lambda: settled(fleet), "the rejection")
    assert fleet.records("ran", job) == [""]


def test_reject_with_requeue_runs_the_job_again(fleet: Fleet) -> None:
    """Given Reject(requeue=True), then the job comes back and is answered."""
    job = fleet.user("reject", True)
    assert job.get(timeout=30) == "second time"
    eventually(lambda: settled(fleet), "the acknowledgement")


def test_reject_without_requeue_ends_the_job(fleet: Fleet) -> None:
    """Given Reject(requeue=False), then the job fails and never comes back."""
    job = fleet.user("reject", False)
    eventually(lambda: job.state == "FAILURE", "the failure")
    eventually(lambda: settled(fleet), "the rejection")
    assert fleet.records("ran", job) == [""]


def test_ignore_is_acknowledged_and_stores_nothing(fleet: Fleet) -> None:
    """Given Ignore, then the message is gone and the job has no state."""
    job = fleet.user("ignore")
    eventually(lambda: fleet.records("ran", job), "the task")
    eventually(lambda: settled(fleet), "the acknowledgement")
    assert job.state == "PENDING"


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("exit", "WorkerLostError"),
        ("base", "WorkerLostError"),
        ("interrupt", "WorkerLostError"),
        ("generator", "WorkerLostError"),
        ("memory", "MemoryError"),
    ],
)
def test_a_task_that_ends_like_a_process_ends_alone(fleet: Fleet, what: str, error: str) -> None:
    """Given sys.exit, a BaseException or MemoryError, then the job is answered, its message gone, the worker alive."""
    for _ in range(3):  # more than there are places and messages at hand
        job = fleet.user("raise_this", what)
        assert type(job.get(timeout=30, propagate=False)).__name__ == error
    eventually(lambda: settled(fleet), "the acknowledgement")
    assert faces(fleet.detect().get(timeout=30)) == 1


def test_a_result_that_no_serializer_takes_is_a_failure(fleet: Fleet) -> None:
    """Given a return value that is not JSON, then the caller gets an error and the message is gone."""
    job = fleet.user("not_json")
    assert isinstance(job.get(timeout=30, propagate=False), Exception)
    eventually(lambda: settled(fleet), "the acknowledgement")


@pytest.mark.parametrize(
    ("how", "error"), [("none", "TypeError"), ("raises", "LookupError"), ("exits", "WorkerLostError")]
)
def test_a_begin_that_misbehaves_fails_its_own_job_only(fleet: Fleet, how: str, error: str) -> None:
    """Given a stage that returns no future, raises or exits, then its job fails and the worker goes on."""
    for _ in range(3):
        job = fleet.user("odd", how)
        assert type(job.get(timeout=10, propagate=False)).__name__ == error
    assert fleet.user("odd", "well").get(timeout=30) == "well"
    eventually(lambda: settled(fleet), "the acknowledgements")
    assert fleet.worker.process.poll() is None
