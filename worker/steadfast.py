"""A channel of kombu's that notices a lost connection, lets go of it at once, and takes over what was in flight.

Stage: under Celery's consumer. :mod:`worker.broker` mixes it into its channel; :mod:`worker.consumer` and
:mod:`worker.bootsteps` use :func:`abandon` and :func:`adopt`. Neighbour: :mod:`worker.insist`, the client.

Mirrors kombu 5.7 ``kombu.transport.redis`` (``Channel._get_client``, ``_brpop_start``).
"""

import functools
import time
from collections.abc import Callable
from typing import Any

from kombu.transport import redis as transport
from redis import Redis

from worker.insist import MAY_EXCEED, InsistentRedis
from worker.lines import Lines


class Steadfast:
    """What both kinds of kombu's channel have here."""

    #: All set by kombu: connection on which a BRPOP was sent, monotonic time of that, seconds it may take.
    _in_poll: Any
    _brpop_sent_at: Any
    brpop_timeout: float
    pool: Any
    connection: Any
    connection_errors: Any

    #: Both made once for each pool.
    _kept: Redis | None = None
    _lines: Lines | None = None

    #: Whether something that was asked got no answer: then all connections are made anew, not one by one. After
    #: an acknowledgement that is needed besides: its message is no job's any more, and only a new channel forgets it.
    failed = False

    def _get_client(self) -> type[Redis]:
        return InsistentRedis

    def _create_client(self, asynchronous: bool = False) -> Redis:
        """Give the client of this channel's pool; kombu makes another one for each thing that it does."""
        if asynchronous:
            made: Redis = super()._create_client(asynchronous=True)  # type: ignore[misc]
            return made
        if self._kept is None or self._kept.connection_pool is not self.pool:
            self._kept = super()._create_client()  # type: ignore[misc]
            self._lines = Lines(self._kept)
        return self._kept

    @property
    def lines(self) -> Lines:
        """What the loop notes its messages with."""
        self._create_client()
        assert self._lines is not None  # noqa: S101 - made with the client
        return self._lines

    def _disconnect_pools(self) -> None:
        if self._lines is not None:
            self._lines.close()
        super()._disconnect_pools()  # type: ignore[misc]

    @functools.cached_property
    def _refresh_binding(self) -> Any:
        """Note a queue that expires, such as that of a worker's answers to remote control; at start there is one."""
        return self._create_client().register_script(MAY_EXCEED + transport.REFRESH_BINDING)

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        """Acknowledge a message."""
        try:
            super().basic_ack(delivery_tag, multiple)  # type: ignore[misc]
        except Exception:
            self.failed = True
            raise

    def maybe_refresh_binding_expiry(self) -> None:
        """Keep queues that expire."""
        self.unless_failed(super().maybe_refresh_binding_expiry)  # type: ignore[misc]

    def unless_failed(self, work: Callable[[], None]) -> None:
        """Do what kombu takes no notice of if it fails, but once only: each would be waited for in turn."""
        if self.has_failed():
            return
        try:
            work()
        except self.connection_errors:
            self.failed = True
            raise

    def has_failed(self) -> bool:
        """Tell whether this or another channel of the connection got no answer."""
        return any(getattr(one, "failed", False) for one in self.connection.channels)

    def is_lost(self, patience_s: float) -> bool:
        """Tell whether to connect anew: the answer to BRPOP is overdue, which a server gives within its timeout."""
        if self.has_failed():
            return True
        if not self._in_poll or self._brpop_sent_at is None or self._is_readable():
            return False
        return bool(time.monotonic() - self._brpop_sent_at > self.brpop_timeout + patience_s)

    def abandon(self) -> None:
        """Let go of the sockets, so that closing does not wait for a server that is silent; what has come is kept.

        What is not acknowledged is not put back either: jobs in flight go on, and the next channel adopts them.
        """
        if self._in_poll and not self._is_readable():
            self._in_poll.disconnect()
        self._disconnect_pools()
        self.do_restore = False

    def _is_readable(self) -> bool:
        sock = self._in_poll._sock  # noqa: SLF001 - kombu looks at it as well
        come: bool = transport._socket_readable(sock) if sock is not None else False  # noqa: SLF001
        return come


def abandon(connection: Any) -> None:
    """Let go of the sockets of a broker connection that is lost, or may be; Celery's pool keeps plain channels."""
    for channel in list(getattr(connection.transport, "channels", None) or ()):
        if isinstance(channel, Steadfast):
            channel.abandon()
        elif isinstance(channel, transport.Channel):
            channel._disconnect_pools()  # noqa: SLF001
