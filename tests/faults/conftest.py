"""Workers for servers that break, and what they are fed."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.kit import Worker, small_picture, spawn
from tests.servers import Broker
from tests.waiting import eventually

#: Starts workers on a URL, side by side, and returns when all are ready.
StartWorkers = Callable[..., list[Worker]]


@pytest.fixture
def picture(samples: Path) -> bytes:
    """A photo with one face, too large to ride inside the message."""
    return small_picture(samples)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A server for this test alone, which keeps its data on disk."""
    running = Broker(tmp_path / "data")
    yield running
    running.kill()


@pytest.fixture
def start_workers(store: Path, tmp_path: Path) -> Iterator[StartWorkers]:
    """Start workers with default settings; at the end they must still live, and are stopped."""
    started: list[Worker] = []

    def start(url: str, count: int = 2, **variables: object) -> list[Worker]:
        new = [spawn(url, store, tmp_path, f"f{len(started) + n}", **variables) for n in range(count)]
        started.extend(new)
        for worker in new:
            eventually(worker.is_ready, "a ready worker", 60)
        return new

    yield start
    ended = [worker for worker in started if worker.process.poll() is not None]
    for worker in started:
        worker.kill()
    assert not ended, ended[0].log
