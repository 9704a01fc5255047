"""A short visibility timeout means a dead worker, not a long job."""

from types import SimpleNamespace

from celery import Celery
from redis import Redis

from tests.conftest import StartWorker
from tests.waiting import eventually
from worker.bootsteps import LeaseRenewal
from worker.broker import GuardedConnection
from worker.clock import redis_clock

#: Seconds after which a silent worker counts as dead, here.
LEASE_S = 2


def test_a_job_longer_than_the_lease_is_done_once(own_server: str, redis: Redis, start_worker: StartWorker) -> None:
    """Given two workers, when a job takes three leases, then it runs once."""
    for _ in range(2):
        start_worker(own_server, lease_s=LEASE_S, extra=["-I", "tests.integration.lease_tasks"])
    app = Celery(broker=own_server, backend=own_server)

    answer = app.send_task("lease.nap", [3 * LEASE_S, "long"], queue="fleet").get(timeout=30)

    assert answer == "long"
    assert redis.lrange("lease:begun", 0, -1) == [b"long"]
    assert not redis.hexists("fleet:counters", "lapsed")


def test_jobs_of_a_killed_worker_are_done_by_another(own_server: str, redis: Redis, start_worker: StartWorker) -> None:
    """Given a worker that holds jobs, when it is killed, then another does them soon after its lease ended."""
    doomed = start_worker(own_server, lease_s=LEASE_S, extra=["-I", "tests.integration.lease_tasks"])
    app = Celery(broker=own_server, backend=own_server)
    answers = [app.send_task("lease.nap", [1.5, str(number)], queue="fleet") for number in range(5)]
    eventually(lambda: redis.llen("lease:begun") == 5, "the beginning of all jobs")

    doomed.kill()
    start_worker(own_server, lease_s=LEASE_S, extra=["-I", "tests.integration.lease_tasks"])

    assert [answer.get(timeout=30) for answer in answers] == ["0", "1", "2", "3", "4"]
    eventually(lambda: redis.hlen("unacked") == 0, "the acknowledgement of all jobs")
    assert redis.hget("fleet:counters", "lapsed") == b"5"


def test_leases_are_renewed_and_the_time_is_learnt_while_memory_is_full(own_server: str, redis: Redis) -> None:
    """Given a message that is held, when Redis's memory is full, then its lease is renewed all the same."""
    held, channel = "a tag", GuardedConnection(own_server).default_channel
    channel.do_restore = False  # when this process ends, there is no server any more
    channel.qos._delivered[held] = None
    redis.zadd("unacked_index", {held: 1.0})
    redis.config_set("maxmemory", 1)
    redis_clock.set(1, 0)

    LeaseRenewal.renew(channel.qos)

    assert abs(redis_clock.now() - redis.time()[0]) < 60
    assert 1.0 < redis.zscore("unacked_index", held) < 60  # by the clock that was known then


def test_leases_are_renewed_as_soon_as_there_is_a_connection(own_server: str, redis: Redis) -> None:
    """Given a new loop, whose timers may never fire, then what is held is renewed before it turns."""
    held, channel = "a tag", GuardedConnection(own_server, transport_options={"visibility_timeout": 9}).default_channel
    channel.do_restore = False
    channel.qos._delivered[held] = None
    redis.zadd("unacked_index", {held: 1.0})
    hub = SimpleNamespace(call_repeatedly=lambda *_: None, on_tick=set())

    step = LeaseRenewal(SimpleNamespace())
    step.register_with_event_loop(SimpleNamespace(task_consumer=SimpleNamespace(channel=channel), pool=None), hub)

    assert redis.zscore("unacked_index", held) != 1.0
