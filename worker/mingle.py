"""A worker that starts asks the others which jobs were cancelled, and waits for as many answers as there are others.

Stage: at start, before the consumer fetches. Celery itself waits a whole second for whoever may answer, which is half
of a worker's start; here ``fleet:workers`` tells how many live. Chosen by
``Celery(control="worker.mingle:FleetControl")``.

Mirrors celery 5.7: ``celery.worker.consumer.mingle.Mingle.send_hello``, ``celery.app.control.Inspect``.
"""

from typing import Any

from celery.app.control import Control, Inspect
from kombu.utils.objects import cached_property

from producer.wire import ALIVE_WITHIN_S, WORKERS_KEY


class FleetInspect(Inspect):  # type: ignore[misc]
    """Celery's questions to workers; only a worker's own, at its start, differs."""

    def hello(self, from_node: str, revoked: Any = None) -> Any:
        """Ask the others what they know; None where nobody is there to answer.

        A worker that has lived for less than two seconds is not counted yet; it knows of few cancels, if of any.
        """
        others = _others(self.connection, from_node)
        if others == 0:
            return None
        self.limit = others
        return super().hello(from_node, revoked)


class FleetControl(Control):  # type: ignore[misc]
    """Celery's control commands with :class:`FleetInspect`."""

    @cached_property
    def inspect(self) -> Any:
        """Give the class that asks, bound to the application."""
        return self.app.subclass_with_self(FleetInspect, reverse="control.inspect")


def _others(connection: Any, name: str) -> int | None:
    """Count the workers that live besides ``name``; None where the broker keeps no such list."""
    channel = connection.default_channel
    if not hasattr(channel, "unacked_index_key"):  # not Redis
        return None
    seconds, _ = channel.client.time()
    alive = channel.client.zrangebyscore(WORKERS_KEY, seconds - ALIVE_WITHIN_S, "+inf")
    return len({one.decode() if isinstance(one, bytes) else one for one in alive} - {name})
