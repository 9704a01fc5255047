"""Redis refuses writes because its memory is full, as ``noeviction`` wants it."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from producer import Client
from producer.errors import Overloaded
from producer.wire import JOBS_KEY
from tests.faults.conftest import StartWorkers
from tests.faults.load import Load, Observer, Tally, assert_all_answered, assert_resumes
from tests.integration.kit import MODEL
from tests.servers import Broker
from tests.waiting import eventually


@pytest.fixture
def small(tmp_path: Path) -> Any:
    """A server with room for a few hundred images."""
    running = Broker(tmp_path / "small", maxmemory="8mb", appendfsync="no")
    yield running
    running.kill()


def test_workers_empty_a_full_server(small: Broker, picture: bytes, start_workers: StartWorkers) -> None:
    """Given a server filled with images, and more so than it may be, when a worker starts, then all are answered."""
    with (
        Client(small.url, model=MODEL, when_full="refuse") as client,
        Observer(small.url) as observer,
        Redis.from_url(small.url) as redis,
    ):
        jobs = []
        with contextlib.suppress(Overloaded):
            while len(jobs) < 10_000:
                jobs.append(client.submit(picture))
        used: Any = redis.info("memory")
        small.set_memory(used["used_memory"] - 100_000)

        start_workers(small.url, 1)

        tally = Tally.of(jobs, 60)
        assert (tally.answered, tally.silent, observer.twice()) == (len(jobs), 0, [])
        assert 50 < len(jobs) < 1000
        client.detect(picture)
        eventually(lambda: redis.hlen("unacked") == redis.hlen(JOBS_KEY) == 0, "the end of all records")
        eventually(lambda: not list(redis.scan_iter("fleet:blob:*")), "the end of all images")


def test_a_server_that_becomes_full_under_load(broker: Broker, picture: bytes, start_workers: StartWorkers) -> None:
    """Given load, when there is no memory and then there is again, then the client is told, and nothing is lost."""
    start_workers(broker.url, 1)
    with (
        Client(broker.url, when_full="refuse") as client,
        Observer(broker.url) as observer,
        Load(client, picture) as load,
    ):
        assert_resumes(load)
        broker.set_memory(1_000_000)
        eventually(lambda: len(load.refused) > 20, "refused submits")
        assert {error.code for error in load.refused} == {"overloaded"}
        broker.set_memory(0)
        assert_resumes(load)
        assert_all_answered(load, observer)
