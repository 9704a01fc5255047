"""What all tests share: networks and photos, a private server, real workers in processes of their own."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import platformdirs
import pytest
from redis import Redis

from worker import assets, embedded, local, models

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # What a script puts into the background ignores Ctrl-C, and so would every command that a test ends with it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: Starts a worker: ``start_worker(models=..., extra=[...], **FLEET variables without the prefix)``.
StartWorker = Callable[..., "subprocess.Popen[bytes]"]


def pytest_report_header() -> str:
    """Say against which servers TLS is tested."""
    redis = shutil.which("redis-server") or shutil.which("redis-check-rdb")
    return f"TLS: a proxy before Valkey{f', and {redis}' if redis else '; no Redis with TLS is installed'}"


def cache() -> Path:
    """Folder that outlives a run, for what is fetched: networks, photos, compiled networks."""
    chosen = os.environ.get("FLEET_TEST_ASSETS")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("detection-fleet")) / "tests"


@pytest.fixture(scope="session")
def store() -> Path:
    """A model store with all known models."""
    folder = cache() / "models"
    for name in models.KNOWN:
        models.fetch(name, folder)
    return folder


@pytest.fixture(scope="session")
def samples() -> Path:
    """A folder with the sample photos."""
    folder = cache() / "photos"
    assets.fetch_all([name for name in assets.ASSETS if name not in models.KNOWN], folder)
    return folder


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """URL of a private server for the whole run; tests keep apart by using ids and queues of their own."""
    with embedded.server() as url:
        yield url


@pytest.fixture
def own_server() -> Iterator[str]:
    """URL of a server for this test alone."""
    with embedded.server() as url:
        yield url


@pytest.fixture
def redis(own_server: str) -> Iterator[Redis]:
    """A connection to this test's own server."""
    with Redis.from_url(own_server) as connection:
        yield connection


@pytest.fixture(scope="session")
def faces(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a fleet with one CenterFace worker, for tests of examples and docs; the whole run shares it."""
    sign = tmp_path_factory.mktemp("faces") / "health"
    with embedded.server() as url:
        worker = local.start_worker("faces@test", worker_environ(url, store, sign, "centerface", {}))
        try:
            local.await_ready([worker], [sign])
            yield url
        finally:
            local.stop([worker], 15)


@pytest.fixture
def start_worker(store: Path, tmp_path: Path) -> Iterator[StartWorker]:
    """Start real workers, ready when the call returns; stopped at the end of the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(
        url: str, *, served: str = "blazeface_short", extra: Sequence[str] = (), **variables: object
    ) -> "subprocess.Popen[bytes]":
        name = f"w{len(started) + 1}"
        sign = tmp_path / f"{name}.health"
        environ = worker_environ(url, store, sign, served, variables)
        process = local.start_worker(f"{name}@test", environ, extra=extra)
        started.append(process)
        local.await_ready([process], [sign])
        return process

    yield start
    local.stop(started, 15)


def worker_environ(url: str, store: Path, sign: Path, served: str, variables: Mapping[str, object]) -> dict[str, str]:
    """Give the environment of a worker process; ``variables`` are settings in lower case, or whole names."""
    own = {name if name.isupper() else f"FLEET_{name.upper()}": str(value) for name, value in variables.items()}
    return {
        "FLEET_URL": url,
        "FLEET_MODELS": served,
        "FLEET_MODEL_STORE": str(store),
        "FLEET_CACHE_DIR": str(cache() / "compiled"),
        "FLEET_HEALTH_FILE": str(sign),
        "FLEET_DRAIN_S": "10",
        **own,
    }
