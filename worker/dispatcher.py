"""Celery's events of jobs, sent in groups, and only while somebody listens: Flower, ``celery events``, an exporter.

Stage: beside Celery's consumer, which makes the dispatcher and says when to send. Chosen by
``Celery(events="worker.dispatcher:FleetEvents")``. Neighbour: :mod:`worker.broker`, which hears from Redis how many
subscribers an event reached.

Celery has three events for a job and publishes each two dozen of them, heard or not: a tenth of a millisecond of a
job's CPU (docs/performance.md). Here one of each group goes ahead, and the others follow if anybody got it.

Mirrors ``celery.events.dispatcher.EventDispatcher`` and ``celery.app.events.Events`` of celery 5.7.
"""

from typing import Any

from celery.app.events import Events
from celery.events.dispatcher import EventDispatcher

#: Events that are sent at once at the latest, whenever the next group would leave.
MOST_BUFFERED = 100


class HeardDispatcher(EventDispatcher):  # type: ignore[misc]
    """A dispatcher that drops the events of jobs that nobody would hear. Thread-safe, as Celery's is."""

    def __init__(self, *args: Any, buffer_limit: int = MOST_BUFFERED, **kwargs: Any) -> None:
        super().__init__(*args, buffer_limit=buffer_limit, **kwargs)

    def extend_buffer(self, other: EventDispatcher) -> None:
        """Take over what the dispatcher of a connection that is lost has not sent; Celery leaves groups behind."""
        super().extend_buffer(other)
        with self.mutex:
            for group, events in other._group_buffer.items():  # noqa: SLF001 - it is one of us
                self._group_buffer[group] += events

    def _publish(self, *args: Any, **options: Any) -> None:
        """Publish once; what cannot be sent waits for the next connection.

        Celery tries a heartbeat again without end, on the loop's own thread: while a server was silent, nothing else
        was done there, and a worker that was told to end did not.
        """
        super()._publish(*args, **{**options, "retry": False})

    def flush(self, errors: bool = True, groups: bool = True) -> None:
        """Send what is buffered."""
        if groups:
            super().flush(errors=errors, groups=False)  # what could not be sent before comes first
            with self.mutex:
                self._send_first_ones()
        super().flush(errors=errors and not groups, groups=groups)

    def _send_first_ones(self) -> None:
        """Send the first event of each group; if that reached nobody, forget the others.

        A broker that does not tell, or cannot be reached, counts as one who listens: Celery then keeps the events.
        """
        if self._closed or self._outbound_buffer:
            return
        for group, events in self._group_buffer.items():
            if not (count := len(events)):  # other threads append meanwhile
                continue
            self.connection.heard_by = None
            self._publish(events[:1], self.producer, f"{group}.multi")
            del events[: count if self.connection.heard_by == 0 else 1]


class FleetEvents(Events):  # type: ignore[misc]
    """What Celery makes dispatchers with."""

    dispatcher_cls = HeardDispatcher
