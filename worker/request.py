"""Celery's request of an image job, without the image's bytes in logs, events and replies; and a job's stage.

Stage: between the message and the pool. Neighbours: :mod:`worker.tasks` names it as ``Task.Request``.
Mirrors ``celery.worker.request.Request`` of celery 5.7.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from celery.worker.request import Request
from celery.worker.state import revoked
from redis.exceptions import RedisError

from producer import blobs
from producer.wire import SENT_AT_HEADER, describe_images
from worker.clock import ahead, redis_clock
from worker.ending import JobEnd, Remains, list_of

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Stage:
    """A task's asynchronous stage: the job's id, what ran it, and what it gave.

    Attributes:
        job_id: the job's id.
        engine: what ran it.
        future: settled.
        tag: delivery tag of the message, where acknowledging may be part of the job's end.
        ended: what was removed with the job's outcome; None until that is stored.
        together: where its outcome waits for those of other jobs; None if it is stored at once.
    """

    job_id: str
    engine: Any
    future: Future[Any]
    tag: str | None = None
    ended: Remains | None = None
    together: "list[Outcome] | None" = None

    @property
    def waits(self) -> bool:
        """Whether the job's outcome waits to be stored."""
        return self.together is not None and any(outcome.stage is self for outcome in self.together)

    def remains(self, request: Any) -> Remains:
        """Tell what goes when the job's outcome is stored; ``request`` is Celery's context of it.

        Where more is to be done after that, such as to send other tasks, the message stays until it is done.
        """
        buried = getattr(self.future, "is_buried", False)  # then the dead list has the images
        more = request.chord or request.errbacks
        images = () if buried else blobs.refs_of(request.args)
        return Remains(list_of(request.delivery_info), images, None if more else self.tag)


class Outcome(NamedTuple):
    """What is to be stored of a job, and removed with it.

    Attributes:
        stage: the job's.
        end: how the job ends.
    """

    stage: Stage
    end: JobEnd


#: The stage of the job whose body this thread runs. Not in Celery's request: whatever is added there goes out again as
#: a header of every message that the task sends with ``retry()``.
_stage: ContextVar[Stage | None] = ContextVar("fleet_stage", default=None)


def current_stage(job_id: str | None) -> Stage | None:
    """Return the stage of the job ``job_id``, inside its body; None when the pool has run none for it."""
    stage = _stage.get()
    return stage if stage is not None and stage.job_id == job_id else None


@contextlib.contextmanager
def staged(stage: Stage | None) -> Iterator[None]:
    """Let the body that runs in this block find ``stage``."""
    token = _stage.set(stage)
    try:
        yield
    finally:
        _stage.reset(token)


class ImageRequest(Request):  # type: ignore[misc]
    """A request whose arguments are shown by what they are, not by their bytes, and whose times are Redis's."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._shown_kwargs = _describe_options(self._kwargs)
        self._argsrepr = self._request_dict["argsrepr"] = self._shown_args()
        self._kwargsrepr = self._request_dict["kwargsrepr"] = repr(self._shown_kwargs)

    def _shown_args(self) -> str:
        """Keep what our own client says (it names the file); describe anything else."""
        said = self._request_dict.get("argsrepr")
        if isinstance(said, str) and said and self._request_dict.get(SENT_AT_HEADER) is not None:
            return said[:500]
        return describe_images(self._args)

    def maybe_expire(self) -> bool:
        """Tell whether the job's deadline has passed, and mark it as revoked then."""
        if self.expires is None or redis_clock.now() <= self.expires.timestamp():
            return False
        revoked.add(self.id)
        return True

    @property
    def eta(self) -> datetime | None:
        """When the job may begin, by this host's clock, which Celery's timer goes by."""
        told: datetime | None = super().eta
        return told and told - ahead()

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """Store that the job met its time limit; at the hard one its body never ends."""
        super().on_timeout(soft, timeout)
        if not soft:
            self._tidy(drop_images=True)

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:
        """Store that the job was revoked. A cancelled one's images stay: their mark tells other workers."""
        super()._announce_revoked(reason, terminated, signum, expired)
        self._tidy(drop_images=expired)

    def _tidy(self, *, drop_images: bool) -> None:
        """Do what the body would have done at its end: take the job from the books, and its images from Redis."""
        images = blobs.refs_of(self._args) if drop_images else ()
        try:
            self.task.backend.ending(JobEnd(self.id, Remains(list_of(self.delivery_info), images)))
        except (RedisError, OSError) as error:  # then the sweep finds the job, and the images' time ends
            logger.warning("job.not_tidied job=%s error=%s", self.id, error)

    def info(self, safe: bool = False) -> dict[str, Any]:
        """Describe the request for ``inspect active`` and ``inspect reserved``."""
        shown: dict[str, Any] = super().info(safe=safe)
        return shown | {"args": self._argsrepr, "kwargs": self._kwargsrepr if safe else self._shown_kwargs}


def _describe_options(kwargs: object) -> dict[str, Any]:
    """Show numbers and short texts as they are; an image that was given by name is not shown."""
    if not isinstance(kwargs, Mapping):
        return {}
    return {str(name)[:40]: _describe_option(value) for name, value in list(kwargs.items())[:20]}


def _describe_option(value: object) -> Any:
    plain = value is None or isinstance(value, int | float) or (isinstance(value, str) and len(value) <= 64)
    return value if plain else f"<{type(value).__name__}>"
