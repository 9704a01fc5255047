"""Which of Celery's control commands a worker obeys.

Stage: beside the consumer. Whoever may publish on the control channel may order every worker about, and each client
has to publish there, for ``revoke`` is how a job is cancelled. With ``FLEET_REMOTE_CONTROL=off`` a worker answers
questions and revokes jobs, and refuses all that would change the worker itself.

Mirrors celery 5.7: ``celery.worker.control`` (the commands), ``celery.worker.pidbox.Pidbox`` (their mailbox).
"""

import functools
import logging
from collections.abc import Callable
from typing import Any

from celery import bootsteps
from celery.worker.control import Panel

from worker import settings

logger = logging.getLogger(__name__)

Handler = Callable[..., Any]

#: Obeyed in any case: cancelling a job, and signs of life for whoever has just begun to listen.
HARMLESS = frozenset({"revoke", "heartbeat", "enable_events"})

#: Celery calls these questions, but they write files or take memory.
COSTLY = frozenset({"objgraph", "memdump", "memsample"})

_CONTROL = "celery.worker.consumer.control:Control"


class ControlGuard(bootsteps.Step):  # type: ignore[misc]
    """Gives the worker's mailbox the handlers of :func:`guarded`, before it opens."""

    requires = (_CONTROL,)

    def include_if(self, consumer: Any) -> bool:
        """Tell whether there is anything to guard."""
        return not settings.load().remote_control

    def create(self, consumer: Any) -> None:
        """Replace the handlers; the mailbox is made anew with each consumer, and lives as long."""
        control = consumer.blueprint[_CONTROL.replace(":", ".")]
        control.box.node.handlers = guarded()


def guarded() -> dict[str, Handler]:
    """Give every command's handler, those of a user's own commands included, or what refuses it."""
    handlers: dict[str, Handler] = {}
    for name, about in Panel.meta.items():
        allowed = name in HARMLESS or (about.type == "inspect" and name not in COSTLY)
        handler = Panel.data[name] if allowed else functools.partial(_refuse, name)
        handlers |= dict.fromkeys((name, about.alias or name), handler)
    return handlers


def _refuse(name: str, _state: Any, **_: Any) -> dict[str, str]:
    logger.warning("control.refused command=%s", name)
    return {"error": f"{name} is refused: FLEET_REMOTE_CONTROL is off."}
