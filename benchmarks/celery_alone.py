"""Celery without the fleet as a contender: prefork with a network per child; threads with a shared infer queue.

Stage: beside :mod:`worker.bench.fleet`. Neighbour: :mod:`benchmarks.celery_app` is what the workers run.
"""

import base64
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celery import Celery
from celery.exceptions import CeleryError
from redis import Redis

from benchmarks import processes
from worker.bench.contender import Contender, ContenderError, Kind
from worker.bench.engine import Answer
from worker.bench.fleet import WINDOW, server
from worker.bench.task import Task

ROOT = Path(__file__).parents[1]

#: Longest wait for one answer, the first one's start included.
ANSWER_WITHIN_S = 60.0

#: Threads of the threads pool per core: some decode, some wait.
THREADS_PER_CORE = 4


@dataclass(frozen=True, slots=True)
class CeleryAlone:
    """A worker of Celery's own."""

    kind: Kind
    pool: str
    per_core: int

    @contextmanager
    def open(self, task: Task) -> Iterator["Running"]:
        """Run a server and a worker."""
        worker = ["-m", "celery", "-A", "benchmarks.celery_app", "worker", "-l", "WARNING", "-P", self.pool]
        options = ["-c", str(self.per_core * task.cores), "--without-gossip", "--without-mingle"]
        with served([sys.executable, *worker, *options], task, {"BENCH_POOL": self.pool}) as running:
            yield running


@contextmanager
def served(command: Sequence[str], task: Task, environ: Mapping[str, str]) -> Iterator["Running"]:
    """Run a server, and ``command`` that serves the task ``detect`` from its queue ``celery``."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fleet-bench-")))
        url = stack.enter_context(server())
        log = stack.enter_context((folder / "worker.log").open("wb"))
        shared = {"BENCH_TASK": str(task.folder), "BENCH_URL": url, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
        worker = subprocess.Popen(
            command, env={**os.environ, **shared, **environ}, stdout=log, stderr=log, start_new_session=True
        )
        stack.callback(processes.end, worker)
        app = Celery("bench", broker=url, backend=url)
        stack.callback(app.close)
        running = Running(app, stack.enter_context(Redis.from_url(url)), worker.pid, task)
        try:
            running.serve(len(task.photos))
        except ContenderError as error:
            raise ContenderError(f"{error} {(folder / 'worker.log').read_text(errors='replace')[-800:]}") from error
        yield running


class Running:
    """A worker that has answered."""

    def __init__(self, app: Celery, redis: Redis, pid: int, task: Task) -> None:
        self._app = app
        self._redis = redis
        self._pid = pid
        self._images = task.images()

    def serve(self, count: int) -> None:
        """Send images, a window at most under way, and read every answer."""
        under_way: deque[Any] = deque()
        for data in itertools.islice(itertools.cycle(self._images), count):
            if len(under_way) >= WINDOW:
                _read(under_way.popleft())
            under_way.append(self._send(data))
        while under_way:
            _read(under_way.popleft())

    def alone(self, count: int) -> Sequence[float]:
        """Ask for one image after the other."""
        return [self._time_one(data) for data in itertools.islice(itertools.cycle(self._images), count)]

    def answers(self) -> Sequence[Answer]:
        """Ask for each photo."""
        return [_read(self._send(data)) for data in self._images]

    def processes(self) -> Mapping[str, Sequence[int]]:
        """Name the worker, whose children are counted with it, and the server."""
        return {"worker": [self._pid], "redis": [int(self._redis.info("server")["process_id"])]}

    def _send(self, data: bytes) -> Any:
        return self._app.send_task("detect", [base64.b64encode(data).decode("ascii")])

    def _time_one(self, data: bytes) -> float:
        began = time.perf_counter()
        _read(self._send(data))
        return time.perf_counter() - began


def contenders() -> list[Contender]:
    """List both pools; prefork with a child for each core, and for each infer request of a fleet's worker."""
    early = "acknowledges before it works, as Celery does by default"
    return [
        CeleryAlone(Kind("celery: prefork, network per child", "celery", note=early), "prefork", 1),
        CeleryAlone(Kind("celery: prefork, 2 children a core", "celery", note=early), "prefork", 2),
        CeleryAlone(Kind("celery: threads, shared queue", "celery", note=early), "threads", THREADS_PER_CORE),
    ]


def _read(result: Any) -> Answer:
    try:
        answer: Answer = result.get(timeout=ANSWER_WITHIN_S)
    except (CeleryError, OSError) as error:
        raise ContenderError(f"Celery did not answer: {error!r}.") from error
    result.forget()
    return answer
