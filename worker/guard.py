"""Celery's consumer, behind a guard: a message that Celery could not bear is answered with a typed error, and gone.

Stage: between :mod:`worker.broker`, which fetches, and Celery's strategy, which makes requests of messages.
:class:`worker.consumer.FleetConsumer` is this and more.

Celery 5.7 acknowledges such messages without an answer (``on_decode_error``, ``on_invalid_task``), or raises in its
event loop, which ends the worker or makes it connect again, and the message comes back for ever.

Mirrors celery 5.7: ``celery.worker.consumer.Consumer`` (``create_task_handler`` and the four ``on_...`` that it calls).
"""

import logging
import uuid
from collections.abc import Callable
from typing import Any

from celery import signals
from celery.worker.consumer import Consumer
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from producer.errors import FleetError, InternalError, InvalidRequest
from producer.ids import check_job_id
from producer.wire import TASK_DETECT_MANY
from worker import later, screen

logger = logging.getLogger(__name__)

#: What is really a lost connection. A refusal of Redis's is not: it would be the same the next time.
LOST = (RedisConnectionError, RedisTimeoutError, OSError)


class GuardedConsumer(Consumer):  # type: ignore[misc]
    """A consumer that no message can stop. Belongs to the loop thread."""

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """Return what is called with each message: the guard, then Celery's own."""
        handle = super().create_task_handler(*args, **kwargs)

        def guarded(message: Any) -> None:
            try:
                screen.check(message, self.strategies)
                weigh(message)
                if not later.put_off(message):
                    handle(message)
            except FleetError as error:
                self.refuse(message, error)
            except LOST:
                raise
            except Exception:
                incident = uuid.uuid4().hex[:12]
                logger.exception("message.not_handled job=%s incident=%s", shown(message, "id"), incident)
                self.refuse(message, InternalError(f"Something unforeseen went wrong; incident {incident}."))

        return guarded

    def apply_eta_task(self, task: Any) -> None:
        """Begin a job whose time has come, and forget the timer's entry, which would hold the message in a ring."""
        super().apply_eta_task(task)
        task._eta_timer_entry = None  # noqa: SLF001 - Celery's own, for cancelling it

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Refuse a message that kombu could not make sense of, such as one that is not compressed as it says."""
        self.refuse(message, InvalidRequest("The message's body is not compressed as its header says."))

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """Refuse a message that is no task."""
        self.refuse(message, InvalidRequest(screen.V2))

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Refuse a task that this worker does not have."""
        self.refuse(message, InvalidRequest("This worker has no such task."))

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Refuse what Celery itself finds wrong."""
        self.refuse(message, InvalidRequest(f"Celery cannot read the message: {type(exc).__name__}."))

    def refuse(self, message: Any, error: FleetError) -> None:
        """Store ``error`` as the job's outcome, if the message names a job, and take the message from Redis."""
        job_id = shown(message, "id")
        logger.warning(
            "message.refused job=%s task=%s code=%s why=%s", job_id, shown(message, "task"), error.code, error
        )
        try:
            if job_id is not None:
                self.app.backend.mark_as_failure(job_id, error)
        except LOST:
            raise  # the message comes back when Redis does
        except Exception:
            logger.exception("message.not_answered job=%s", job_id)
        if not message.acknowledged:
            message.reject_log_error(logger, self.connection_errors)
        if job_id is not None and self.event_dispatcher:
            self.event_dispatcher.send("task-failed", uuid=job_id, exception=repr(error))
        signals.task_rejected.send(sender=self, message=message, exc=error)


def weigh(message: Any) -> None:
    """Let a batch count as many as it has images, where :mod:`worker.broker` counts them."""
    if hasattr(message.channel.qos, "weigh"):
        is_batch = message.headers["task"] == TASK_DETECT_MANY
        message.channel.qos.weigh(message.delivery_tag, screen.images_of(message) if is_batch else 1)


def shown(message: Any, header: str) -> str | None:
    """Return a header for keys and logs if it has the alphabet of a job's id, or else None."""
    try:
        return check_job_id(message.headers.get(header))
    except InvalidRequest:
        return None
