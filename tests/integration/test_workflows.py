"""Retries, links, chains, groups, chords, clocks and rate limits: tasks with a stage are tasks like any other."""

import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import chain, chord, group, signature

from tests.integration.kit import QUEUE, USER_TASKS, USERS, Fleet, faces
from tests.waiting import eventually

WORKER: dict[str, Any] = {"extra": [*USER_TASKS, "-c", "4"]}


def detect_signature(fleet: Fleet, image: Any = None) -> Any:
    """Give the signature of a detection, as a program without our package writes it."""
    return signature("fleet.detect", args=[image or fleet.image], app=fleet.app, queue=QUEUE)


def user_signature(fleet: Fleet, name: str, *args: Any, **options: Any) -> Any:
    """Give the signature of a user's task."""
    return signature(f"user.{name}", args=args, app=fleet.app, queue=USERS, **options)


BAD_IMAGE = {"data": "bm90IGFuIGltYWdl"}


def test_a_users_task_retries_until_it_succeeds(fleet: Fleet) -> None:
    """Given a task that fails twice, then it is answered on its third try."""
    assert fleet.user("flaky", 2).get(timeout=30) == 2


def test_a_users_task_that_runs_out_of_tries_raises_its_error(fleet: Fleet) -> None:
    """Given a task that never succeeds, then its caller gets the error of the last try."""
    error = fleet.user("flaky", 99).get(timeout=30, propagate=False)
    assert repr(error) == "RuntimeError('not yet')"


def test_a_failed_inference_is_tried_again(fleet: Fleet) -> None:
    """Given a network that fails once, then the second try gives the detections."""
    result = fleet.app.send_task("user.fails_first", [fleet.image, 1], queue=QUEUE).get(timeout=30)
    assert faces(result) == 1
    assert result["retries"] == 1


def test_an_inference_that_always_fails_is_answered_with_its_code(fleet: Fleet) -> None:
    """Given a network that always fails, then after three tries the caller gets inference_failed."""
    job = fleet.app.send_task("user.fails_first", [fleet.image, 99], queue=QUEUE)
    error = job.get(timeout=30, propagate=False)
    assert error.args[1] == "inference_failed"
    eventually(lambda: not fleet.unacked() and not fleet.queued(), "the acknowledgements")


def test_a_retry_comes_back_on_the_queue_of_its_model(fleet: Fleet) -> None:
    """Given a retry of a detection, then its model is still known: the message names no other."""
    job = fleet.app.send_task("user.fails_first", [fleet.image, 2], queue=QUEUE)
    assert job.get(timeout=30)["retries"] == 2


def test_a_link_runs_with_the_result(fleet: Fleet) -> None:
    """Given a link, then it gets the detections."""
    mark = uuid.uuid4().hex
    fleet.detect(link=user_signature(fleet, "count", mark))
    eventually(lambda: fleet.records("count", mark) == ["1"], "the link")


def test_a_link_error_runs_with_the_failed_job(fleet: Fleet) -> None:
    """Given a bad image with a link_error, then that runs and knows the job and the error."""
    job = fleet.detect(BAD_IMAGE, link_error=user_signature(fleet, "on_error"))
    eventually(lambda: fleet.records("errback", job) == ["InvalidImage"], "the link_error")


def test_a_chain_goes_from_image_to_a_users_task(fleet: Fleet) -> None:
    """Given detect | count, then the chain's result is the count."""
    steps = chain(detect_signature(fleet), user_signature(fleet, "count"))
    assert steps.apply_async().get(timeout=30) == 1


def test_a_chain_stops_at_a_bad_image(fleet: Fleet) -> None:
    """Given a bad image at the head of a chain, then the head's error is the chain's and the next step never runs."""
    mark = uuid.uuid4().hex
    last = chain(detect_signature(fleet, BAD_IMAGE), user_signature(fleet, "count", mark)).apply_async()
    error = last.parent.get(timeout=30, propagate=False)
    assert error.args[1] == "invalid_image"
    assert fleet.records("count", mark) == []


def test_a_group_gives_all_results_in_order(fleet: Fleet) -> None:
    """Given a group of good and bad images, then each has its own answer."""
    images = [fleet.image, BAD_IMAGE, fleet.image]
    jobs = group(detect_signature(fleet, image) for image in images).apply_async()
    first, second, third = jobs.get(timeout=30, propagate=False)
    assert [faces(first), faces(third)] == [1, 1]
    assert second.args[1] == "invalid_image"


def test_a_chord_counts_the_faces_of_many_images(fleet: Fleet) -> None:
    """Given a header of twelve detections, then the body runs once with all results."""
    header = [detect_signature(fleet) for _ in range(12)]
    assert chord(header, user_signature(fleet, "total")).apply_async().get(timeout=30) == 12


def test_a_chord_with_a_bad_image_fails_and_its_errback_runs(fleet: Fleet) -> None:
    """Given one bad image in the header, then the body fails and never runs."""
    body = user_signature(fleet, "total").on_error(user_signature(fleet, "on_error"))
    job = chord([detect_signature(fleet), detect_signature(fleet, BAD_IMAGE)], body).apply_async()
    error = job.get(timeout=30, propagate=False)
    assert "InvalidImage" in repr(error)


def test_a_countdown_is_waited_for(fleet: Fleet) -> None:
    """Given a countdown of 0.6 s, then the answer comes after it and not long after it."""
    began = time.monotonic()
    assert faces(fleet.detect(countdown=0.6).get(timeout=30)) == 1
    assert 0.55 <= time.monotonic() - began < 5


def test_an_eta_waits_without_a_place(fleet: Fleet) -> None:
    """Given more jobs with an ETA than there are places, then other jobs pass them, and they are done when due."""
    due = datetime.now(UTC) + timedelta(seconds=1.5)
    later = [fleet.detect(eta=due) for _ in range(6)]
    eventually(lambda: len(fleet.inspect("scheduled")) == 6, "the schedule")
    assert faces(fleet.detect().get(timeout=30)) == 1
    assert not any(job.ready() for job in later)
    assert [faces(job.get(timeout=30)) for job in later] == [1] * 6


def test_a_job_that_expired_in_the_queue_is_never_decoded(fleet: Fleet) -> None:
    """Given jobs that expire while all places are taken, then they end as REVOKED and no image is fetched."""
    gates = [fleet.gate().entered() for _ in range(4)]
    key = "fleet:blob:expires"
    fleet.redis.set(key, fleet.picture, ex=60)
    due = time.time() + 0.3
    job = fleet.detect({"ref": key}, expires=0.3)
    eventually(lambda: fleet.queued() == 0, "the delivery")
    read_before = fleet.redis.info("commandstats").get("cmdstat_getrange", {}).get("calls", 0)
    eventually(lambda: time.time() > due + 0.1, "its time")
    for gate in gates:
        gate.open()
    eventually(lambda: job.state == "REVOKED", "the end of the expired job")
    assert str(job.result) == "expired"
    assert fleet.redis.info("commandstats").get("cmdstat_getrange", {}).get("calls", 0) == read_before
    eventually(lambda: not fleet.unacked(), "the acknowledgements")


def test_a_job_that_expired_before_it_arrived_is_revoked(fleet: Fleet) -> None:
    """Given a message that is too old on arrival, then the job ends as REVOKED."""
    job = fleet.detect(expires=datetime.now(UTC) - timedelta(seconds=1))
    eventually(lambda: job.state == "REVOKED", "the end of the expired job")


def test_a_rate_limit_holds_for_detections(fleet: Fleet) -> None:
    """Given rate_limit fleet.detect 5/s, then six detections take a second; without it they are quick again."""
    assert "new rate limit set" in fleet.order("rate_limit", task_name="fleet.detect", rate_limit="5/s")["ok"]
    began = time.monotonic()
    for job in [fleet.detect() for _ in range(6)]:
        assert faces(job.get(timeout=30)) == 1
    limited_s = time.monotonic() - began
    assert "disabled" in fleet.order("rate_limit", task_name="fleet.detect", rate_limit=0)["ok"]
    assert limited_s >= 0.95


def test_detections_go_on_while_users_tasks_block(fleet: Fleet) -> None:
    """Given three of four places held by blocking tasks, then detections pass by on the fourth."""
    gates = [fleet.gate().entered() for _ in range(3)]
    assert [faces(job.get(timeout=30)) for job in [fleet.detect() for _ in range(10)]] == [1] * 10
    for gate in gates:
        gate.open()
    assert [gate.job.get(timeout=30) for gate in gates] == ["through"] * 3
