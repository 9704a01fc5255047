"""A flood of jobs at a fleet that stands still."""

from pathlib import Path

import pytest
from redis import Redis

from producer import Client, Overloaded
from producer.books import BYTES_KEY, SIZES_KEY
from producer.wire import JOBS_KEY
from tests.conftest import StartWorker
from tests.integration.kit import small_picture
from tests.waiting import eventually


@pytest.mark.timeout(300)
def test_a_flood_against_a_stopped_fleet_leaves_redis_alive(
    own_server: str, samples: Path, start_worker: StartWorker
) -> None:
    """Given no worker and little memory, when 20,000 jobs are submitted, then each is accepted or overloaded.

    Redis stays under its limit with room for results: a worker that comes then answers every accepted job.
    """
    picture, accepted, refused = small_picture(samples), [], 0
    with (
        Redis.from_url(own_server) as redis,
        Client(own_server, model="blazeface_short", max_backlog=10**9, when_full="refuse") as client,
    ):
        redis.config_set("maxmemory", 32 * 1024**2)
        for _ in range(20_000):
            try:
                accepted.append(client.submit(picture))
            except Overloaded:
                refused += 1
        memory = redis.info("memory")
        assert len(accepted) + refused == 20_000
        assert len(accepted) > 500
        assert memory["used_memory"] < 0.85 * memory["maxmemory"]
        assert len(redis.keys("fleet:blob:*")) == redis.llen("detect.blazeface_short") == len(accepted)

        start_worker(own_server)
        for job in accepted:
            assert len(job.result(60).detections) == 1
        eventually(lambda: not redis.exists(BYTES_KEY, SIZES_KEY, JOBS_KEY))
        client.submit(picture)
