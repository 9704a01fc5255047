"""Celery's result backend: an outcome and the end of its job are one step, whatever Redis refuses for a while.

Stage: behind the tracer; ``celeryconfig.py`` selects the classes. Neighbours: :mod:`worker.ending`, the step, and
:mod:`worker.insist`, the client.

Mirrors celery 5.7 ``celery.backends.redis`` (``RedisBackend._get_client``, ``connection_errors``, ``set``) and
``celery.backends.base`` (``BaseKeyValueStoreBackend._store_result``, which reads before it writes;
``Backend._get_result_meta``, without what only ``result_extended`` asks for).
"""

import functools
import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from celery.backends.redis import RedisBackend, SentinelBackend
from redis import Redis
from redis.exceptions import OutOfMemoryError, ReadOnlyError

from worker.ending import Ending, JobEnd
from worker.insist import InsistentRedis
from worker.lines import Lines
from worker.patience import passes
from worker.request import Outcome, current_stage

logger = logging.getLogger(__name__)

#: Where a result says what its job belongs to, and the name of that in Celery's context of the job.
_KIN = {"group_id": "group", "parent_id": "parent_id"}


class _Persistent:
    """Goes on trying to store a result for as long as the server refuses it for a reason that will pass."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.connection_errors: tuple[type[Exception], ...] = (*self.connection_errors, OutOfMemoryError, ReadOnlyError)

    def _get_client(self) -> type[Redis]:
        return InsistentRedis

    def exception_safe_to_retry(self, exc: Exception) -> bool:
        """Tell whether to store again what was not."""
        return passes(exc) or bool(super().exception_safe_to_retry(exc))  # type: ignore[misc]

    @functools.cached_property
    def lines(self) -> Lines:
        """What stores outcomes."""
        return Lines(self.client)  # type: ignore[attr-defined]

    @functools.cached_property
    def ending(self) -> Ending:
        """What ends jobs in Redis."""
        return Ending(self.lines)

    def drop_connections(self) -> None:
        """Let go of idle connections, the pool's too, which may have been lost without a sign."""
        self.lines.drop()

    @functools.cached_property
    def _is_extended(self: Any) -> bool:
        """Whether results tell their arguments as well; a setting that Celery would look up for each."""
        return bool(self.app.conf.result_extended)

    def _get_result_meta(
        self: Any, result: Any, state: str, traceback: Any, request: Any, *how: Any, **more: Any
    ) -> dict[str, Any]:
        if self._is_extended or how or more:
            meta: dict[str, Any] = super()._get_result_meta(result, state, traceback, request, *how, **more)  # type: ignore[misc]
            return meta
        done = datetime.now(self.app.timezone).isoformat() if state in self.READY_STATES else None
        children = self.current_task_children(request)
        meta = {"status": state, "result": result, "traceback": traceback, "children": children, "date_done": done}
        for key, name in _KIN.items():
            if kin := getattr(request, name, None):
                meta[key] = kin
        return meta

    def _store_result(
        self: Any, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **_: Any
    ) -> Any:
        """Store an outcome, or keep it back for :meth:`store_together`.

        With that of a job whose stage ran here goes all that was kept for the job.
        """
        meta = self._get_result_meta(result=result, state=state, traceback=traceback, request=request)
        outcome = self.encode({**meta, "task_id": task_id})
        stage = current_stage(task_id) if state in self.READY_STATES else None
        remains = stage.remains(request) if stage is not None else None
        end = JobEnd(task_id, remains, outcome, self.expires or 0)
        together = stage.together if stage is not None and self is self.app.backend else None
        if stage is not None and remains is not None and remains.tag is not None and together is not None:
            together.append(Outcome(stage, end))
            return result
        self.ending(end)  # something may be to follow at once
        if stage is not None:
            stage.ended = remains
        return result

    def store_together(
        self: Any, outcomes: Sequence[Outcome], is_wanted: Callable[[str], bool]
    ) -> dict[str, Exception]:
        """Store what was kept back for this, in one round trip; return why not, by job, where Redis refuses.

        It is tried again for as long as the reason is one that will pass, as Celery does with a single one.

        Args:
            outcomes: of the jobs that ended together.
            is_wanted: asked before each try about a job's id; another outcome may stand by then.
        """
        refused = {}
        for outcome, error in self._ensure_retryable(self._end_together, outcomes, is_wanted):
            stage = outcome.stage
            if error is not None:
                refused[stage.job_id] = error
                continue
            stage.ended = outcome.end.remains
            try:
                stage.engine.forget(stage.job_id)
            except Exception:
                logger.exception("job.not_forgotten job=%s", stage.job_id)
        return refused

    def _end_together(
        self: Any, outcomes: Sequence[Outcome], is_wanted: Callable[[str], bool]
    ) -> list[tuple[Outcome, Exception | None]]:
        wanted = [outcome for outcome in outcomes if is_wanted(outcome.stage.job_id)]
        if not wanted:
            return []
        errors = self.ending.together([outcome.end for outcome in wanted])
        for error in errors:
            if error is not None and self.exception_safe_to_retry(error):
                raise error
        return list(zip(wanted, errors, strict=True))


class Results(_Persistent, RedisBackend):  # type: ignore[misc]
    """For ``redis://`` and ``rediss://``."""


class SentinelResults(_Persistent, SentinelBackend):  # type: ignore[misc]
    """For ``sentinel://``."""
