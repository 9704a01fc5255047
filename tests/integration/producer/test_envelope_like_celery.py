"""Our messages are Celery's, key by key."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from redis import Redis

from producer.envelope import control_channel, revoke_message, task_message
from producer.wire import queue_keys

ARGS = [{"ref": "fleet:blob:0123"}]
KWARGS = {"v": 1, "model": "centerface"}
EXPIRES = "2031-01-02T03:04:05.678901+00:00"


@pytest.fixture
def app(url: str) -> Iterator[Celery]:
    """Give Celery's own sender, on the same server."""
    with Celery("sender", broker=url, backend=url) as made:
        yield made


def sent_by_celery(app: Celery, redis: Redis, priority: int) -> tuple[str, bytes]:
    """Send with Celery and take what arrived out of the server."""
    message = app.amqp.as_task_v2(
        "the-id", "fleet.detect", ARGS, KWARGS, expires=EXPIRES, argsrepr="(photo.jpg)", kwargsrepr="{}"
    )
    with app.producer_pool.acquire(block=True) as producer:
        app.amqp.send_task_message(producer, "fleet.detect", message, queue="detect.centerface", priority=priority)
    (key,) = redis.keys("detect.*")
    return key.decode(), redis.rpop(key)


@pytest.mark.parametrize("priority", range(10))
def test_a_task_message_is_the_one_that_celery_pushes(app: Celery, redis: Redis, priority: int) -> None:
    """Given the same task, when both build it, then list, keys, values and order are the same."""
    key, theirs = sent_by_celery(app, redis, priority)
    ours = task_message(
        task_id="the-id",
        task="fleet.detect",
        queue="detect.centerface",
        args=ARGS,
        kwargs=KWARGS,
        expires=EXPIRES,
        priority=priority,
        argsrepr="(photo.jpg)",
        kwargsrepr="{}",
    )
    assert ours.key == key
    tag = json.loads(theirs)["properties"]["delivery_tag"]
    assert json.loads(ours.body)["properties"]["delivery_tag"] == ours.tag
    assert ours.body.replace(ours.tag.encode(), tag.encode()) == theirs


def test_kombu_looks_at_the_lists_that_we_measure(app: Celery) -> None:
    """Given a queue, then kombu's names for its priorities are ours."""
    with app.connection() as connection, connection.channel() as channel:
        assert queue_keys("q") == tuple(channel._q_for_pri("q", step) for step in channel.priority_steps)


def test_a_revoke_is_the_one_that_celery_broadcasts(app: Celery, redis: Redis) -> None:
    """Given the same ids, when both revoke them, then the channel and the message are the same."""
    with redis.pubsub(ignore_subscribe_messages=False) as heard:
        heard.psubscribe("*pidbox")
        assert heard.get_message(timeout=5)["type"] == "psubscribe"
        app.control.revoke(["a", "b"], terminate=True, signal="SIGTERM")
        message = heard.get_message(timeout=5)
    assert message["channel"].decode() == control_channel(0)
    assert _timeless(message["data"]) == _timeless(revoke_message(["a", "b"]))


def _timeless(raw: bytes) -> dict[str, Any]:
    message = json.loads(raw)
    for where, name in (("headers", "clock"), ("headers", "expires"), ("properties", "delivery_tag")):
        assert message[where].pop(name) is not None
    return message
