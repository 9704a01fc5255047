"""Redis takes no writes for a while though it is there: too few replicas follow it, or it cannot save its data."""

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from producer import Client
from tests.faults.conftest import StartWorkers
from tests.faults.load import Load, Observer, assert_all_answered, assert_resumes
from tests.servers import Broker
from tests.waiting import eventually

#: What a worker's log says, in Celery's words and in ours, when an outcome was not stored: that job may be done again,
#: and answered after all.
GIVEN_UP = ("Exception raised outside body", "job.not_stored")


@contextlib.contextmanager
def too_few_replicas(redis: Redis) -> Iterator[str]:
    """Want a replica for the length of the block, as after a failover; there is none."""
    redis.config_set("min-replicas-to-write", 1)
    yield "NOREPLICAS"
    redis.config_set("min-replicas-to-write", 0)


@contextlib.contextmanager
def unable_to_save(redis: Redis) -> Iterator[str]:
    """Put a folder where the server wants to save its data, for the length of the block."""
    redis.config_set("save", "3600 1000000")  # one that never saves does not mind
    file = Path(redis.config_get("dir")["dir"], redis.config_get("dbfilename")["dbfilename"])
    file.mkdir()
    save(redis, "err")
    yield "MISCONF"
    file.rmdir()
    save(redis, "ok")


def save(redis: Redis, outcome: str) -> None:
    """Have the server save its data, and wait until it says how that went."""
    redis.bgsave()
    eventually(lambda: redis.info("persistence")["rdb_last_bgsave_status"] == outcome, f"a saving that is {outcome}")


@pytest.mark.parametrize("refused_s", [0.5, 3])
@pytest.mark.parametrize("refusing", [too_few_replicas, unable_to_save])
def test_refused_writes_are_done_when_they_pass(
    broker: Broker,
    picture: bytes,
    start_workers: StartWorkers,
    refusing: Callable[[Redis], AbstractContextManager[str]],
    refused_s: float,
) -> None:
    """Given load, when all writes are refused for a while, then each accepted job has one answer, its first outcome."""
    workers = start_workers(broker.url)
    with (
        Client(broker.url) as client,
        Observer(broker.url) as observer,
        Redis.from_url(broker.url) as redis,
        Load(client, picture, every_s=0.001) as load,
    ):
        assert_resumes(load)
        with refusing(redis) as reason:
            with pytest.raises(ResponseError, match=reason):
                redis.set("any", b"")
            time.sleep(refused_s)  # the outage itself, not a barrier
        assert_resumes(load)
        assert_all_answered(load, observer)
    for words in GIVEN_UP:
        assert [worker.log for worker in workers if words in worker.log] == []
