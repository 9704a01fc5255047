"""Redis takes no writes for a while though it is there: too few replicas follow it, as after a failover."""

import time

import pytest
from redis import Redis

from producer import Client
from tests.faults.conftest import StartWorkers
from tests.faults.load import Load, Observer, assert_all_answered, assert_resumes
from tests.servers import Broker


@pytest.mark.parametrize("refused_s", [0.5, 3])
def test_refused_writes_are_done_when_they_pass(
    broker: Broker, picture: bytes, start_workers: StartWorkers, refused_s: float
) -> None:
    """Given load, when all writes are refused for a while, then each accepted job has its answer, and one."""
    start_workers(broker.url)
    with (
        Client(broker.url) as client,
        Observer(broker.url) as observer,
        Redis.from_url(broker.url) as redis,
        Load(client, picture, every_s=0.001) as load,
    ):
        assert_resumes(load)
        redis.config_set("min-replicas-to-write", 1)
        time.sleep(refused_s)  # the outage itself, not a barrier
        redis.config_set("min-replicas-to-write", 0)
        assert_resumes(load)
        assert_all_answered(load, observer)
