"""Jobs for later that lie in Redis: all that are due come back at once, whatever else somebody put among them."""

import json

import pytest
from redis import Redis

from producer.wire import LATER_PREFIX
from worker import later

QUEUE = "detect.any"


def put(redis: Redis, number: int, *, due_s: float) -> None:
    """Put a message there as :mod:`worker.leases` writes it."""
    message = {"body": str(number), "headers": {}, "properties": {"priority": 0, "delivery_tag": str(number)}}
    redis.zadd(LATER_PREFIX + QUEUE, {json.dumps([message, QUEUE, QUEUE]): due_s})


def test_all_that_are_due_come_back_at_once_and_no_others(redis: Redis) -> None:
    """Given more than one go brings, and one for another day, then the queue has all but that, each once."""
    seconds, _ = redis.time()
    for number in range(2 * later.CHUNK + 50):
        put(redis, number, due_s=seconds - 1)
    put(redis, -1, due_s=seconds + 3600)

    later.bring_back(redis, [QUEUE])
    later.bring_back(redis, [QUEUE])

    bodies = [int(json.loads(raw)["body"]) for raw in redis.lrange(QUEUE, 0, -1)]
    assert sorted(bodies) == list(range(2 * later.CHUNK + 50))
    assert redis.zcard(LATER_PREFIX + QUEUE) == 1


@pytest.mark.parametrize(
    "junk", [b"\xff", b"7", b"[]", b"{}", b'[{"properties": {}}]', b'[{"properties": {"priority": "x"}}]']
)
def test_what_is_no_message_does_not_hold_up_the_others(redis: Redis, junk: bytes) -> None:
    """Given bytes that nobody can read among those that are due, then they go, and the others come back."""
    redis.zadd(LATER_PREFIX + QUEUE, {junk: 0.0})
    put(redis, 1, due_s=1.0)

    later.bring_back(redis, [QUEUE])

    assert redis.llen(QUEUE) == 1
    assert not redis.exists(LATER_PREFIX + QUEUE)


def test_a_key_of_another_kind_keeps_no_other_queue_s_from_coming_back(redis: Redis) -> None:
    """Given a string where another queue's messages for later should be, then this one's come back."""
    redis.set(LATER_PREFIX + "detect.other", b"no sorted set")
    put(redis, 1, due_s=1.0)

    later.bring_back(redis, ["detect.other", QUEUE])

    assert redis.llen(QUEUE) == 1


def test_a_message_whose_list_is_none_stays_until_it_is_one(redis: Redis) -> None:
    """Given a string where the queue's list should be, then a message that is due is not lost."""
    redis.set(QUEUE, b"no list")
    put(redis, 1, due_s=1.0)
    later.bring_back(redis, [QUEUE])
    assert redis.zcard(LATER_PREFIX + QUEUE) == 1

    redis.delete(QUEUE)
    later.bring_back(redis, [QUEUE])

    assert redis.llen(QUEUE) == 1
    assert not redis.exists(LATER_PREFIX + QUEUE)
