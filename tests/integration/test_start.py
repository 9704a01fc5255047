"""A worker that cannot work says why in one sentence and ends; one that can takes no job before it is ready."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.integration.kit import MODEL, ROOT, Fleet, command_of, faces, spawn
from tests.waiting import eventually
from worker import slices

COMMANDS = {
    "celery": [sys.executable, "-m", "celery", "-q", "-A", "worker.app", "worker", "-n", "w@test"],
    "python -m worker": command_of("w"),
    "fleet-worker": [sys.executable, "-c", "from worker.cli import main; main()", "run", "-n", "w@test"],
}


def ended(
    command: Sequence[str], store: Path, environ: Mapping[str, str], *, url: str = "redis://127.0.0.1:1/0"
) -> "subprocess.CompletedProcess[str]":
    """Run a worker that is expected to end by itself."""
    settings = {"FLEET_URL": url, "FLEET_MODELS": MODEL, "FLEET_MODEL_STORE": str(store), **environ}
    quiet = {"PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges"}
    return subprocess.run(
        command,
        env={**os.environ, **quiet, **settings},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def sentence_of(done: "subprocess.CompletedProcess[str]") -> str:
    """Return what a worker that failed said: one line on stderr, no traceback. OpenVINO's readers may add their own."""
    assert done.returncode == 1
    lines = done.stderr.strip().splitlines()
    ours = [line for line in lines if "text_format.cc" not in line and "absl::InitializeLog" not in line]
    assert len(ours) == 1, done.stderr
    return ours[0]


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_model_that_is_not_there_ends_the_worker(store: Path, command: list[str]) -> None:
    """Given a model that nobody has fetched, then one sentence says where it was looked for."""
    said = sentence_of(ended(command, store, {"FLEET_MODELS": "nobody"}))
    assert "There is no model 'nobody'" in said
    assert str(store) in said


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_network_that_cannot_be_read_ends_the_worker(tmp_path: Path, store: Path, command: list[str]) -> None:
    """Given a model whose file is no network, then one sentence names the model."""
    broken = tmp_path / MODEL
    broken.mkdir()
    for file in (store / MODEL).iterdir():
        (broken / file.name).write_bytes(b"no network" if file.suffix == ".tflite" else file.read_bytes())
    said = sentence_of(ended(command, tmp_path, {}))
    assert f"Model '{MODEL}' cannot be built" in said


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_bad_settings_end_the_worker(store: Path, command: list[str]) -> None:
    """Given two bad variables, then both are named, and nothing else is said."""
    done = ended(command, store, {"FLEET_JOBS": "many", "FLEET_COLOUR": "blue"})
    assert done.returncode == 1
    lines = [line.strip() for line in done.stderr.strip().splitlines()]
    assert len(lines) == 3, done.stderr
    assert lines[1:] == ["FLEET_COLOUR: no such setting", "FLEET_JOBS='many': expected a whole number from 0 to 4,096"]


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_autoscale_is_refused(store: Path, command: list[str]) -> None:
    """Given --autoscale, then one sentence says what to do instead."""
    assert "start more workers" in sentence_of(ended([*command, "--autoscale", "4,2"], store, {}))


def test_no_job_is_taken_before_the_networks_are_ready(bare_fleet: Fleet, store: Path, tmp_path: Path) -> None:
    """Given a job that waits, when a worker cannot load its network, then the job is still there; the next does it."""
    job = bare_fleet.detect()
    assert ended(command_of("w"), store, {"FLEET_MODELS": f"{MODEL},nobody"}, url=bare_fleet.url).returncode != 0
    assert bare_fleet.queued() == 1
    assert bare_fleet.unacked() == 0
    worker = spawn(bare_fleet.url, store, tmp_path)
    assert faces(job.get(timeout=60)) == 1
    eventually(worker.is_ready, "the health file")
    assert worker.stop() == 0


def test_every_thread_of_a_worker_has_the_longer_slice(bare_fleet: Fleet) -> None:
    """Given a worker that has done a job, then OpenVINO's threads, the decoders and the loop keep a core alike.

    A thread or two may be older than the wish: libraries', which their imports started; and one may just end.
    """
    worker = bare_fleet.start()
    bare_fleet.detect().get(timeout=60)
    threads = [int(one.name) for one in Path(f"/proc/{worker.process.pid}/task").iterdir()]
    wanted = 100.0 if slices.slice_of() else 0.0  # kernels before 6.12 say nothing

    assert len(threads) > 8
    assert sum(slices.slice_of(thread) == wanted for thread in threads) >= len(threads) - 3
    assert worker.stop() == 0


def test_a_worker_without_a_broker_waits_for_it(store: Path, tmp_path: Path) -> None:
    """Given no server, then the worker says so and waits; SIGTERM ends it."""
    worker = spawn("redis://127.0.0.1:1/0", store, tmp_path)
    eventually(lambda: "Cannot connect to redis://" in worker.log, "the complaint")
    assert worker.process.poll() is None
    assert not worker.sign.exists()
    assert worker.stop() == 0
