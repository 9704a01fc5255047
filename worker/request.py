"""Celery's request of an image job, without the image's bytes in logs, events and replies.

Stage: between the message and the pool. Neighbours: :mod:`worker.tasks` names it as ``Task.Request``.
Mirrors ``celery.worker.request.Request`` of celery 5.7.
"""

from concurrent.futures import Future
from typing import Any, NamedTuple

from celery.worker.request import Request

from producer.wire import SENT_AT_HEADER, describe_images

#: Where the pool puts the :class:`Stage` of a job in Celery's request, and the body finds it.
STAGE_KEY = "fleet_stage"


class Stage(NamedTuple):
    """A task's asynchronous stage: what ran it, and what it gave."""

    engine: Any
    future: Future[Any]


class ImageRequest(Request):  # type: ignore[misc]
    """A request whose arguments are shown by what they are, not by their bytes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._argsrepr = self._request_dict["argsrepr"] = self._shown_args()

    def _shown_args(self) -> str:
        """Keep what our own client says (it names the file); describe anything else."""
        said = self._request_dict.get("argsrepr")
        if isinstance(said, str) and said and self._request_dict.get(SENT_AT_HEADER) is not None:
            return said[:500]
        return describe_images(self._args)

    def info(self, safe: bool = False) -> dict[str, Any]:
        """Describe the request for ``inspect active`` and ``inspect reserved``."""
        shown: dict[str, Any] = super().info(safe=safe)
        shown["args"] = self._argsrepr
        return shown
