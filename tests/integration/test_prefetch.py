"""What a worker fetches beyond what it does: as many images as its prefetch count, however many a message has."""

import base64
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import kombu
import pytest

from producer.wire import LATER_PREFIX
from tests.integration.kit import QUEUE, USER_TASKS, Fleet, Gate, faces
from tests.waiting import eventually
from worker.broker import GuardedConnection
from worker.guard import weigh

#: Four places, so a prefetch count of eight.
WORKER: dict[str, Any] = {"extra": [*USER_TASKS, "-c", "4"]}


@pytest.fixture
def gates(fleet: Fleet) -> Iterator[list[Gate]]:
    """Hold all four places until the test has looked."""
    held = [fleet.gate().entered() for _ in range(4)]
    yield held
    for gate in held:
        gate.open()
        assert gate.job.get(timeout=30) == "through"
    eventually(lambda: not fleet.queued() and not fleet.unacked(), "the end of the other jobs")


def left(fleet: Fleet, of: int, taken: int) -> int:
    """Wait until the worker has taken some, let its loop turn, and tell how many messages are still in the queue."""
    eventually(lambda: fleet.queued() <= of - taken, "what it takes")
    for _ in range(3):
        fleet.inspect("ping")
    return fleet.queued()


@pytest.mark.usefixtures("gates")
def test_single_images_are_fetched_up_to_the_prefetch_count(fleet: Fleet) -> None:
    """Given no free place and ten images, then the worker takes three or four: it fetches two at once."""
    for _ in range(10):
        fleet.detect()
    assert left(fleet, 10, 3) in (6, 7)


@pytest.mark.usefixtures("gates")
def test_a_few_batches_are_enough(fleet: Fleet) -> None:
    """Given no free place and ten batches of six, then the worker takes one or two: the rest is for who is idle."""
    for _ in range(10):
        fleet.app.send_task("fleet.detect_many", [[fleet.image] * 6], queue=QUEUE)
    assert left(fleet, 10, 1) >= 8


def test_batches_larger_than_the_prefetch_count_follow_each_other(fleet: Fleet) -> None:
    """Given batches of twenty, then each is answered, for one is at hand while another is at work."""
    send = fleet.app.send_task
    jobs = [send("fleet.detect_many", [[fleet.image] * 20], queue=QUEUE) for _ in range(6)]
    assert [len(job.get(timeout=30)) for job in jobs] == [20] * 6


def test_messages_for_later_do_not_keep_large_batches_away(fleet: Fleet) -> None:
    """Given three jobs for later and batches of more images than the prefetch count, then each batch is answered."""
    later = [fleet.detect(countdown=8) for _ in range(3)]
    eventually(lambda: len(fleet.inspect("scheduled")) == 3, "the schedule")
    send = fleet.app.send_task
    jobs = [send("fleet.detect_many", [[fleet.image] * 20], queue=QUEUE) for _ in range(3)]
    assert [len(job.get(timeout=30)) for job in jobs] == [20] * 3
    assert not any(job.ready() for job in later)
    assert [faces(job.get(timeout=30)) for job in later] == [1] * 3


def test_many_images_for_later_do_not_keep_a_worker_from_what_can_be_done_now(fleet: Fleet) -> None:
    """Given more images for later than a worker holds, then one for now is answered, and the others in their time."""
    large = {"data": base64.b64encode(fleet.picture + bytes(180_000)).decode()}
    due = datetime.now(UTC) + timedelta(seconds=25)  # sending takes some seconds on a busy machine
    later = [fleet.detect(large, eta=due) for _ in range(120)]  # 37 MB
    eventually(lambda: fleet.redis.zcard(f"{LATER_PREFIX}{QUEUE}") > 40, "what a worker does not hold")
    assert faces(fleet.detect().get(timeout=5)) == 1
    assert not any(job.ready() for job in later)
    assert [faces(job.get(timeout=60)) for job in later] == [1] * len(later)
    eventually(lambda: not fleet.unacked() and not fleet.redis.exists(f"{LATER_PREFIX}{QUEUE}"), "the end")


def test_what_is_in_flight_counts_on_the_next_connection_too(fleet: Fleet) -> None:
    """Given a batch that is held when its connection is lost, then it weighs as much on the one that takes it over."""
    queue, held = kombu.Queue("adopted"), []
    fleet.app.send_task("fleet.detect_many", [[fleet.image] * 6], queue="adopted")
    with (
        GuardedConnection(fleet.url) as lost,
        GuardedConnection(fleet.url) as new,
        kombu.Consumer(lost, [queue], on_message=held.append, accept=["json"]) as consumer,
    ):
        lost.drain_events(timeout=5)
        weigh(held[0])
        before, taking = consumer.channel.qos, new.channel().qos
        taking.adopt(held[0])
        weigh(held[0])
        assert dict(taking.held) == dict(before.held) == {"adopted": 6}
        assert 0 < taking.held_bytes <= before.held_bytes
        held[0].ack()
        assert (taking.held["adopted"], taking.held_bytes) == (0, 0)
        before.ack(held[0].delivery_tag)
