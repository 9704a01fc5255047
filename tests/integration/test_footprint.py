"""What a model is said to take is what workers take for it."""

from pathlib import Path

import psutil
import pytest

from tests.conftest import worker_environ
from tests.integration.kit import spawn
from tests.waiting import eventually
from worker import embedded, footprint

SMALL, LARGE = "blazeface_short", "centerface"
HOW = {"threads": 2, "streams": 2, "requests": 4, "precision": "f32", "cache_dir": ""}


def resident_bytes(url: str, store: Path, folder: Path, served: str) -> int:
    """Start a worker and tell how much memory it takes when it is ready."""
    worker = spawn(url, store, folder, served.replace(",", "-"), served=served, **HOW)
    try:
        eventually(worker.is_ready, "a ready worker", 60)
        return int(psutil.Process(worker.process.pid).memory_info().rss)
    finally:
        worker.kill()


def test_a_worker_takes_what_its_models_are_said_to_take(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given workers with one model, another, and both, then they differ by what `models show` says of each."""
    with embedded.server() as url:
        for name, value in worker_environ(url, store, tmp_path / "x", SMALL, HOW).items():
            monkeypatch.setenv(name, value)
        small, large = footprint.of(SMALL), footprint.of(LARGE)
        assert small is not None
        assert large is not None
        taken = {names: resident_bytes(url, store, tmp_path, names) for names in (SMALL, LARGE, f"{SMALL},{LARGE}")}

    difference, told = taken[LARGE] - taken[SMALL], large.size_bytes - small.size_bytes
    assert 0.5 * told < difference < 1.5 * told
    assert taken[f"{SMALL},{LARGE}"] - taken[SMALL] < 1.25 * large.size_bytes
