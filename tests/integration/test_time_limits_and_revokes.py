"""Jobs that are stopped: revoked before or during their work, or past a time limit. The place is free at once."""

import time
from typing import Any

from tests.integration.kit import QUEUE, USER_TASKS, Fleet, faces
from tests.waiting import eventually

#: Two places, so that one lost place shows.
WORKER: dict[str, Any] = {"extra": [*USER_TASKS, "-c", "2"]}


def assert_both_places_are_free(fleet: Fleet) -> None:
    """Two tasks that wait for each other's end can only run side by side."""
    gates = [fleet.gate(), fleet.gate()]
    for gate in gates:
        gate.entered()
    for gate in gates:
        gate.open()
    assert [gate.job.get(timeout=30) for gate in gates] == ["through"] * 2
    eventually(lambda: not fleet.unacked() and not fleet.queued("fleet"), "the acknowledgements")
    assert fleet.inspect("active") == []


def test_a_job_revoked_while_it_waits_is_never_begun(fleet: Fleet) -> None:
    """Given a job without a place, when it is revoked, then it ends as REVOKED and never ran."""
    gates = [fleet.gate().entered() for _ in range(2)]
    job = fleet.gate()
    eventually(lambda: len(fleet.inspect("reserved")) == 1, "the reservation")
    fleet.revoke(job.job.id)
    for gate in gates:
        gate.open()
    eventually(lambda: job.job.state == "REVOKED", "the revocation")
    assert_both_places_are_free(fleet)
    assert fleet.records("ran", job.job) == []


def test_a_job_revoked_before_it_is_sent_is_never_begun(fleet: Fleet) -> None:
    """Given a revoked id, when a job with that id arrives, then it ends as REVOKED."""
    fleet.revoke("soon-to-come")
    job = fleet.detect(task_id="soon-to-come")
    eventually(lambda: job.state == "REVOKED", "the revocation")


def test_a_revoked_stage_is_cancelled_and_its_place_is_free(fleet: Fleet) -> None:
    """Given a stage that hangs, when its job is terminated, then the stage is told and the body never runs."""
    job = fleet.user("hang", False)
    eventually(lambda: fleet.records("begun", job), "the stage")
    fleet.revoke(job.id, terminate=True)
    eventually(lambda: job.state == "REVOKED", "the revocation")
    assert fleet.records("cancelled", job) == [""]
    assert_both_places_are_free(fleet)
    assert fleet.records("body", job) == []


def test_a_revoked_thread_is_interrupted_and_its_place_is_free(fleet: Fleet) -> None:
    """Given a task that runs Python code, when it is terminated, then it is interrupted and no outcome replaces it."""
    job = fleet.user("loop", 60)
    eventually(lambda: fleet.records("ran", job), "the loop")
    fleet.revoke(job.id, terminate=True)
    eventually(lambda: fleet.records("interrupted", job) == ["Interrupted"], "the interruption")
    assert_both_places_are_free(fleet)
    assert job.state == "REVOKED"


def test_a_soft_limit_ends_a_users_task(fleet: Fleet) -> None:
    """Given a task that runs past its soft limit, then its caller gets SoftTimeLimitExceeded."""
    error = fleet.user("loop", 60, soft_time_limit=0.2).get(timeout=30, propagate=False)
    assert type(error).__name__ == "SoftTimeLimitExceeded"
    assert_both_places_are_free(fleet)


def test_a_soft_limit_can_be_caught(fleet: Fleet) -> None:
    """Given a task that catches SoftTimeLimitExceeded, then what it returns is its result."""
    job = fleet.app.send_task("user.loop", [60], {"catch": True}, queue="fleet", soft_time_limit=0.2, time_limit=20)
    assert job.get(timeout=30) == "caught"
    assert_both_places_are_free(fleet)


def test_a_hard_limit_ends_a_users_task(fleet: Fleet) -> None:
    """Given a task past its hard limit, then its caller gets TimeLimitExceeded and the thread is interrupted."""
    job = fleet.user("loop", 60, time_limit=0.2)
    error = job.get(timeout=30, propagate=False)
    assert type(error).__name__ == "TimeLimitExceeded"
    eventually(lambda: fleet.records("interrupted", job) == ["Interrupted"], "the interruption")
    assert_both_places_are_free(fleet)
    assert job.state == "FAILURE"


def test_a_hard_limit_frees_the_place_of_a_thread_that_is_stuck_in_c(fleet: Fleet) -> None:
    """Given a task that sleeps in C for a minute, then its place is free after its hard limit all the same."""
    began = time.monotonic()
    jobs = [fleet.user("sleep", 60, time_limit=0.3) for _ in range(2)]
    errors = [type(job.get(timeout=30, propagate=False)).__name__ for job in jobs]
    assert errors == ["TimeLimitExceeded"] * 2
    assert_both_places_are_free(fleet)
    assert time.monotonic() - began < 20


def test_a_soft_limit_ends_a_stage(fleet: Fleet) -> None:
    """Given a stage that hangs, then the soft limit cancels it and the body gets SoftTimeLimitExceeded."""
    job = fleet.user("hang", False, soft_time_limit=0.2)
    error = job.get(timeout=30, propagate=False)
    assert type(error).__name__ == "SoftTimeLimitExceeded"
    assert fleet.records("cancelled", job) == [""]
    assert_both_places_are_free(fleet)


def test_a_hard_limit_ends_a_stage_that_hears_nothing(fleet: Fleet) -> None:
    """Given a stage that hangs and ignores its cancel, then the hard limit frees its place."""
    job = fleet.user("hang", True, soft_time_limit=0.2, time_limit=0.4)
    error = job.get(timeout=30, propagate=False)
    assert type(error).__name__ == "TimeLimitExceeded"
    assert_both_places_are_free(fleet)
    assert fleet.records("body", job) == []


def test_bodies_that_block_do_not_keep_detections_from_their_answers(fleet: Fleet) -> None:
    """Given bodies behind a stage that block past their hard limit, then detections are still answered."""
    for number in range(3):
        job = fleet.user("slow_body", f"never{number}", time_limit=0.3)
        assert type(job.get(timeout=30, propagate=False)).__name__ == "TimeLimitExceeded"
    assert faces(fleet.detect().get(timeout=30)) == 1
    assert_both_places_are_free(fleet)


def test_a_soft_limit_ends_a_body_behind_a_stage(fleet: Fleet) -> None:
    """Given a slow body behind a stage, then the soft limit reaches it."""
    job = fleet.user("loop_behind_stage", 60, soft_time_limit=0.3)
    assert type(job.get(timeout=30, propagate=False)).__name__ == "SoftTimeLimitExceeded"
    assert_both_places_are_free(fleet)


def test_soft_limits_at_the_very_end_of_a_task_lose_no_job(fleet: Fleet) -> None:
    """Given limits that strike at about the moment when the body ends, then every job has an answer and a place."""
    jobs = [fleet.user("loop", 0.05, soft_time_limit=0.04 + 0.0004 * number) for number in range(60)]
    for job in jobs:
        answer = job.get(timeout=30, propagate=False)
        assert answer == "done" or type(answer).__name__ in ("SoftTimeLimitExceeded", "WorkerLostError")
    assert_both_places_are_free(fleet)


def test_a_storm_of_revocations_leaves_every_place_free(fleet: Fleet) -> None:
    """Given many detections terminated at every moment of their life, then each has one outcome and nothing is lost."""
    jobs = [fleet.detect() for _ in range(60)]
    fleet.revoke(*[job.id for job in jobs[::2]], terminate=True)
    for job in jobs[1::2]:
        assert faces(job.get(timeout=30)) == 1
    eventually(lambda: all(job.state in ("REVOKED", "SUCCESS") for job in jobs[::2]), "an outcome for each")
    eventually(lambda: not fleet.unacked() and not fleet.queued(QUEUE), "the acknowledgements")
    assert_both_places_are_free(fleet)
