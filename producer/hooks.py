"""Where an application's tracing hooks in: told of each job that is sent, it may add headers to the message.

Stage: beside :mod:`producer.dispatch`. Nothing happens unless :mod:`producer.tracing` was asked to.
"""

from collections.abc import Callable, Mapping
from typing import Protocol


class Sending(Protocol):
    """One job on its way into Redis."""

    headers: Mapping[str, str]

    def end(self, job_id: str | None, error: BaseException | None) -> None:
        """Note that it arrived as ``job_id``, or what became of it instead."""
        ...


class Unwatched:
    """Nobody traces."""

    headers: Mapping[str, str] = {}

    def end(self, job_id: str | None, error: BaseException | None) -> None:
        """Do nothing."""


_unwatched = Unwatched()


def _watch_nothing() -> Sending:
    return _unwatched


#: Called before each job is built; :func:`watch_with` replaces it.
_begin: list[Callable[[], Sending]] = [_watch_nothing]


def begin_sending() -> Sending:
    """Tell whoever watches that a job is about to be sent."""
    return _begin[0]()


def watch_with(begin: Callable[[], Sending] | None) -> None:
    """Have ``begin`` called for each job from now on, on the thread that sends it; None ends that."""
    _begin[0] = begin or _watch_nothing
