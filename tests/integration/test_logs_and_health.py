"""What a worker writes into its log, and how others learn whether it lives and whether it can work."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.integration.kit import USER_TASKS, Fleet, Worker, small_picture
from tests.waiting import eventually
from worker import embedded
from worker.health import VALID_S, problem_of, ready_file

WORKER: dict[str, Any] = {"extra": [*USER_TASKS, "-l", "INFO"], "log": "json"}


def health(worker: Worker, *words: str) -> tuple[int, str]:
    """Ask `fleet-worker health`; return its exit status and what it says."""
    command = [str(Path(sys.executable).with_name("fleet-worker")), "health", *words]
    environ = {**os.environ, "FLEET_HEALTH_FILE": str(worker.sign)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, (done.stdout + done.stderr).strip()


# -------------------------------------------------------------------------------------------------------- log


def test_every_line_is_json_and_a_job_is_found_by_its_id(fleet: Fleet) -> None:
    """Given a good job, a bad one and one that raises, then each line of the log is JSON, and theirs have their ids."""
    good, bad = fleet.detect(), fleet.detect({"data": "bm90IGFuIGltYWdl"})
    raising = fleet.user("fail", "a text\nof two lines")
    for job in (good, bad, raising):
        job.get(timeout=30, propagate=False)

    def events(job: str) -> list[str]:
        lines = [json.loads(line) for line in fleet.worker.log.splitlines()]
        return [line["event"] for line in lines if line.get("job") == job]

    eventually(lambda: len(events(raising.id)) == len(events(good.id)) == len(events(bad.id)) == 2, "all lines")
    assert events(good.id) == ["task.received", "task.succeeded"]
    assert events(bad.id) == ["task.received", "task.raised"]
    assert events(raising.id) == ["task.received", "task.raised"]
    lines = [json.loads(line) for line in fleet.worker.log.splitlines()]
    assert all({"time", "level", "event", "logger"} <= set(line) for line in lines)
    assert any(line["event"] == "network.ready" and line["model"] == "blazeface_short" for line in lines)
    (failure,) = [line for line in lines if line.get("job") == raising.id and line["event"] == "task.raised"]
    assert "ValueError" in failure["traceback"]


# ----------------------------------------------------------------------------------------------------- health


def test_a_worker_that_can_work_is_alive_and_ready(fleet: Fleet) -> None:
    """Given a worker at rest, then both questions are answered with yes."""
    eventually(ready_file(fleet.worker.sign).exists, "readiness")
    assert health(fleet.worker) == (0, "ready")
    assert health(fleet.worker, "--live") == (0, "alive")


def test_a_worker_that_hangs_is_neither(fleet: Fleet) -> None:
    """Given a worker that stands still, and signs that have become too old, then both answers are no, and say why."""
    eventually(ready_file(fleet.worker.sign).exists, "readiness")
    fleet.worker.signal(signal.SIGSTOP)
    try:
        long_ago = time.time() - VALID_S - 10
        os.utime(fleet.worker.sign, (long_ago, long_ago))
        for words in ([], ["--live"]):
            status, said = health(fleet.worker, *words)
            assert status == 1
            assert f"{fleet.worker.sign} was last touched" in said
    finally:
        fleet.worker.signal(signal.SIGCONT)
    eventually(lambda: problem_of(fleet.worker.sign) is None, "the next sign")


def test_a_worker_that_drains_is_alive_and_not_ready(bare_fleet: Fleet) -> None:
    """Given a job in hand and SIGTERM, then the worker says at once that it takes no more, and goes on living."""
    worker = bare_fleet.start()
    while bare_fleet.workers[0] is not worker:
        bare_fleet.workers.append(bare_fleet.workers.pop(0))
    eventually(ready_file(worker.sign).exists, "readiness")
    gates = [bare_fleet.gate() for _ in range(4)]  # more than one worker may be there to take them
    eventually(lambda: bare_fleet.inspect("active"), "a job in hand")
    worker.process.terminate()
    eventually(lambda: not ready_file(worker.sign).exists(), "the end of readiness")
    assert worker.process.poll() is None
    assert worker.sign.exists()
    for gate in gates:
        gate.open()
    assert worker.wait() == 0
    bare_fleet.workers.remove(worker)


def test_a_worker_without_redis_is_alive_and_not_ready(store: Path, samples: Path, tmp_path: Path) -> None:
    """Given a server that ends, then the worker gives signs of life, as a restart would not help, and no others."""
    with embedded.server() as url:
        fleet = Fleet(url, store, tmp_path, small_picture(samples))
        worker = fleet.start()
        eventually(ready_file(worker.sign).exists, "readiness")
    gone_at = time.time()
    eventually(lambda: worker.sign.stat().st_mtime > gone_at + 1, "a sign of life")
    assert ready_file(worker.sign).stat().st_mtime < gone_at + 1
    worker.kill()
    fleet.close()
