"""What serves is seen by whoever looks at the fleet."""

import json
import time

import pytest
from click.testing import CliRunner
from redis import Redis

from producer import Client, UnknownModel
from producer.cli import main
from producer.wire import MODELS_KEY, WORKERS_KEY
from tests.swap.conftest import Marks
from tests.swap.versions import NAME, picture
from tests.waiting import eventually
from worker.rollout import GATHER_S


def test_fleet_status_names_versions_digests_and_shares(marks: Marks) -> None:
    """Given a canary, then `fleet status` names both versions with their shares."""
    marks.start()
    marks.swap(2, share=0.25)

    def told() -> bool:
        said = CliRunner().invoke(main, ["status", "--url", marks.url]).output
        return f"marks (@1 {marks.digests[1]} 0.75, @2 {marks.digests[2]} 0.25)" in said

    eventually(told, "both versions in the status")


def alive(redis: Redis) -> set[str]:
    return {name.decode() for name in redis.zrange(WORKERS_KEY, 0, -1)}


def test_a_worker_that_stops_in_order_is_no_longer_counted(marks: Marks, redis: Redis) -> None:
    """Given two workers of which one is stopped, then it has taken itself out when it ends, and a change asks one."""
    first, second = marks.start(), marks.start()
    eventually(lambda: alive(redis) == {first.name, second.name}, "both workers")

    assert first.stop() == 0

    assert alive(redis) == {second.name}
    assert [one.worker for one in marks.swap(2)] == [second.name]


def test_a_ready_worker_is_counted_and_asking_ends_when_all_have_answered(marks: Marks) -> None:
    """Given workers that have just become ready, then none is missed, and nobody waits for more than are there."""
    names = {marks.start().name, marks.start().name}

    began = time.monotonic()
    fastest = GATHER_S
    for _ in range(5):
        assert set(marks.served()) == names
        fastest, began = min(fastest, time.monotonic() - began), time.monotonic()

    assert fastest < GATHER_S / 2


@pytest.mark.parametrize("restarted", [False, True])
def test_an_unknown_model_is_an_error_within_a_second(marks: Marks, restarted: bool) -> None:
    """Given a fleet that serves a model, also when it has just begun anew, then another name fails within a second."""
    worker = marks.start()
    if restarted:
        worker.stop()
        marks.start()
    for name in ("elsewhere", "mark", f"{NAME}s"):
        with Client(marks.url) as client:
            began = time.monotonic()
            with pytest.raises(UnknownModel, match=NAME):
                client.submit(picture(60), model=name)
            assert time.monotonic() - began < 1


def test_a_model_whose_workers_are_away_keeps_its_queue(marks: Marks, redis: Redis) -> None:
    """Given one of two models that nobody serves now, then its jobs wait; a third name is an error within a second."""
    marks.start()
    redis.hset(MODELS_KEY, "away", json.dumps({"digest": "0", "seen_at": 0}))
    with Client(marks.url) as client:
        assert client.detect(picture(60)).model == NAME  # the only one that is served needs no name
        client.submit(picture(60), model="away").cancel()
        began = time.monotonic()
        with pytest.raises(UnknownModel, match=f"'nobody'; there are away, {NAME}"):
            client.submit(picture(60), model="nobody")
        assert time.monotonic() - began < 1
