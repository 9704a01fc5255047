"""Celery's result backend, which stores a result whatever Redis refuses for a while.

Stage: behind the tracer; ``celeryconfig.py`` selects the classes. Neighbour: :mod:`worker.insist`, the client.

Mirrors celery 5.7 ``celery.backends.redis`` (``RedisBackend._get_client``, ``connection_errors``).
"""

from typing import Any

from celery.backends.redis import RedisBackend, SentinelBackend
from redis import Redis
from redis.exceptions import OutOfMemoryError, ReadOnlyError

from worker.insist import InsistentRedis


class _Persistent:
    """Goes on trying to store a result for as long as the server refuses it for a reason that will pass."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.connection_errors: tuple[type[Exception], ...] = (*self.connection_errors, OutOfMemoryError, ReadOnlyError)

    def _get_client(self) -> type[Redis]:
        return InsistentRedis


class Results(_Persistent, RedisBackend):  # type: ignore[misc]
    """For ``redis://`` and ``rediss://``."""


class SentinelResults(_Persistent, SentinelBackend):  # type: ignore[misc]
    """For ``sentinel://``."""
