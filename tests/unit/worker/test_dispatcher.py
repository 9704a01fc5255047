"""Events of jobs: all are published while somebody listens, and of each group one while nobody does."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery
from kombu import Exchange
from redis import Redis
from redis.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.waiting import eventually
from worker.dispatcher import MOST_BUFFERED, HeardDispatcher

#: Makes a dispatcher of events, in groups, on the broker with this URL.
Make = Callable[[str], HeardDispatcher]


class Watched:
    """A producer that notes the numbers of the events of each message, and may have something happen before."""

    def __init__(self, producer: Any) -> None:
        self._producer = producer
        self.published: list[list[int]] = []
        self.before: Callable[[], None] = lambda: None
        self.retried: bool | None = None

    def publish(self, events: list[dict[str, Any]] | dict[str, Any], **how: Any) -> None:
        """Publish a message."""
        self.before()
        self.retried = how["retry"]
        self._producer.publish(events, **how)
        self.published.append([event["number"] for event in (events if isinstance(events, list) else [events])])


@pytest.fixture
def make() -> Iterator[Make]:
    """Make dispatchers as a worker does, whose producers are watched."""
    open_ones: list[Any] = []

    def made(url: str) -> HeardDispatcher:
        app = Celery(
            broker=url, amqp="worker.broker:FleetAMQP", events="worker.dispatcher:FleetEvents", set_as_current=False
        )
        connection = app.connection_for_write()
        open_ones[:0] = connection, app
        dispatcher: HeardDispatcher = app.events.Dispatcher(connection, hostname="w@test", buffer_group=["task"])
        dispatcher.producer = Watched(dispatcher.producer)
        return dispatcher

    yield made
    for one in open_ones:
        one.close()


@pytest.fixture
def dispatcher(make: Make, own_server: str) -> HeardDispatcher:
    """A dispatcher on this test's own server."""
    return make(own_server)


@pytest.fixture
def listen(redis: Redis) -> Iterator[Callable[[], PubSub]]:
    """Subscribe to all broadcasts; whoever does is known to the server when the call returns."""
    made: list[PubSub] = []

    def subscribed() -> PubSub:
        pubsub = redis.pubsub()
        made.append(pubsub)
        pubsub.psubscribe("/*")
        assert eventually(pubsub.get_message, "the subscription")["type"] == "psubscribe"
        return pubsub

    yield subscribed
    for pubsub in made:
        pubsub.close()


def send(dispatcher: HeardDispatcher, *numbers: int) -> None:
    """Have events of jobs sent."""
    for number in numbers:
        dispatcher.send("task-received", number=number)


# ----------------------------------------------------------------------------------------------- the dispatcher


def test_while_nobody_listens_one_event_of_each_group_is_published(dispatcher: HeardDispatcher) -> None:
    """Given no subscriber, then the first of a group goes out, and the others are forgotten; so with the next group."""
    send(dispatcher, 0, 1, 2)
    dispatcher.flush()
    send(dispatcher, 3, 4)
    dispatcher.flush()
    dispatcher.flush()
    assert dispatcher.producer.published == [[0], [3]]


def test_while_somebody_listens_all_events_are_published_in_order(
    dispatcher: HeardDispatcher, listen: Callable[[], PubSub]
) -> None:
    """Given a subscriber, then all events go out in two messages, and one that is alone in one."""
    listen()
    send(dispatcher, 0, 1, 2, 3)
    dispatcher.flush()
    assert dispatcher.producer.published == [[0], [1, 2, 3]]
    send(dispatcher, 4)
    dispatcher.flush()
    assert dispatcher.producer.published[2:] == [[4]]


def test_a_subscriber_that_comes_misses_no_event_of_the_next_group(
    dispatcher: HeardDispatcher, listen: Callable[[], PubSub]
) -> None:
    """Given a group that nobody heard, when somebody subscribes, then all of the next group are published."""
    send(dispatcher, 0, 1)
    dispatcher.flush()
    listen()
    send(dispatcher, 2, 3)
    dispatcher.flush()
    assert dispatcher.producer.published == [[0], [2], [3]]


def test_a_broker_that_does_not_tell_counts_as_one_who_listens(make: Make) -> None:
    """Given a broker that is no Redis, then all events are published."""
    dispatcher = make("memory://")
    send(dispatcher, 0, 1, 2)
    dispatcher.flush()
    assert dispatcher.producer.published == [[0], [1, 2]]


def test_a_heartbeat_is_not_tried_again_on_the_loop_s_own_thread(dispatcher: HeardDispatcher) -> None:
    """Given an event that Celery wants tried without end, then it is published once."""
    dispatcher.send("worker-heartbeat", retry=True, number=0)
    assert dispatcher.producer.retried is False


def test_events_that_cannot_be_sent_are_kept(dispatcher: HeardDispatcher) -> None:
    """Given nobody who listens, when the connection breaks, then a group is kept, and published when there is one."""
    send(dispatcher, 0)
    dispatcher.flush()

    def breaks() -> None:
        raise RedisConnectionError

    dispatcher.producer.before = breaks
    send(dispatcher, 1, 2, 3)
    dispatcher.flush()
    assert dispatcher.producer.published == [[0]]

    dispatcher.producer.before = lambda: None
    dispatcher.flush()
    assert [number for message in dispatcher.producer.published for number in message] == [0, 1, 2, 3]


@pytest.mark.parametrize(("listening", "published"), [(False, [[0], [9]]), (True, [[0], [1, 2, 9]])])
def test_what_another_thread_sends_meanwhile_is_not_forgotten(
    dispatcher: HeardDispatcher, listen: Callable[[], PubSub], listening: bool, published: list[list[int]]
) -> None:
    """Given a thread that sends while the first of a group is published, then its event is published, heard or not."""
    if listening:
        listen()

    def another_sends() -> None:
        dispatcher.producer.before = lambda: None
        thread = threading.Thread(target=send, args=(dispatcher, 9))
        thread.start()
        thread.join()

    dispatcher.producer.before = another_sends
    send(dispatcher, 0, 1, 2)
    dispatcher.flush()
    assert dispatcher.producer.published == published


def test_many_events_are_sent_at_once(dispatcher: HeardDispatcher) -> None:
    """Given as many as may be kept, then they do not wait for the time to come."""
    send(dispatcher, *range(MOST_BUFFERED - 1))
    assert dispatcher.producer.published == []
    send(dispatcher, MOST_BUFFERED - 1)
    assert dispatcher.producer.published == [[0]]


def test_a_dispatcher_that_is_closed_keeps_its_events(
    dispatcher: HeardDispatcher, listen: Callable[[], PubSub]
) -> None:
    """Given one that was closed, as at the loss of a connection, when it is enabled again, then it has all events."""
    listen()
    dispatcher.close()
    send(dispatcher, 0, 1, 2)
    dispatcher.flush()
    dispatcher.enable()
    dispatcher.producer = Watched(dispatcher.producer)
    dispatcher.flush()
    assert dispatcher.producer.published == [[0], [1, 2]]


# -------------------------------------------------------------------------------------- what the channel notes


@pytest.mark.parametrize("listeners", [0, 1, 2])
def test_a_connection_knows_how_many_heard_a_broadcast(
    dispatcher: HeardDispatcher, listen: Callable[[], PubSub], listeners: int
) -> None:
    """Given so many subscribers, when a broadcast is published, then that is noted, and each has it."""
    pubsubs = [listen() for _ in range(listeners)]
    everyone = Exchange("everyone", "fanout")
    with dispatcher.connection.Producer() as producer:
        producer.publish({"some": "thing"}, exchange=everyone, declare=[everyone])
    assert dispatcher.connection.heard_by == listeners
    assert [eventually(one.get_message, "it")["channel"] for one in pubsubs] == [b"/0.everyone"] * listeners


def test_a_broadcast_that_waits_for_others_is_heard_by_nobody_yet(
    dispatcher: HeardDispatcher, listen: Callable[[], PubSub]
) -> None:
    """Given kombu's batches, then broadcasts are published at their end, and nothing is claimed before."""
    pubsub = listen()
    everyone = Exchange("everyone", "fanout")
    with dispatcher.connection.Producer() as producer:
        with producer.batch():
            producer.publish({"some": "thing"}, exchange=everyone, declare=[everyone])
            assert dispatcher.connection.heard_by is None
        assert eventually(pubsub.get_message, "it")["channel"] == b"/0.everyone"


def test_a_new_connections_dispatcher_takes_over_what_waits(make: Make, own_server: str, redis: Redis) -> None:
    """Given events that were not sent when a connection was lost, then the next one sends them, and its own after."""
    lost, fresh = make(own_server), make(own_server)
    for number in range(3):
        lost.send("task-sent", number=number)
    lost.disable()
    fresh.extend_buffer(lost)
    fresh.send("task-sent", number=3)
    with redis.pubsub() as listener:
        listener.psubscribe("*celeryev/*")
        assert listener.get_message(timeout=5)
        fresh.flush()
    assert fresh.producer.published == [[0], [1, 2, 3]]


def test_what_could_not_be_sent_comes_before_what_is_new(dispatcher: HeardDispatcher) -> None:
    """Given events that failed and new ones, then the old ones are published first."""
    dispatcher._outbound_buffer.append(([{"type": "task-sent", "number": 0}], "task.multi"))
    dispatcher.send("task-sent", number=1)
    dispatcher.flush()
    assert dispatcher.producer.published == [[0], [1]]
