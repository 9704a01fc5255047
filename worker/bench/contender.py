"""What the runner asks of a contender, and how contenders' processes are told apart.

Stage: between :mod:`worker.bench.runner` and every contender. A new contender is one file with a class that has
:class:`Contender`'s attributes.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from worker.bench.engine import Answer
from worker.bench.task import Task


class Running(Protocol):
    """A contender that was started and has served some images."""

    def serve(self, count: int) -> None:
        """Serve ``count`` images, the task's photos in turn, as fast as it goes; return when the last is answered.

        Raises:
            ContenderError: an image has no answer.
        """
        ...

    def alone(self, count: int) -> Sequence[float]:
        """Serve ``count`` images one after the other, each when the one before is answered; seconds for each."""
        ...

    def answers(self) -> Sequence[Answer]:
        """Give what is found on each of the task's photos."""
        ...

    def processes(self) -> Mapping[str, Sequence[int]]:
        """Give the process ids by role: ``worker``, ``redis``; this process is the ``client``."""
        ...


@dataclass(frozen=True, slots=True)
class Kind:
    """What a contender is.

    Attributes:
        name: unique; what tables and plots show.
        group: ``limit``, ``three servers``, ``fleet``, ``celery`` or ``peer``.
        durable: whether a request outlives the death of the process that works on it.
        note: what else a reader should know, or empty.
    """

    name: str
    group: str
    durable: bool = False
    note: str = ""


class Contender(Protocol):
    """Something that can be started for a task."""

    @property
    def kind(self) -> Kind:
        """What it is."""
        ...

    def open(self, task: Task) -> AbstractContextManager[Running]:
        """Run it for the length of a block.

        Raises:
            ContenderError: it cannot be started here; the message says why.
        """
        ...


class ContenderError(Exception):
    """A contender cannot be started, or did not answer; the message says why."""
