"""A fleet for each module: one private server and, unless the module starts its own, one worker that its tests share.

A module says how its worker is started: ``WORKER = {"extra": [...], "jobs": 4}``; see :meth:`kit.Fleet.start`.
"""

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.client import Pipeline

from tests.integration.kit import Fleet, small_picture
from worker import embedded


@pytest.fixture(scope="module")
def bare_fleet(store: Path, samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Give a server without a worker; tests start their own."""
    with embedded.server() as url:
        made = Fleet(url, store, tmp_path_factory.mktemp("fleet"), small_picture(samples))
        yield made
        made.close()


@pytest.fixture(scope="module")
def fleet(bare_fleet: Fleet, request: pytest.FixtureRequest) -> Fleet:
    """Give the module's fleet with its one worker, ready."""
    bare_fleet.start(**getattr(request.module, "WORKER", {}))
    return bare_fleet


@pytest.fixture
def traced_pipelines(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Leave redis-py as OpenTelemetry does; give the names of the commands of each pipeline from here on."""
    seen: list[list[str]] = []

    @functools.wraps(Pipeline.execute)
    def execute(self: Pipeline, raise_on_error: bool = True) -> list[object]:
        seen.append([command[0][0] for command in self.command_stack])
        return execute.__wrapped__(self, raise_on_error)

    monkeypatch.setattr(Pipeline, "execute", execute)
    return seen
