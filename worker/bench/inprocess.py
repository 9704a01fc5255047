"""Contenders that are processes without a queue: the limit in two arrangements, and the three servers.

Stage: beside :mod:`worker.bench.fleet`. Neighbour: :mod:`worker.bench.child`, the processes.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from worker.bench.contender import Contender, ContenderError, Kind
from worker.bench.engine import Answer
from worker.bench.task import Task

#: The contender that all ratios refer to.
LIMIT = "limit: streams"


@dataclass(frozen=True, slots=True)
class InProcess:
    """Some processes with the same arrangement; ``processes`` 0 means one a core."""

    kind: Kind
    arrangement: str
    processes: int = 1

    @contextmanager
    def open(self, task: Task) -> Iterator["Children"]:
        """Start the processes; they end with the block."""
        count = self.processes or task.cores
        with ExitStack() as stack:
            children = Children(
                [stack.enter_context(_child(task, self.arrangement)) for _ in range(count)], len(task.photos)
            )
            children.await_ready()
            yield children


class Children:
    """The processes, each working on its share."""

    def __init__(self, processes: "Sequence[subprocess.Popen[str]]", photos: int) -> None:
        self._processes = processes
        self._photos = photos

    def await_ready(self) -> None:
        """Wait until each has served every photo once."""
        for process in self._processes:
            if _reply(process) != "ready":
                raise ContenderError("A process of the bench did not start; see above.")

    def serve(self, count: int) -> None:
        """Serve ``count`` images, shared by the processes."""
        for number, process in enumerate(self._processes):
            _tell(process, "serve", count, number, len(self._processes))
        for process in self._processes:
            _reply(process)

    def alone(self, count: int) -> Sequence[float]:
        """Serve ``count`` images one after the other in the first process."""
        _tell(self._processes[0], "alone", count, 0, 1)
        seconds: list[float] = _reply(self._processes[0])
        return seconds

    def answers(self) -> Sequence[Answer]:
        """Give the first process's answers."""
        _tell(self._processes[0], "answers", self._photos, 0, 1)
        answers: list[Answer] = _reply(self._processes[0])
        return answers

    def processes(self) -> Mapping[str, Sequence[int]]:
        """All are workers; nobody sends anything."""
        return {"worker": [process.pid for process in self._processes]}


def contenders() -> list[Contender]:
    """List the limit's two arrangements and the three servers."""
    return [
        InProcess(Kind(LIMIT, "limit", note="one process, a stream and a thread per core, no queue"), "streams"),
        InProcess(Kind("limit: process per core", "limit", note="one thread each, no queue"), "one_core", 0),
        InProcess(Kind("synchronous", "three servers"), "synchronous"),
        InProcess(Kind("start and wait, 4 threads", "three servers"), "start_and_wait"),
        InProcess(Kind("asynchronous", "three servers"), "asynchronous"),
    ]


def _child(task: Task, arrangement: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "worker.bench.child", str(task.folder), arrangement]
    return _Child(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


class _Child(subprocess.Popen[str]):
    """Ends with its block: its input is closed, which it takes as the end; at once where something went wrong."""

    def __exit__(self, *trouble: Any) -> None:
        if trouble[0] is not None:
            self.kill()
        if self.stdin is not None:
            with suppress(BrokenPipeError):  # it has died, and what it was told last is still here
                self.stdin.close()
        self.wait(30)
        super().__exit__(*trouble)


def _tell(process: "subprocess.Popen[str]", what: str, count: int, first: int, step: int) -> None:
    assert process.stdin is not None  # noqa: S101 - it was started with pipes
    try:
        process.stdin.write(json.dumps([what, count, first, step]) + "\n")
        process.stdin.flush()
    except OSError as error:
        raise ContenderError(f"A process of the bench has ended: {error}.") from error


def _reply(process: "subprocess.Popen[str]") -> Any:
    assert process.stdout is not None  # noqa: S101
    line = process.stdout.readline()
    if not line:
        raise ContenderError(f"A process of the bench ended with status {process.wait()}; see above.")
    return json.loads(line)
