"""What Celery shows of its jobs: events, signals, remote control, and what a task sees of itself."""

from typing import Any

import pytest

from tests.integration.kit import QUEUE, USER_TASKS, Fleet
from tests.waiting import eventually

WORKER: dict[str, Any] = {"extra": [*USER_TASKS, "-c", "2", "-l", "DEBUG"], "USER_RECORDS_SIGNALS": "1"}


def kinds_of(events: list[dict[str, Any]], job: Any) -> list[str]:
    """List the events of a job, in their order."""
    return [event["type"] for event in events if event.get("uuid") == job.id]


def event_of(events: list[dict[str, Any]], job: Any, kind: str) -> dict[str, Any]:
    """Give a job's event of this kind; those of earlier jobs may still be arriving."""
    return next(event for event in events if (event["type"], event.get("uuid")) == (kind, job.id))


def wait_for(events: list[dict[str, Any]], job: Any, *expected: str) -> None:
    """Wait until a job has had exactly these events."""
    eventually(lambda: kinds_of(events, job)[-1:] == [expected[-1]], f"{expected}")
    assert kinds_of(events, job) == list(expected)


# -------------------------------------------------------------------------------------------------- events


def test_a_job_that_succeeds_sends_its_events(fleet: Fleet) -> None:
    """Given a detection, then received, started and succeeded are seen, with names and without pixels."""
    with fleet.events() as events:
        job = fleet.detect()
        wait_for(events, job, "task-received", "task-started", "task-succeeded")
        received = event_of(events, job, "task-received")
    assert received["name"] == "fleet.detect"
    assert "bytes" in received["args"]
    assert fleet.image["data"][:40] not in str(events)


def test_a_job_that_fails_sends_its_events(fleet: Fleet) -> None:
    """Given a bad image, then received, started and failed are seen, with the error's name."""
    with fleet.events() as events:
        job = fleet.detect({"data": "bm90IGFuIGltYWdl"})
        wait_for(events, job, "task-received", "task-started", "task-failed")
    assert "InvalidImage" in event_of(events, job, "task-failed")["exception"]


def test_a_job_that_retries_sends_its_events(fleet: Fleet) -> None:
    """Given one retry, then it is seen, and two deliveries are; the second may arrive before the first is over."""
    with fleet.events() as events:
        job = fleet.user("flaky", 1)
        eventually(lambda: "task-succeeded" in kinds_of(events, job), "the success")
    deliveries = ["task-received", "task-started"] * 2
    assert sorted(kinds_of(events, job)) == sorted([*deliveries, "task-retried", "task-succeeded"])


def test_a_job_that_is_terminated_sends_its_events(fleet: Fleet) -> None:
    """Given a job revoked in its stage, then revoked is seen, and that it was terminated."""
    with fleet.events() as events:
        job = fleet.user("hang", False)
        eventually(lambda: fleet.records("begun", job), "the stage")
        fleet.revoke(job.id, terminate=True)
        wait_for(events, job, "task-received", "task-started", "task-revoked")
    assert event_of(events, job, "task-revoked")["terminated"] is True


def test_a_job_past_its_hard_limit_sends_its_events(fleet: Fleet) -> None:
    """Given a hard limit, then failed is seen."""
    with fleet.events() as events:
        job = fleet.user("hang", False, time_limit=0.2)
        wait_for(events, job, "task-received", "task-started", "task-failed")


# ------------------------------------------------------------------------------------------------- signals


@pytest.mark.parametrize(
    ("task", "args", "options", "expected"),
    [
        ("echo", [], {}, ["task_received", "task_prerun", "task_success", "task_postrun"]),
        ("fail", ["no"], {}, ["task_received", "task_prerun", "task_failure", "task_postrun"]),
        ("hang", [False], {"soft_time_limit": 0.1}, ["task_received", "task_prerun", "task_failure", "task_postrun"]),
        ("hang", [False], {"time_limit": 0.1}, ["task_received", "task_failure"]),
        ("raise_this", ["exit"], {}, ["task_received", "task_prerun", "task_postrun", "task_failure"]),
        ("echo", [], {"expires": -1}, ["task_revoked"]),
    ],
)
def test_a_users_receivers_are_called(
    fleet: Fleet, task: str, args: list[Any], options: dict[str, Any], expected: list[str]
) -> None:
    """Given a job, then the signals of its life are sent, each once, in Celery's order."""
    job = fleet.user(task, *args, **options)
    eventually(lambda: len(fleet.records("signals", job)) >= len(expected), f"{expected}")
    assert fleet.records("signals", job) == expected


def test_a_retry_sends_its_signal(fleet: Fleet) -> None:
    """Given one retry, then task_retry is sent between two deliveries, which may overlap."""
    job = fleet.user("flaky", 1)
    eventually(lambda: len(fleet.records("signals", job)) >= 8, "the signals")
    tries = ["task_received", "task_prerun", "task_postrun"] * 2
    assert sorted(fleet.records("signals", job)) == sorted([*tries, "task_retry", "task_success"])


def test_a_detection_sends_the_signals_of_a_task(fleet: Fleet) -> None:
    """Given a detection, then it is no different."""
    job = fleet.detect()
    job.get(timeout=30)
    eventually(lambda: len(fleet.records("signals", job)) >= 4, "the signals")
    assert fleet.records("signals", job) == ["task_received", "task_prerun", "task_success", "task_postrun"]


def test_a_terminated_job_sends_task_revoked(fleet: Fleet) -> None:
    """Given a job terminated in its stage, then task_revoked is sent, and nothing that belongs to a body."""
    job = fleet.user("hang", False)
    eventually(lambda: fleet.records("begun", job), "the stage")
    fleet.revoke(job.id, terminate=True)
    eventually(lambda: len(fleet.records("signals", job)) >= 2, "the signals")
    assert fleet.records("signals", job) == ["task_received", "task_revoked"]


def test_the_process_signals_are_sent_in_the_process_that_works(fleet: Fleet) -> None:
    """Given a worker, then worker_process_init came once, before worker_ready, in the process that runs the tasks."""
    pid = fleet.worker.process.pid
    assert fleet.records("signals", "process") == [f"worker_process_init {pid}", f"worker_ready {pid}"]


# ------------------------------------------------------------------------------------------ remote control


def test_active_and_reserved_jobs_are_listed_without_their_images(fleet: Fleet) -> None:
    """Given more jobs than places, then those at work are active, the others reserved, and none shows a pixel."""
    gates = [fleet.gate().entered() for _ in range(2)]
    waiting = [fleet.detect(), fleet.detect({"data": fleet.picture}, serializer="msgpack")]
    eventually(lambda: len(fleet.inspect("reserved")) == 2, "the reservations")
    active, reserved = fleet.inspect("active"), fleet.inspect("reserved")
    asked = fleet.inspect("query_task", *[job.id for job in waiting], gates[0].job.id)
    for gate in gates:
        gate.open()
    assert {one["id"] for one in active} == {gate.job.id for gate in gates}
    assert {one["id"] for one in reserved} == {job.id for job in waiting}
    assert len({one["worker_pid"] for one in active}) == 2
    assert {asked[job.id][0] for job in waiting} == {"reserved"}
    assert asked[gates[0].job.id][0] == "active"
    assert fleet.image["data"][:40] not in str([reserved, asked])
    assert str(fleet.picture[:8])[2:-1] not in str([reserved, asked])
    assert all("bytes" in one["args"] for one in reserved)
    for job in waiting:
        job.get(timeout=30)


def test_an_image_given_by_name_is_not_shown_either(fleet: Fleet) -> None:
    """Given a request that names its image wrongly, then no reply, event or log line shows it."""
    gates = [fleet.gate().entered() for _ in range(2)]
    with fleet.events() as events:
        job = fleet.app.send_task("fleet.detect", [], {"image": fleet.image, "min_score": 0.5}, queue=QUEUE)
        reserved = eventually(lambda: fleet.inspect("reserved"), "the reservation")
        for gate in gates:
            gate.open()
        assert job.get(timeout=30, propagate=False).args[1] == "invalid_request"
        eventually(lambda: "task-failed" in kinds_of(events, job), "the failure")
    shown = fleet.image["data"][:40]
    assert shown not in str(reserved)
    assert "0.5" in str(reserved[0]["kwargs"])
    assert shown not in str(events)
    assert shown not in fleet.worker.log


def test_a_scheduled_job_is_listed_without_its_image(fleet: Fleet) -> None:
    """Given a countdown, then the job is scheduled; query_task says so too."""
    job = fleet.detect(countdown=60)
    scheduled = eventually(lambda: fleet.inspect("scheduled"), "the schedule")
    assert [one["request"]["id"] for one in scheduled] == [job.id]
    assert fleet.image["data"][:40] not in str(scheduled)
    fleet.revoke(job.id, terminate=True)


def test_stats_show_the_pool_and_its_models(fleet: Fleet) -> None:
    """Given inspect stats of an idle worker, then it names the pool, its places and what is loaded."""
    eventually(lambda: fleet.inspect("stats")["pool"]["jobs"] == 0, "the end of the jobs before")
    stats = fleet.inspect("stats")
    pool = stats["pool"]
    assert pool["implementation"] == "worker.pool:DetectionPool"
    assert pool["max-concurrency"] == 2
    assert pool["models"]["blazeface_short"]["in_flight"] == 0
    assert stats["pid"] == fleet.worker.process.pid


def test_registered_names_the_tasks(fleet: Fleet) -> None:
    """Given inspect registered, then the fleet's and the user's tasks are there."""
    assert {"fleet.detect", "fleet.detect_many", "user.echo"} <= set(fleet.inspect("registered"))


def test_the_worker_consumes_the_queues_of_its_models(fleet: Fleet) -> None:
    """Given inspect active_queues, then there is one a model and one for other tasks."""
    assert {one["name"] for one in fleet.inspect("active_queues")} == {QUEUE, "fleet"}


@pytest.mark.parametrize("command", ["pool_grow", "pool_shrink"])
def test_the_pool_refuses_to_change_its_size(fleet: Fleet, command: str) -> None:
    """Given pool_grow or pool_shrink, then the answer is an error that says what to do, and the worker lives."""
    answer = fleet.order(command, n=2)
    assert "--concurrency" in answer["error"]
    assert fleet.inspect("stats")["pool"]["max-concurrency"] == 2
    assert fleet.detect().get(timeout=30)["v"] == 1


# ------------------------------------------------------------------------------------------ a task's own view


def test_a_task_sees_its_request(fleet: Fleet) -> None:
    """Given a user's task, then its request has the fields that Celery promises."""
    job = fleet.app.send_task("user.about", [1, "two"], {"three": 3}, queue="fleet", expires=60)
    seen = job.get(timeout=30)
    assert (seen["id"], seen["task"], seen["root_id"]) == (job.id, "user.about", job.id)
    assert (seen["args"], seen["kwargs"], seen["retries"]) == ([1, "two"], {"three": 3}, 0)
    assert seen["hostname"] == fleet.worker.name
    assert seen["delivery_info"]["routing_key"] == "fleet"
    assert seen["called_directly"] is False


def test_the_log_shows_no_pixels_even_when_it_shows_everything(fleet: Fleet) -> None:
    """Given a worker that logs at level DEBUG, then no image is in its log, and jobs are."""
    jobs = [fleet.detect(), fleet.detect({"data": fleet.picture}, serializer="msgpack")]
    for job in jobs:
        job.get(timeout=30)
    eventually(lambda: all(job.id in fleet.worker.log for job in jobs), "the log lines")
    assert fleet.image["data"][:40] not in fleet.worker.log
    assert str(fleet.picture[:12])[2:-1] not in fleet.worker.log
