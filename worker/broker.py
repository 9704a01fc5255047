"""What Redis hands over, before Celery sees it: no message can end the worker's loop, or fill its memory.

Stage: under Celery's consumer, above Redis. Chosen by ``Celery(amqp="worker.broker:FleetAMQP")``; works with every
scheme that kombu serves with Redis (``redis``, ``rediss``, ``sentinel``). Neighbours: :mod:`worker.envelopes` opens
each message, :mod:`worker.guard` looks at what is inside.

kombu 5.7 parses a message inside the event loop. One that is not JSON, or has no properties, raises there: a
``ValueError`` ends the worker, a ``KeyError`` counts as a lost connection, and the message comes back for ever.
It also fetches one message at a time, and notes each by itself; here a few come with one BLMPOP, noted in one step.

Mirrors kombu 5.7: ``kombu.transport.redis.Channel`` (``_brpop_start``, ``_brpop_read``, ``_receive_one``,
``_put_fanout``), ``QoS`` of the same module, ``kombu.Connection.get_transport_cls``.
"""

import functools
import logging
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from queue import Empty
from types import MappingProxyType
from typing import Any, NamedTuple

from celery.app.amqp import AMQP
from kombu.connection import Connection
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps
from redis.exceptions import RedisError

from producer.wire import MAX_HELD_BYTES
from worker.envelopes import Unreadable, open_envelope
from worker.leases import LeaseQoS
from worker.memory import MESSAGES_AT_ONCE
from worker.steadfast import Steadfast

logger = logging.getLogger(__name__)

#: What is Redis's and not the message's; kombu counts any ``KeyError`` as a lost connection.
LOST = (RedisError, OSError)

#: List that a channel has to itself, of its number: what is in it ends the channel's own wait for messages. How long it
#: stays where the channel does not wait any more.
WAKE_PREFIX = "fleet:wake:"
WAKE_TTL_MS = 5000

#: Longest wait, after a message was dealt with, for room for a few more.
TOGETHER_WITHIN_S = 0.2


class Load(NamedTuple):
    """What a message that is held weighs."""

    bytes: int
    queue: str
    images: int


class BoundedQoS(LeaseQoS):
    """Knows how many bytes of messages are held, and how many images of each queue. Belongs to the loop thread.

    The prefetch count is one of images: a worker that holds a few batches has work enough, and what it does not fetch
    goes to another that has none.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._loads: dict[str, Load] = {}
        self._usual = 1  # images of a message, as the last one had
        self._freed_at = 0.0
        self.held_bytes = 0
        self.later_bytes = 0  # of those that wait for their time
        #: Images of messages that are held, by queue; those that wait for their time take nothing from others.
        self.held: Counter[str] = Counter()
        #: Tags of messages that were acknowledged with their jobs' end (:mod:`worker.ending`).
        self.ended: set[str] = set()

    def can_consume(self) -> bool:
        """Tell whether there is room for another message."""
        return self.held_bytes < MAX_HELD_BYTES and bool(super().can_consume())  # type: ignore[no-untyped-call]

    def wanted(self) -> int:
        """Tell how many messages to fetch now: none before there is room for a few, so that they come together.

        Where nothing has ended for a while, little room is all there will be: the rest may be held by what never ends.
        """
        if not self.prefetch_count:
            return MESSAGES_AT_ONCE
        few = min(MESSAGES_AT_ONCE, max(1, self.prefetch_count // (4 * self._usual)))
        room: int = self.can_consume_max_estimate()  # type: ignore[no-untyped-call]
        if len(self._loads) - self.held[""] > 1:  # one message is at work, and another at hand
            room = min(room, (self.prefetch_count - self.held.total()) // self._usual)
        if room < few and time.monotonic() < self._freed_at + TOGETHER_WITHIN_S:
            return 0
        return max(0, min(room, few))

    def weigh(self, delivery_tag: str, images: int) -> None:
        """Say how many images a message that is held has."""
        load = self._loads.get(delivery_tag)
        if load is not None and load.queue:
            self._usual = max(1, images)
            self._loads[delivery_tag] = load._replace(images=self._usual)
            self.held[load.queue] += self._usual - load.images

    def append(self, message: Any, delivery_tag: str) -> None:
        """Hold ``message`` until it is acknowledged, rejected or given back."""
        super().append(message, delivery_tag)
        self._count(message, delivery_tag, self.channel.arriving.get(delivery_tag, 0))

    def adopt(self, message: Any) -> None:
        """Hold a message that came on a connection which is lost, to be renewed and acknowledged on this one."""
        message.channel = self.channel
        virtual.QoS.append(self, message, message.delivery_tag)  # Redis knows that it was taken
        self._count(message, message.delivery_tag, len(message.body))

    def _count(self, message: Any, delivery_tag: str, size: int) -> None:
        self._let_go(delivery_tag)
        queue = "" if message.headers.get("eta") else message.delivery_info["routing_key"]
        self._loads[delivery_tag] = Load(size, queue, 1)
        self.held_bytes += size
        self.later_bytes += 0 if queue else size
        self.held[queue] += 1

    def ack(self, delivery_tag: str) -> None:
        """Let go of a message that was dealt with."""
        self._let_go(delivery_tag)
        if delivery_tag in self.ended:
            self.ended.discard(delivery_tag)
            virtual.QoS.ack(self, delivery_tag)
        else:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Let go of a message that was refused."""
        self._let_go(delivery_tag)
        super().reject(delivery_tag, requeue=requeue)  # type: ignore[no-untyped-call]

    def _let_go(self, delivery_tag: str) -> None:
        if (load := self._loads.pop(delivery_tag, None)) is not None:
            self.held_bytes -= load.bytes
            self.later_bytes -= 0 if load.queue else load.bytes
            self.held[load.queue] -= load.images
            self._freed_at = time.monotonic()


class GuardedChannel:
    """Mixed into a channel of kombu's: nothing that is in a message raises inside the event loop."""

    #: Bytes of the messages that are being delivered, by delivery tag.
    arriving: Mapping[str, int] = MappingProxyType({})

    @functools.cached_property
    def _wake_key(self) -> str:
        return WAKE_PREFIX + uuid.uuid4().hex

    def _brpop_start(self: Any, timeout: float | None = None) -> None:
        """Ask for a few messages of the first queue that has any, higher priorities first.

        Of equal priority that queue comes first of which least is held; of equals the one that was served longest ago.
        kombu's own round robin gives each its turn, and so lets jobs of a slow model take all places.
        """
        self._queue_cycle.items.sort(key=self.qos.held.__getitem__)
        queues, wanted = self._queue_cycle.consume(len(self.active_queues)), self.qos.wanted()
        if not queues or not wanted:
            return
        keys = [self._q_for_pri(queue, priority) for priority in self.priority_steps for queue in queues]
        keys.insert(0, self._wake_key)
        self._in_poll = self.client.connection
        self._brpop_sent_at = time.monotonic()
        patience_s = (self.brpop_timeout if timeout is None else timeout) or 0
        self.client.connection.send_command("BLMPOP", patience_s, len(keys), *keys, "RIGHT", "COUNT", wanted)

    def _brpop_read(self: Any, **options: Any) -> bool:
        try:
            try:
                found = self.client.parse_response(self.client.connection, "BLMPOP", **options)
            except self.connection_errors:
                self.client.connection.disconnect()
                raise
            if not found:
                raise Empty
            name = bytes_to_str(found[0])
            if name == self._wake_key:
                raise Empty
            queue = name.rsplit(self.sep, 1)[0]
            self._queue_cycle.rotate(queue)
            self._take(found[1], queue)
            return True
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()

    def close(self: Any) -> None:
        """Close; what BLMPOP may still hand over is taken, and put back with the rest, but not waited for."""
        if self._in_poll and not self.closed and not self._wake():
            self._in_poll.disconnect()
            self._in_poll = None
        super().close()  # type: ignore[misc]

    def _wake(self: Any) -> bool:
        """End this channel's own wait for messages, otherwise up to a second; tell whether Redis answers."""
        try:
            with self.conn_or_acquire() as client, client.pipeline() as pipe:
                pipe.rpush(self._wake_key, b"")
                pipe.pexpire(self._wake_key, WAKE_TTL_MS)
                pipe.execute()
        except LOST as error:
            logger.debug("consumer.not_woken error=%s", error)
            return False
        return True

    def _take(self: Any, items: Sequence[bytes], queue: str) -> None:
        """Deliver messages. They are out of Redis already, so one that cannot even be opened is gone with this line."""
        envelopes = []
        for item in items:
            try:
                envelopes.append((open_envelope(item, queue), len(item)))
            except Unreadable as error:
                logger.warning("message.dropped queue=%s bytes=%d reason=%s", queue, len(item), error)
        self.arriving = {envelope["properties"]["delivery_tag"]: size for envelope, size in envelopes}
        self.qos.expect([envelope for envelope, _ in envelopes])
        for envelope, size in envelopes:
            try:
                self.connection._deliver(envelope, queue)  # noqa: SLF001 - as kombu's own channel does
            except LOST:
                raise
            except Exception:
                logger.exception("message.not_delivered queue=%s bytes=%d", queue, size)

    def _put_fanout(self: Any, exchange: str, message: Any, routing_key: str, **kwargs: Any) -> None:
        """Publish, and note how many heard it, which kombu does not."""
        if kwargs.get("_publish_batch") is not None:  # sent later, with others
            super()._put_fanout(exchange, message, routing_key, **kwargs)  # type: ignore[misc]
            return
        payload = dumps(message)
        with self.conn_or_acquire() as client:
            topics = self._get_publish_topics(exchange, routing_key)
            self.connection.client.heard_by = sum(client.publish(topic, payload) for topic in topics)

    def _receive_one(self: Any, client: Any) -> Any:
        """Hear one broadcast: control commands and other workers' events. A bad one is lost, and nothing else."""
        try:
            return super()._receive_one(client)  # type: ignore[misc]
        except (*LOST, Empty):
            raise
        except Exception as error:  # whatever anybody may publish
            logger.warning("broadcast.dropped error=%.200r", error)
            raise Empty from error


@functools.cache
def guarded(transport: type) -> type:
    """Derive a transport whose channels are guarded from one of kombu's; any other broker's is returned as it is."""
    if not issubclass(transport, kombu_redis.Transport):
        return transport
    channel = type("GuardedChannel", (GuardedChannel, Steadfast, transport.Channel), {"QoS": BoundedQoS})
    return type("GuardedTransport", (transport,), {"Channel": channel})


class GuardedConnection(Connection):
    """A connection whose transport is guarded, whatever its URL says, also after a failover."""

    #: How many subscribers got the broadcast that was published last; None where the broker does not tell.
    heard_by: int | None = None

    def get_transport_cls(self) -> type:
        """Return the guarded class of the transport that the URL names."""
        return guarded(super().get_transport_cls())  # type: ignore[no-untyped-call]


class FleetAMQP(AMQP):  # type: ignore[misc]
    """What Celery connects with."""

    Connection = GuardedConnection
