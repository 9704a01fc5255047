"""Celery's result backend: an outcome and the end of its job are one step, whatever Redis refuses for a while.

Stage: behind the tracer; ``celeryconfig.py`` selects the classes. Neighbours: :mod:`worker.ending`, the step, and
:mod:`worker.insist`, the client.

Mirrors celery 5.7 ``celery.backends.redis`` (``RedisBackend._get_client``, ``connection_errors``, ``set``) and
``celery.backends.base`` (``BaseKeyValueStoreBackend._store_result``, which reads before it writes;
``Backend._get_result_meta``, without what only ``result_extended`` asks for).
"""

import functools
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from celery.backends.redis import RedisBackend, SentinelBackend
from redis import Redis
from redis.exceptions import OutOfMemoryError, ReadOnlyError

from producer.scripts import Command
from worker.ending import Ending
from worker.insist import InsistentRedis
from worker.lines import Lines
from worker.request import Outcome, current_stage

#: Where a result says what its job belongs to, and the name of that in Celery's context of the job.
_KIN = {"group_id": "group", "parent_id": "parent_id"}


class _Persistent:
    """Goes on trying to store a result for as long as the server refuses it for a reason that will pass."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.connection_errors: tuple[type[Exception], ...] = (*self.connection_errors, OutOfMemoryError, ReadOnlyError)

    def _get_client(self) -> type[Redis]:
        return InsistentRedis

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
        """Store an outcome. With that of a job whose stage ran here goes all that was kept for the job."""
        meta = self._get_result_meta(result=result, state=state, traceback=traceback, request=request)
        outcome = self.encode({**meta, "task_id": task_id})
        stage = current_stage(task_id) if state in self.READY_STATES else None
        remains = stage.remains(request) if stage is not None else None
        if stage is None or remains is None or stage.together is None or remains.tag is None:
            self.ending(task_id, remains, outcome, self.expires or 0)  # something may be to follow at once
            if stage is not None:
                stage.ended = remains
        else:
            command = self.ending.command(task_id, remains, outcome, self.expires or 0)
            stage.together.append(Outcome(stage, remains, command))
        return result

    def store_together(self: Any, outcomes: Sequence[Outcome]) -> dict[str, Exception]:
        """Store what was kept back for this, in one round trip; return why not, by job, where Redis refuses for good.

        As Celery does with a single one, it is tried again for as long as the reason is one that will pass.
        """
        errors = self._ensure_retryable(self._end_together, [one.command for one in outcomes])
        refused = {}
        for outcome, error in zip(outcomes, errors, strict=True):
            stage = outcome.stage
            if error is None:
                stage.ended = outcome.remains
                stage.engine.forget(stage.job_id)
            else:
                refused[stage.job_id] = error
        return refused

    def _end_together(self: Any, commands: Sequence[Command]) -> list[Exception | None]:
        errors: list[Exception | None] = self.ending.together(commands)
        if passing := next((error for error in errors if isinstance(error, self.connection_errors)), None):
            raise passing
        return errors


class Results(_Persistent, RedisBackend):  # type: ignore[misc]
    """For ``redis://`` and ``rediss://``."""


class SentinelResults(_Persistent, SentinelBackend):  # type: ignore[misc]
    """For ``sentinel://``."""
