"""``fleet status`` shows what is there, also when nobody works."""

import json
import os

from click.testing import CliRunner, Result
from redis import Redis

from producer import Client
from producer.cli import main
from producer.wire import MODELS_KEY, WORKERS_KEY
from tests.conftest import StartWorker
from tests.integration.producer.standin import LARGE, PICTURE
from tests.waiting import eventually


def status(url: str, *words: str) -> Result:
    """Run ``fleet status``."""
    return CliRunner().invoke(main, ["status", "--url", url, *words])


def test_an_empty_server_is_a_fleet_without_workers(url: str) -> None:
    """Given nothing, then it says so, with status 1; a server that is not there is one sentence."""
    done = status(url)
    assert done.exit_code == 1
    assert done.stdout.splitlines()[:3] == ["workers: none", "models: none", "in flight: 0, not ended: 0, dead: 0"]
    nowhere = status("redis://127.0.0.1:1/0")
    assert nowhere.exit_code == 1
    assert nowhere.stderr.startswith("Redis does not answer")


def test_backlog_age_and_bytes_of_every_queue(url: str, redis: Redis, client: Client) -> None:
    """Given jobs of two models on several priorities, then each queue has its number, its age and its bytes."""
    for priority in (9, 0, 5):
        client.submit(LARGE, priority=priority)
    client.submit(PICTURE, model="another")
    redis.lpush("fleet", "not one of ours")
    found = json.loads(status(url, "--json").stdout)
    queues = {one.pop("queue"): one for one in found["queues"]}
    assert {name: one["waiting"] for name, one in queues.items()} == {
        "detect.centerface": 3,
        "detect.another": 1,
        "fleet": 1,
    }
    assert queues["detect.centerface"]["bytes"] > 3 * len(LARGE)
    assert 0 <= queues["detect.centerface"]["oldest_s"] < 60
    assert queues["fleet"] == {"waiting": 1, "oldest_s": None, "bytes": 0}
    assert (found["ledger"], found["in_flight"], found["dead"], found["counters"]) == (4, 0, 0, {})
    assert found["memory"]["used_bytes"] > 3 * len(LARGE)
    assert [line.split("\t")[:2] for line in status(url).stdout.splitlines() if "\t" in line] == [
        ["detect.centerface", "3"],
        ["detect.another", "1"],
        ["fleet", "1"],
    ]


def test_silent_workers_and_models_are_not_served(url: str, redis: Redis) -> None:
    """Given a worker that was last heard of an hour ago, then it is not shown, and its model is not served now."""
    long_ago = redis.time()[0] - 3600
    redis.zadd(WORKERS_KEY, {"gone@host": long_ago})
    redis.hset(MODELS_KEY, mapping={"old": json.dumps({"seen_at": long_ago}), "broken": "{"})
    found = json.loads(status(url, "--json").stdout)
    assert found["workers"] == {}
    assert found["models"] == {"old": {"served": False}, "broken": {"served": False}}


def test_a_real_worker_is_seen(url: str, start_worker: StartWorker) -> None:
    """Given a worker, then its name and its model are there, and the status is 0."""
    start_worker(url)
    eventually(lambda: status(url).exit_code == 0)
    found = json.loads(status(url, "--json").stdout)
    assert list(found["workers"]) == ["w1@test"]
    assert found["models"]["blazeface_short"]["served"]


def test_it_reads_only(url: str, redis: Redis, client: Client) -> None:
    """Given a fleet, when its status is read, then no key is changed, so a reader's ACL suffices."""
    client.submit(LARGE)
    user = f"reader{os.getpid()}"
    redis.acl_setuser(
        user,
        enabled=True,
        passwords=["+secret"],
        keys=["*"],
        commands=["+@read", "+time", "+info", "+hello", "+client", "+select", "+ping"],
    )
    try:
        done = status(url.replace("redis://", f"redis://{user}:secret@"), "--json")
    finally:
        redis.acl_deluser(user)
    assert json.loads(done.stdout)["ledger"] == 1, done.stderr
