"""Clocks of clients and workers that are an hour off lose nothing and expire nothing wrongly: Redis's clock counts."""

import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from redis import Redis

from producer import Client
from producer.clock import ServerClock
from producer.results import meta_key
from tests.conftest import StartWorker
from tests.integration.kit import Fleet, faces
from tests.integration.producer.standin import LARGE, StandIn, answer_all
from tests.waiting import eventually

MOVED = str(Path(__file__).parent / "another_clock")

HOUR_S = 3600

#: The option that lets a worker load a task that takes its time.
NAPS = ("-I", "tests.integration.lease_tasks")


def moved(seconds: int) -> dict[str, Any]:
    """Give the environment of a process whose clock is ``seconds`` ahead."""
    return {"PYTHONPATH": MOVED, "CLOCK_AHEAD_S": str(seconds)}


@pytest.fixture(scope="module")
def far_apart(bare_fleet: Fleet) -> Fleet:
    """Give a fleet of two workers, one whose clock is an hour ahead and one whose clock is an hour behind."""
    for ahead_s in (HOUR_S, -HOUR_S):
        bare_fleet.start(extra=NAPS, lease_s=2, **moved(ahead_s))
    return bare_fleet


def test_workers_with_other_clocks_expire_what_is_late_and_nothing_else(far_apart: Fleet) -> None:
    """Given jobs in time and jobs past their deadline, then these workers answer the ones and revoke the others."""
    late = [far_apart.detect(expires=datetime.now(UTC) - timedelta(seconds=5)) for _ in range(20)]
    with Client(far_apart.url, model="blazeface_short") as client:
        for result in [client.submit(far_apart.picture, deadline_s=60).result(30) for _ in range(20)]:
            assert 0 <= result.timings_ms["queued"] < 30_000
    for job in late:
        stored = eventually(lambda one=job: far_apart.redis.get(meta_key(one.id)), "an outcome")
        assert json.loads(stored)["status"] == "REVOKED"


def test_a_moment_on_the_wire_is_the_same_for_all_workers(far_apart: Fleet) -> None:
    """Given jobs that may begin in half a second, then no worker waits for an hour, nor lets one begin at once."""
    may_begin = datetime.now(UTC) + timedelta(seconds=0.5)
    jobs = [far_apart.detect(eta=may_begin) for _ in range(8)]
    for job in jobs:
        assert faces(job.get(timeout=30)) == 1
    assert datetime.now(UTC) >= may_begin


def test_workers_with_other_clocks_leave_each_other_their_jobs(far_apart: Fleet) -> None:
    """Given jobs that outlive their leases, then each runs once."""
    names = [str(number) for number in range(8)]
    answers = [far_apart.app.send_task("lease.nap", [4, name], queue="fleet") for name in names]
    assert [answer.get(timeout=60) for answer in answers] == names
    assert sorted(far_apart.redis.lrange("lease:begun", 0, -1)) == names


def test_jobs_of_a_dead_worker_with_another_clock_are_missed_in_time(
    url: str, redis: Redis, start_worker: StartWorker
) -> None:
    """Given a worker an hour ahead that dies with a job, then one an hour behind does it when the lease has ended."""
    doomed = start_worker(url, lease_s=2, extra=NAPS, **moved(HOUR_S))
    with Celery(broker=url, backend=url) as app:
        answer = app.send_task("lease.nap", [1, "job"], queue="fleet")
        eventually(lambda: redis.llen("lease:begun") == 1)
        doomed.kill()
        start_worker(url, lease_s=2, extra=NAPS, **moved(-HOUR_S))
        assert answer.get(timeout=30) == "job"


@pytest.mark.parametrize("ahead_s", [HOUR_S, -HOUR_S])
def test_a_client_with_another_clock_waits_as_long_as_it_says(url: str, redis: Redis, ahead_s: int) -> None:
    """Given a client an hour off, then its deadline is the one that it means, and its answer is heard."""
    code = (
        "import sys, producer; c = producer.Client(sys.argv[1]); j = c.submit(b'x' * 9000, deadline_s=60);"
        "print(j.id, flush=True); print(j.result().width)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, url], env=moved(ahead_s), stdout=subprocess.PIPE, text=True, bufsize=1
    )
    with child:
        job_id = child.stdout.readline().strip()
        deadline = int(job_id.split("-")[1], 16) / 1000
        assert 0 < deadline - redis.time()[0] <= 61
        with StandIn(url, answer_all):
            assert child.communicate(timeout=30)[0].strip() == "640"


def test_the_clock_goes_on_when_the_hosts_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given the time of Redis, when this host's clock is set an hour forward, then it is still the time of Redis."""
    clock = ServerClock()
    assert abs(clock.now() - time.time()) < 5
    clock.set(1000, 500_000)
    set_forward = time.time() + HOUR_S
    monkeypatch.setattr(time, "time", lambda: set_forward)
    assert 1000.5 <= clock.now() < 1010


def test_a_submit_to_a_server_with_another_clock(client: Client, url: str, redis: Redis) -> None:
    """Given the first job of a client, then its deadline is by Redis's clock already."""
    job = client.submit(LARGE, deadline_s=60)
    assert 58 <= int(job.id.split("-")[1], 16) / 1000 - redis.time()[0] <= 61
