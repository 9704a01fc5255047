"""What is published, heard with one system call a message.

Stage: under :mod:`producer.link`. For each message redis-py's own ``get_message`` asks the system whether there is
something to read, whether the connection is closed, and once more before it reads, and sets the socket's time limit and
puts it back: some eight system calls, each of which lets go of the GIL. Here the system itself waits no longer than it
is told to. Subscribing, errors and what a message is stay redis-py's.

Mirrors redis-py 8 ``redis.client.PubSub.parse_response`` and ``redis._parsers.hiredis._HiredisParser``.
"""

from typing import Any

from redis.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError

from producer import kernel


class Hearing:
    """Hears what a pub/sub connection is told. Used by one thread."""

    def __init__(self, pubsub: PubSub) -> None:
        """Listen on ``pubsub``, which subscribes to something before :meth:`next` is called."""
        self._pubsub = pubsub
        self._quick: Any = None  # the socket that waits in the kernel

    def next(self, seconds: float) -> dict[str, Any] | None:
        """Wait up to ``seconds`` for the next bytes of a message; None when there was none, or only a part of one.

        Raises:
            redis.exceptions.ConnectionError: the connection is lost.
        """
        connection: Any = self._pubsub.connection
        if not self._waits_in_the_kernel(connection):
            waited: dict[str, Any] | None = self._pubsub.get_message(timeout=seconds)
            return waited
        kernel.limit_receiving(self._quick, seconds)
        try:
            said = connection.read_response(disconnect_on_error=False, push_request=True)
        except RedisConnectionError as error:
            if isinstance(error.__context__, BlockingIOError):
                return None
            raise
        heard: dict[str, Any] | None = self._pubsub.handle_message(said) if said else None  # type: ignore[no-untyped-call]
        return heard

    def _waits_in_the_kernel(self, connection: Any) -> bool:
        """Tell whether the socket does, which may be another than the last time, or have a limit of Python's again."""
        own = getattr(connection, "_sock", None)
        if own is None or own is not self._quick or own.gettimeout() is not None:
            quick = own is not None and kernel.wait_there(own, connection.socket_timeout)
            self._quick = own if quick else None
        return self._quick is not None
