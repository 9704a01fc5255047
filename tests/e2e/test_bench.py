"""The bench measures real contenders, for a model and photos of the user's own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.waiting import eventually


@pytest.mark.timeout(300)
def test_the_bench_measures_a_users_own_model_and_photos(store: Path, samples: Path, tmp_path: Path) -> None:
    """Given a model under another name and a folder with photos, then a table, JSON and sentences come."""
    own = tmp_path / "store" / "mine"
    own.mkdir(parents=True)
    for path in (store / "blazeface_short").iterdir():
        (own / path.name).write_bytes(path.read_bytes())
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "portrait.png").write_bytes((samples / "astronaut.png").read_bytes())
    (photos / "notes.txt").write_text("not a photo")
    figures = tmp_path / "figures.json"
    options = ["--model", "mine", "--images", str(photos), "--rounds", "1", "--count", "40", "--seconds", "1"]
    chosen = ["--only", "three servers", "--only", "fleet: 1 worker", "--json", str(figures)]
    run = subprocess.run(
        [sys.executable, "-c", "from worker.cli import main; main()", "bench", *options, *chosen],
        env={**os.environ, "FLEET_MODEL_STORE": str(own.parent)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    found = json.loads(figures.read_text())
    lines = {line["kind"]["name"]: line for line in found["contenders"]}
    assert {"limit: streams", "synchronous", "asynchronous", "fleet: 1 worker", "fleet: 1 worker, batches"} <= set(
        lines
    )
    assert all(line["rate"] > 0 and line["cpu_ms"]["worker"] > 0 for line in lines.values())
    assert set(lines["fleet: 1 worker"]["cpu_ms"]) == {"client", "redis", "worker"}
    assert found["photos"] == ["portrait.png"]
    assert len(found["sentences"]) >= 8
    assert "left out" not in run.stdout
    assert "fleet: 1 worker" in run.stdout


def test_the_bench_says_what_is_missing(tmp_path: Path) -> None:
    """Given what cannot be measured, or written down, then one sentence says so before anything is."""
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    for options, sentence in (
        (["--images", str(tmp_path)], "There is no photo in"),
        (["--model", "nobody"], "There is no model 'nobody'"),
        (["--only", "nonsense"], "No contender is called 'nonsense'"),
        (["--json", "/proc/none/figures.json"], "The figures cannot be written to /proc/none/figures.json"),
    ):
        run = subprocess.run(
            [sys.executable, "-m", "worker.bench", *options],
            env={**os.environ, "FLEET_MODEL_STORE": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert run.returncode == 1
        assert sentence in run.stderr
        assert ("cut.jpg is left out: The JPEG" in run.stdout) == ("--images" in options)
        assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("number", "count", "busy"),
    [(signal.SIGTERM, 20, "worker -n bench0"), (signal.SIGINT, 100_000, "worker.bench.child")],
)
def test_a_bench_that_is_stopped_leaves_nothing_behind(
    store: Path, tmp_path: Path, number: signal.Signals, count: int, busy: str
) -> None:
    """Given SIGTERM while a worker starts, or Ctrl-C in minutes of work, then all ends soon, and no folder stays."""
    command = [sys.executable, "-c", "from worker.cli import main; main()", "bench", "--model", "blazeface_short"]
    environ = {**os.environ, "FLEET_MODEL_STORE": str(store), "TMPDIR": str(tmp_path)}
    options = ["--count", str(count), "--seconds", "0.5", "--rounds", "9", "--only", "fleet: 1 worker"]
    with subprocess.Popen([*command, *options], env=environ, stdout=subprocess.DEVNULL) as run:
        itself = psutil.Process(run.pid)
        eventually(lambda: _has_worked(itself, busy), "work")
        started = itself.children(recursive=True)
        run.send_signal(number)
        assert run.wait(25) == (143 if number == signal.SIGTERM else 1)
    _, alive = psutil.wait_procs(started, 10)
    assert not alive
    assert list(tmp_path.iterdir()) == []


def _has_worked(bench: psutil.Process, busy: str) -> bool:
    """Tell whether a child with such a command has had some time of a core."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return any(
            busy in " ".join(one.cmdline()) and sum(one.cpu_times()[:2]) > 1 for one in bench.children(recursive=True)
        )
    return False


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("script", "options", "says"),
    [
        ("cold_start", ["--model", "blazeface_short", "--rounds", "1"], "full cache"),
        ("growth", ["backlog", "--jobs", "50", "--most", "10"], "an urgent job takes"),
        ("growth", ["one", "payload", "100000", "50", "1"], '"redis"'),
        ("growth", ["one", "workers", "2", "64", "16"], '"commands"'),
        (
            "slices",
            ["--workers=1", "--workers=2", "--slice-ms=100", "--images=40", "--seconds=1", "--rounds=1"],
            "2 workers, 100 ms",
        ),
        (
            "alive",
            ["--model", "blazeface_short", "--images", "40", "--rounds", "2", "--with", "fleet: 1 worker"],
            "  threads of its workers: ",
        ),
        (
            "trees",
            ["--model", "blazeface_short", "--images", "40", "--rounds", "2", ".", ". FLEET_DECODERS=1"],
            ". FLEET_DECODERS=1\n  wall ",
        ),
        ("batching", ["--rounds", "1", "--seconds", "0.1"], "8 images an inference"),
    ],
)
def test_what_the_docs_give_figures_of_can_be_measured(store: Path, script: str, options: list[str], says: str) -> None:
    """Given each script in short, then it starts what it measures and prints its figures."""
    run = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{script}", *options],
        env={**os.environ, "FLEET_MODEL_STORE": str(store)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert says in run.stdout
