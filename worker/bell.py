"""Wakes the event loop from any thread, by a socket that the loop reads.

Stage: under :mod:`worker.pool`; completions ring, the loop tells Celery. kombu's own ``hub.call_soon`` wakes the loop
as well, but what a callback of it puts off with ``call_soon``, as Celery does with acknowledgements, then waits until
the loop wakes for some other reason, up to a second. After a reader's callback the loop goes round at once.
"""

import contextlib
import socket
from collections.abc import Callable
from typing import Any


class Bell:
    """Any thread may ring; the loop thread listens and clears. Ringing twice before it is heard counts once."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def listen(self, hub: Any, act: Callable[[], None]) -> None:
        """Have ``hub`` call ``act`` after each ring; to be said again to a hub that was reset."""
        hub.add_reader(self._reader, act)

    def ring(self) -> None:
        """Wake the loop. Never waits: where the socket is full, it rings already."""
        with contextlib.suppress(OSError):
            self._writer.send(b"\0")

    def clear(self) -> None:
        """Stop ringing; to be called before the work is looked at, so that no ring is lost."""
        with contextlib.suppress(OSError):
            self._reader.recv(4096)

    def close(self) -> None:
        """Give the sockets back; ringing does nothing from now on."""
        self._reader.close()
        self._writer.close()
