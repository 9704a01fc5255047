"""The master dies and Sentinel puts its replica in its place: ``sentinel://``, with real processes."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from producer import AsyncClient, Client
from tests.faults.conftest import StartWorkers
from tests.faults.load import Load, Observer, Tally, assert_resumes
from tests.integration.kit import MODEL
from tests.servers import Group


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Group]:
    """A master, its replica and three Sentinels."""
    made = Group(tmp_path)
    yield made
    made.close()


def test_a_failover_is_outlived(group: Group, picture: bytes, start_workers: StartWorkers) -> None:
    """Given load, when the master dies, then clients and workers go on at the new one without a restart.

    Redis replicates after it has acknowledged, so the last moment before the death may be lost: such a job is a typed
    error by its deadline, and never a second answer. A worker that had taken its message misses its image.
    """
    start_workers(group.url)
    with Client(group.url) as client, Observer(group.master.url) as observer:
        with Load(client, picture, deadline_s=20) as load:
            assert_resumes(load)
            group.fail_over()
            observer.url = group.master.url
            assert_resumes(load)
            load.stop()
        tally = Tally.of(load.accepted, 40)
        assert tally.silent == 0
        assert {error.partition(":")[0] for error in tally.errors} <= {"deadline_exceeded", "payload_missing"}
        assert tally.errors.total() <= 3
        assert observer.twice() == []

    async def detects() -> str:
        async with AsyncClient(group.url, model=MODEL) as other:
            return (await other.detect(picture)).model

    assert asyncio.run(detects()) == MODEL
