"""A firewall forgets connections: what is sent on them goes nowhere, and nobody is told. New connections work."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from producer import AsyncClient, Client
from tests.faults.conftest import StartWorkers
from tests.faults.load import RESUMES_WITHIN_S, Load, Observer, assert_all_answered, assert_resumes
from tests.integration.kit import MODEL
from tests.servers import Broker, Proxy


@pytest.fixture
def proxy(broker: Broker) -> Iterator[Proxy]:
    """The way to the server."""
    made = Proxy(broker.port)
    yield made
    made.close()


def test_forgotten_connections_are_replaced(
    broker: Broker, proxy: Proxy, picture: bytes, start_workers: StartWorkers
) -> None:
    """Given workers and a client under load, when all connections are forgotten, then both go on within ten seconds."""
    start_workers(proxy.url)
    with Client(proxy.url) as client, Observer(broker.url) as observer, Load(client, picture) as load:
        assert_resumes(load)
        assert proxy.forget() > 10
        assert_resumes(load)
        assert_all_answered(load, observer)


def test_a_waiting_client_hears_of_results_again(
    broker: Broker, proxy: Proxy, picture: bytes, start_workers: StartWorkers
) -> None:
    """Given clients that only wait, when just their connections are forgotten, then the results reach them."""
    with Client(proxy.url, model=MODEL) as client:
        jobs = [client.submit(picture) for _ in range(3)]
        forgotten_at = time.monotonic()
        assert proxy.forget() > 1
        start_workers(broker.url, 1)
        left_s = max(RESUMES_WITHIN_S - (time.monotonic() - forgotten_at), 5.0)
        assert [job.error(timeout=left_s) for job in jobs] == [None] * 3

    async def waits() -> str:
        async with AsyncClient(proxy.url, model=MODEL) as client:
            await client.detect(picture)
            proxy.forget()
            return (await asyncio.wait_for(client.detect(picture), RESUMES_WITHIN_S)).model

    assert asyncio.run(waits()) == MODEL


def test_broken_connections_are_replaced(
    broker: Broker, proxy: Proxy, picture: bytes, start_workers: StartWorkers
) -> None:
    """Given connections that are cut twice under load, then each accepted job is answered, and none twice."""
    start_workers(proxy.url, 1, lease_s=4)
    with Client(proxy.url) as client, Observer(broker.url) as observer, Load(client, picture) as load:
        for _ in range(2):
            assert_resumes(load)
            assert proxy.cut() > 3
        assert_resumes(load)
        assert_all_answered(load, observer)
