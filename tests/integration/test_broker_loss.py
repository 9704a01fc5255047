"""The connection to Redis breaks, or Redis itself ends and comes back: the worker resumes, every job is answered."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from celery.result import AsyncResult
from kombu import Connection
from redis import Redis

from tests.integration.kit import QUEUE, USER_TASKS, USERS, Fleet, Worker, faces, small_picture
from tests.servers import Broker
from tests.waiting import eventually
from worker.memory import MESSAGES_AT_ONCE
from worker.steadfast import abandon

TWO_PLACES = [*USER_TASKS, "-c", "2"]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """Give a server for this test alone."""
    running = Broker(tmp_path / "data")
    yield running
    running.kill()


@pytest.fixture
def fleet(broker: Broker, store: Path, samples: Path, tmp_path: Path) -> Iterator[Fleet]:
    """Give a fleet on that server, without workers."""
    made = Fleet(broker.url, store, tmp_path, small_picture(samples))
    yield made
    made.close()


def cut_connections(fleet: Fleet, worker: Worker) -> None:
    """Have the server close all connections of a worker, once it has them: it may still come back from the last cut."""

    def doomed() -> list[str]:
        ports = {one.laddr.port for one in psutil.Process(worker.process.pid).net_connections("tcp")}
        clients = [one["addr"] for one in fleet.redis.client_list()]
        return [address for address in clients if int(address.rpartition(":")[2]) in ports]

    eventually(lambda: len(doomed()) > 1, "the worker's connections")
    for address in doomed():
        fleet.redis.execute_command("CLIENT", "KILL", "ADDR", address, "SKIPME", "yes")


def assert_nothing_is_left(fleet: Fleet) -> None:
    """All messages are acknowledged."""
    eventually(lambda: not fleet.unacked() and not fleet.queued() and not fleet.queued("fleet"), "the acknowledgements")


def test_connections_that_celery_keeps_are_let_go(broker: Broker) -> None:
    """Given a connection of Celery's pool, whose channel is a plain one, when it is abandoned, then nothing is left.

    A worker that comes back greets the others over it: it waited for an answer on a line that may be dead.
    """
    with Connection(broker.url) as pooled, Redis.from_url(broker.url) as redis:
        pooled.default_channel.client.ping()
        assert len(redis.client_list()) > 1
        abandon(pooled)
        eventually(lambda: len(redis.client_list()) == 1, "the end of its connections")
        pooled.default_channel.client.ping()


def test_every_job_is_answered_when_the_server_is_restarted_under_load(fleet: Fleet, broker: Broker) -> None:
    """Given jobs at work and jobs that wait, when the server crashes and comes back, then the worker goes on."""
    worker = fleet.start(extra=TWO_PLACES, lease_s=2)
    at_work = [fleet.user("sleep", 2.0) for _ in range(2)]
    eventually(lambda: len(fleet.inspect("active")) == 2, "both places")
    waiting = [fleet.detect() for _ in range(6)]
    eventually(lambda: fleet.unacked() == 4, "the delivery")
    broker.kill()
    eventually(lambda: "Connection to broker lost" in worker.log, "the loss")
    broker.start()
    eventually(lambda: all(job.state == "SUCCESS" for job in (*at_work, *waiting)), "every answer")
    assert [faces(job.result) for job in waiting] == [1] * 6
    assert worker.process.poll() is None
    assert_nothing_is_left(fleet)


def test_what_a_crash_of_the_server_loses_was_under_way_to_a_worker(fleet: Fleet, broker: Broker) -> None:
    """Given many images in Redis, when the server crashes under load, then only the few fetched together are lost.

    Those are messages that the server had taken off their list and not yet delivered: a worker has one such request
    under way, for four messages at most. Celery cannot know of them; our own client's ledger does. Of 20 such crashes
    16 lost nothing, one lost four, and all of them together 8 jobs of 3,000.
    """
    worker = fleet.start(lease_s=2)
    jobs = []
    for number in range(150):
        fleet.redis.set(f"fleet:blob:{number}", fleet.picture, ex=60)
        jobs.append(fleet.detect({"ref": f"fleet:blob:{number}"}))
    eventually(jobs[20].ready, "the middle")
    broker.kill()
    eventually(lambda: "Connection to broker lost" in worker.log, "the loss")
    broker.start()
    assert_all_but_few_succeed(fleet, jobs, lost=MESSAGES_AT_ONCE)
    assert worker.process.poll() is None


def test_cut_connections_under_load_lose_only_what_was_on_its_way(fleet: Fleet) -> None:
    """Given 300 jobs, when the server cuts the worker's connections three times, then few jobs are lost.

    Four at most each time, as in a crash. Of eight runs five lost nothing, and three lost four jobs each.
    """
    worker = fleet.start(lease_s=2)
    jobs = [fleet.detect() for _ in range(300)]
    for share in (30, 120, 210):
        eventually(lambda share=share: jobs[share].ready(), f"job {share}")
        cut_connections(fleet, worker)
    assert_all_but_few_succeed(fleet, jobs, lost=3 * MESSAGES_AT_ONCE)
    assert worker.process.poll() is None


def assert_all_but_few_succeed(fleet: Fleet, jobs: list[AsyncResult], *, lost: int) -> None:
    """Once no message is left anywhere, all jobs but ``lost`` have a result, and none has failed."""
    eventually(lambda: sum(job.state == "PENDING" for job in jobs) <= lost, "nearly every answer")
    assert_nothing_is_left(fleet)
    states = [job.state for job in jobs]
    assert states.count("SUCCESS") >= len(jobs) - lost
    assert states.count("FAILURE") == 0
    assert all(faces(job.result) == 1 for job in jobs if job.state == "SUCCESS")


def test_jobs_in_flight_keep_their_places_across_a_reconnect(fleet: Fleet) -> None:
    """Given both places taken, when the connection is cut, then no third job begins, and nothing runs twice."""
    worker = fleet.start(extra=TWO_PLACES)
    gates = [fleet.gate().entered() for _ in range(2)]
    cut_connections(fleet, worker)
    eventually(lambda: "Connection to broker lost" in worker.log, "the loss")
    third = fleet.gate()
    eventually(lambda: third.job.id in [one["id"] for one in fleet.inspect("reserved")], "the delivery of the third")
    assert {one["id"] for one in fleet.inspect("active")} == {gate.job.id for gate in gates}
    for gate in gates:
        gate.open()
    third.entered().open()
    assert [gate.job.get(timeout=30) for gate in (*gates, third)] == ["through"] * 3
    assert_nothing_is_left(fleet)
    assert [fleet.records("ran", gate.job) for gate in gates] == [[""], [""]]


def test_every_place_is_free_after_a_reconnect(fleet: Fleet) -> None:
    """Given connections that were cut while jobs ran, then both places can be taken again, and no more than both."""
    worker = fleet.start(extra=TWO_PLACES)
    for _ in range(3):
        gates = [fleet.gate().entered() for _ in range(2)]
        cut_connections(fleet, worker)
        for gate in gates:
            gate.open()
        assert [gate.job.get(timeout=30) for gate in gates] == ["through"] * 2
    gates = [fleet.gate() for _ in range(3)]
    gates[0].entered()
    gates[1].entered()
    eventually(lambda: len(fleet.inspect("reserved")) == 1, "the third without a place")
    assert len(fleet.inspect("active")) == 2
    for gate in gates:
        gate.open()
    assert gates[2].job.get(timeout=30) == "through"


def test_a_job_in_flight_keeps_its_lease_across_a_reconnect(fleet: Fleet) -> None:
    """Given a job that takes three leases, when the connection is cut, then it runs once and is acknowledged."""
    worker = fleet.start(extra=TWO_PLACES, lease_s=2)
    job = fleet.user("loop", 6.0)
    eventually(lambda: fleet.records("ran", job), "the beginning")
    cut_connections(fleet, worker)
    assert job.get(timeout=30) == "done"
    assert_nothing_is_left(fleet)
    assert len(fleet.records("ran", job)) == 1


def test_time_limits_hold_across_a_reconnect(fleet: Fleet) -> None:
    """Given a job with a hard limit, when the connection is cut before it, then the limit strikes all the same."""
    worker = fleet.start(extra=TWO_PLACES)
    job = fleet.user("hang", False, time_limit=1.5)
    eventually(lambda: fleet.records("begun", job), "the stage")
    cut_connections(fleet, worker)
    error = job.get(timeout=20, propagate=False)
    assert type(error).__name__ == "TimeLimitExceeded"
    assert faces(fleet.detect().get(timeout=30)) == 1


def test_a_result_that_cannot_be_stored_is_computed_again(fleet: Fleet, broker: Broker) -> None:
    """Given a user whose results are not tried for long, and a server that is away, then the job is done again."""
    policy = {"max_retries": 1, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.1}
    impatient = {"result_backend_max_retries": 1, "result_backend_transport_options": {"retry_policy": policy}}
    worker = fleet.start(extra=TWO_PLACES, lease_s=2, USER_CELERY_KEYS=json.dumps(impatient))
    slow = fleet.user("sleep", 1.0)
    detection = fleet.user("loop_behind_stage", 1.0, queue=QUEUE)
    eventually(lambda: fleet.records("ran", detection), "the beginning")
    broker.kill()
    time.sleep(2.5)  # an outage that is longer than all tries
    broker.start()
    assert slow.get(timeout=30) is None
    assert detection.get(timeout=30) == "done"
    assert worker.process.poll() is None
    assert_nothing_is_left(fleet)


def test_a_worker_is_told_to_stop_while_the_server_is_away(fleet: Fleet, broker: Broker) -> None:
    """Given no server, then SIGTERM still ends the worker within its drain limit."""
    worker = fleet.start(extra=TWO_PLACES, drain_s=2)
    gate = fleet.user("sleep", 30)
    eventually(lambda: fleet.unacked() == 1, "the beginning")
    broker.kill()
    eventually(lambda: "Connection to broker lost" in worker.log, "the loss")
    began = time.monotonic()
    worker.stop()
    assert time.monotonic() - began < 15
    broker.start()
    assert gate.state == "PENDING"


@pytest.mark.parametrize("silent_s", [0.0, 3.0], ids=["just now", "since a heartbeat"])
def test_a_worker_that_is_told_to_end_now_does_so_though_the_server_is_silent(
    fleet: Fleet, broker: Broker, silent_s: float
) -> None:
    """Given a server that stands still, when SIGQUIT comes, then the worker waits for one answer, and nothing is lost.

    It would put about six things in order, and give each of them two and a half seconds. A heartbeat that was being
    sent was tried again without end, and the worker heard no signal.
    """
    worker = fleet.start(extra=TWO_PLACES, lease_s=2)
    gates = [fleet.gate().entered() for _ in range(2)]
    waiting = [fleet.detect() for _ in range(2)]
    eventually(lambda: fleet.unacked() == 4, "the delivery")
    broker.signal(signal.SIGSTOP)
    try:
        time.sleep(silent_s)  # the outage, or one that is longer than the time between two heartbeats
        began = time.monotonic()
        worker.signal(signal.SIGQUIT)
        worker.wait()
        assert time.monotonic() - began < 8
    finally:
        broker.signal(signal.SIGCONT)
    fleet.start(extra=TWO_PLACES, lease_s=2)
    for gate in gates:
        gate.open()
    assert [gate.job.get(timeout=30) for gate in gates] == ["through"] * 2
    assert [faces(job.get(timeout=30)) for job in waiting] == [1] * 2


def restarted(broker: Broker) -> None:
    """Let the server crash and come back with its data."""
    broker.kill()
    broker.start()


@pytest.mark.parametrize("outage", [restarted, lambda broker: broker.pause(4.0)], ids=["restarted", "silent"])
def test_jobs_that_end_in_a_drain_are_not_redone_after_an_outage(
    fleet: Fleet, broker: Broker, outage: Callable[[Broker], None]
) -> None:
    """Given two jobs and a worker that drains, when the server was away, then both are answered and none is left."""
    worker = fleet.start(extra=TWO_PLACES)
    gates = fleet.gate().entered(), fleet.gate().entered()
    worker.signal(signal.SIGTERM)
    eventually(lambda: not worker.is_ready(), "the drain")
    outage(broker)
    for gate in gates:
        gate.open()
    assert worker.wait() == 0
    assert [gate.job.state for gate in gates] == ["SUCCESS"] * 2
    assert (fleet.unacked(), fleet.queued(USERS)) == (0, 0)
