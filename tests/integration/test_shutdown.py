"""A worker that is told to stop finishes what it has begun, gives back the rest at once, and loses nothing."""

import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from kombu import Consumer, Queue
from redis import Redis

from tests.integration.kit import QUEUE, USER_TASKS, USERS, Fleet, faces
from tests.waiting import eventually
from worker.broker import GuardedConnection

SMALL = [*USER_TASKS, "-c", "2"]


@pytest.fixture
def fleet(bare_fleet: Fleet) -> Iterator[Fleet]:
    """Give a fleet without workers; those that a test starts end with it."""
    yield bare_fleet
    for worker in bare_fleet.workers:
        worker.kill()
    bare_fleet.workers.clear()
    bare_fleet.wipe()


def test_an_idle_worker_ends_at_once(fleet: Fleet) -> None:
    """Given no jobs, then SIGTERM ends the worker with status 0 within three seconds."""
    worker = fleet.start()
    began = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - began < 3
    assert "ERROR" not in worker.log


def test_a_worker_that_gets_sighup_starts_anew(fleet: Fleet) -> None:
    """Given SIGHUP, then the same process is a new worker, with the options of the old one, and does jobs."""
    worker = fleet.start(extra=SMALL)
    worker.signal(signal.SIGHUP)
    eventually(lambda: "Restarting celery worker" in worker.log, "the restart")

    assert faces(fleet.detect().get(timeout=30)) == 1
    assert fleet.user("echo", 1).get(timeout=30) == [1]
    assert worker.stop() == 0


def test_a_channel_that_waits_for_messages_without_end_can_be_closed(own_server: str, redis: Redis) -> None:
    """Given a BLMPOP without a time limit, when its channel is closed, then it ends, and nothing of it is left."""
    connection = GuardedConnection(own_server)
    channel: Any = connection.default_channel
    channel.brpop_timeout = 0
    with Consumer(channel, [Queue("nobody")], callbacks=[lambda *_: None], no_ack=False):
        connection.transport.cycle._register_BRPOP(channel)
        eventually(lambda: redis.info("clients")["blocked_clients"] == 1, "the wait")

        closing = threading.Thread(target=channel.close, daemon=True)
        closing.start()
        closing.join(20)

        assert not closing.is_alive()
    assert redis.info("clients")["blocked_clients"] == 0
    assert redis.keys("fleet:wake:*") == []


def test_jobs_in_flight_are_finished_and_the_others_go_to_another_worker_at_once(fleet: Fleet) -> None:
    """Given two jobs at work and more at hand, when the worker drains, then the next one does those meanwhile."""
    first = fleet.start(extra=SMALL)
    later = fleet.detect(countdown=60)
    eventually(lambda: fleet.inspect("scheduled"), "the schedule")
    gates = [fleet.gate().entered() for _ in range(2)]
    held = [fleet.detect() for _ in range(2)]
    eventually(lambda: fleet.unacked() == 5, "the delivery of all jobs")
    first.signal(signal.SIGTERM)
    eventually(lambda: fleet.queued() == 3, "the return of what was not begun")
    assert fleet.unacked() == 2
    fleet.start(extra=SMALL)
    assert [faces(job.get(timeout=30)) for job in held] == [1, 1]
    assert first.process.poll() is None
    for gate in gates:
        gate.open()
    assert [gate.job.get(timeout=30) for gate in gates] == ["through"] * 2
    assert first.wait() == 0
    assert not later.ready()
    assert not fleet.redis.hexists("fleet:counters", "lapsed")  # nobody went silent


def test_the_last_jobs_of_a_worker_send_their_events(fleet: Fleet) -> None:
    """Given two jobs at work, when the worker drains and ends, then whoever listens has seen both succeed."""
    worker = fleet.start(extra=SMALL)
    gates = [fleet.gate().entered() for _ in range(2)]
    with fleet.events() as events:
        worker.signal(signal.SIGTERM)
        eventually(lambda: "Warm shutdown" in worker.log, "the shutdown")
        for gate in gates:
            gate.open()
        assert worker.wait() == 0
        ended = {gate.job.id for gate in gates}
        eventually(
            lambda: ended <= {one.get("uuid") for one in events if one["type"] == "task-succeeded"}, "the events"
        )


def test_what_is_given_back_keeps_its_order(fleet: Fleet) -> None:
    """Given jobs at hand and others behind them, when the worker drains, then the oldest are the next again."""
    first = fleet.start(extra=SMALL)
    gates = [fleet.gate().entered() for _ in range(2)]
    held = [fleet.user("echo", number) for number in range(2)]
    eventually(lambda: fleet.unacked() == 4, "the delivery")
    behind = fleet.user("echo", 2)
    first.signal(signal.SIGTERM)
    eventually(lambda: fleet.queued("fleet") == 3, "the return")
    waiting = fleet.redis.lrange("fleet", 0, -1)  # the next one stands last
    for gate in gates:
        gate.open()
    assert first.wait() == 0
    order = [next(job for job in (*held, behind) if job.id in text) for text in reversed(waiting)]
    assert order[:2] == held or order[-1] in held  # the server may hand one message to the worker that is leaving


def test_jobs_that_end_while_draining_are_acknowledged_at_once(fleet: Fleet) -> None:
    """Given two jobs at work, when the worker drains and is killed after the first ended, then it is not redone."""
    worker = fleet.start(extra=SMALL)
    quick, slow = fleet.gate().entered(), fleet.gate().entered()
    worker.signal(signal.SIGTERM)
    eventually(lambda: not worker.is_ready(), "the drain")
    quick.open()
    assert quick.job.get(timeout=30) == "through"
    eventually(lambda: fleet.unacked() == 1, "the acknowledgement")
    worker.kill()
    assert slow.job.state == "PENDING"


def test_jobs_that_end_while_draining_are_not_redone(fleet: Fleet) -> None:
    """Given two jobs at work, when both end while the worker drains, then it ends, and leaves nothing to be done."""
    worker = fleet.start(extra=SMALL)
    gates = fleet.gate().entered(), fleet.gate().entered()
    worker.signal(signal.SIGTERM)
    eventually(lambda: not worker.is_ready(), "the drain")
    for gate in gates:
        gate.open()
        assert gate.job.get(timeout=30) == "through"
    assert worker.wait() == 0
    assert (fleet.unacked(), fleet.queued(USERS)) == (0, 0)


def test_time_limits_hold_while_draining(fleet: Fleet) -> None:
    """Given a job past its hard limit during the drain, then it is answered and the worker ends."""
    worker = fleet.start(extra=SMALL)
    gate = fleet.gate(time_limit=1.5).entered()
    worker.signal(signal.SIGTERM)
    error = gate.job.get(timeout=30, propagate=False)
    assert type(error).__name__ == "TimeLimitExceeded"
    assert worker.wait() == 0


def test_the_drain_limit_gives_back_what_does_not_end(fleet: Fleet) -> None:
    """Given a drain limit of a second and a job that blocks in C, then the worker ends and another does the job."""
    worker = fleet.start(extra=SMALL, drain_s=1)
    gate = fleet.gate().entered()
    began = time.monotonic()
    assert worker.stop() == 0
    assert 0.9 < time.monotonic() - began < 5
    assert "pool.drain_limit given_back=1" in worker.log
    assert fleet.queued("fleet") == 1
    fleet.start(extra=SMALL)
    gate.entered()
    gate.open()
    assert gate.job.get(timeout=30) == "through"
    assert len(fleet.records("ran", gate.job)) == 2


@pytest.mark.parametrize(
    ("first", "last"),
    [(None, signal.SIGQUIT), (signal.SIGTERM, signal.SIGQUIT), (signal.SIGTERM, signal.SIGTERM)],
    ids=["SIGQUIT", "SIGQUIT while it drains", "a second SIGTERM"],
)
def test_a_worker_told_to_end_now_does_and_loses_nothing(
    fleet: Fleet, first: signal.Signals | None, last: signal.Signals
) -> None:
    """Given jobs at work and at hand, when the signal comes, then the worker ends now and another does all of them."""
    worker = fleet.start(extra=SMALL)
    gates = [fleet.gate().entered(), fleet.gate().entered()]
    jobs = [fleet.detect(), fleet.detect()]
    eventually(lambda: fleet.unacked() == 4, "the delivery")
    if first is not None:
        worker.signal(first)
        eventually(lambda: fleet.unacked() == 2, "the return of what was not begun")
    began = time.monotonic()
    worker.signal(last)
    worker.wait()
    assert time.monotonic() - began < 5
    assert fleet.unacked() == 0
    fleet.start(extra=SMALL)
    for gate in gates:
        gate.open()
    assert [gate.job.get(timeout=30) for gate in gates] == ["through"] * 2
    assert [faces(job.get(timeout=30)) for job in jobs] == [1, 1]


def test_the_signal_may_come_while_the_loop_sends_events(fleet: Fleet) -> None:
    """Given a loop that has the events' lock, when SIGQUIT comes, then the worker ends as well: nobody waits for it."""
    worker = fleet.start(extra=SMALL)
    gate = fleet.gate().entered()
    fleet.app.control.broadcast("quit_while_sending_events")
    worker.wait(10)
    assert fleet.queued("fleet") == 1
    assert not gate.job.ready()


def test_two_interrupts_end_the_worker_now(fleet: Fleet) -> None:
    """Given Ctrl-C once, then the worker drains; twice, then it ends now and gives its jobs back."""
    worker = fleet.start(extra=SMALL)
    gate = fleet.gate().entered()
    worker.signal(signal.SIGINT)
    eventually(lambda: "Hitting Ctrl+C again" in worker.log, "the hint")
    eventually(lambda: "Warm shutdown" in worker.log, "the shutdown")
    assert worker.process.poll() is None
    worker.signal(signal.SIGINT)
    worker.wait(10)
    eventually(lambda: fleet.queued("fleet") == 1, "the return of the job")
    assert not gate.job.ready()


def test_a_worker_that_stops_under_load_loses_nothing(fleet: Fleet) -> None:
    """Given 300 jobs and two workers, when one is stopped in the middle, then all are answered once."""
    first = fleet.start()
    fleet.start()
    jobs = [fleet.detect() for _ in range(300)]
    eventually(jobs[40].ready, "the middle")
    assert first.stop() == 0
    assert [faces(job.get(timeout=30)) for job in jobs] == [1] * 300
    eventually(lambda: not fleet.unacked() and not fleet.queued(QUEUE), "the acknowledgements")


def test_a_worker_with_a_thread_stuck_in_c_drains_and_ends(fleet: Fleet) -> None:
    """Given a thread that sleeps for a minute past its hard limit, then the worker still ends with status 0."""
    worker = fleet.start(extra=SMALL)
    job = fleet.user("sleep", 60, time_limit=0.2)
    assert type(job.get(timeout=30, propagate=False)).__name__ == "TimeLimitExceeded"
    stuck = fleet.user("slow_body", "nobody-opens", time_limit=0.2)
    assert type(stuck.get(timeout=30, propagate=False)).__name__ == "TimeLimitExceeded"
    began = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - began < 5
    assert not psutil.pid_exists(worker.process.pid)
