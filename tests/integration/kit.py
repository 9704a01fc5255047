"""Real workers in processes of their own, a bare Celery producer, and waiting with a deadline.

Nothing here imports the client: whatever Celery promises for a task, it promises to any Celery program.
"""

import base64
import contextlib
import functools
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import psutil
from celery import Celery
from celery.result import AsyncResult
from redis import Redis

from tests.conftest import worker_environ
from tests.waiting import SOON_S, eventually
from worker.health import ready_file

ROOT = Path(__file__).parents[2]

#: The model of nearly all tests, and its queue.
MODEL = "blazeface_short"
QUEUE = f"detect.{MODEL}"

#: Where the tasks of :mod:`tests.integration.user_tasks` and :mod:`tests.integration.user_stages` go.
USERS = "fleet"

#: The option that lets a worker load them.
USER_TASKS = ("-I", "tests.integration.user_tasks,tests.integration.user_stages")


class Worker:
    """A worker process with a log of its own."""

    def __init__(self, name: str, command: Sequence[str], environ: dict[str, str], folder: Path) -> None:
        self.name = f"{name}@test"
        self.log_path = folder / f"{name}.log"
        self.sign = folder / f"{name}.health"
        for sign in (self.sign, ready_file(self.sign)):
            sign.unlink(missing_ok=True)  # an earlier worker's of this name
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                command, env={**os.environ, **environ}, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    @property
    def log(self) -> str:
        """All it has written so far."""
        return self.log_path.read_text(errors="replace")

    def is_ready(self) -> bool:
        """Whether its networks answer and Redis knows which they are; fails when it has ended."""
        assert self.process.poll() is None, self.log
        return ready_file(self.sign).exists()

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self, within_s: float = SOON_S) -> int:
        """Wait for its end and return the exit status."""
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {within_s} s:\n{self.log}") from None

    def stop(self) -> int:
        """Let it drain and end; return the exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.wait()

    def kill(self) -> None:
        """End it at once, whatever it does."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(10)


def command_of(name: str, extra: Sequence[str] = ()) -> list[str]:
    """Give the command line of a worker."""
    return [sys.executable, "-P", "-m", "worker", "-n", f"{name}@test", *extra]


def spawn(
    url: str, store: Path, folder: Path, name: str = "w", *, extra: Sequence[str] = (), served: str = MODEL, **more: Any
) -> Worker:
    """Start a worker and return at once; ``more`` are settings in lower case, or whole names of variables."""
    environ = worker_environ(url, store, folder / f"{name}.health", served, more)
    environ |= {"PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges"}
    return Worker(name, command_of(name, extra), environ, folder)


class Fleet:
    """A private server, workers on it, a bare Celery program and a connection to look behind the scenes."""

    def __init__(self, url: str, store: Path, folder: Path, picture: bytes) -> None:
        self.url = url
        self.redis: Redis = Redis.from_url(url, decode_responses=True, socket_timeout=None)
        self.app = Celery("bare", broker=url, backend=url, set_as_current=False)
        self.app.conf.update(task_serializer="json", broker_connection_retry_on_startup=True)
        self.picture = picture
        self.image = {"data": base64.b64encode(picture).decode()}
        self.workers: list[Worker] = []
        self._store = store
        self._folder = folder

    @property
    def worker(self) -> Worker:
        """The first worker."""
        return self.workers[0]

    def start(self, *, extra: Sequence[str] = USER_TASKS, ready: bool = True, **more: Any) -> Worker:
        """Start a worker with the users' tasks; it is ready when the call returns."""
        worker = spawn(self.url, self._store, self._folder, f"w{len(self.workers) + 1}", extra=extra, **more)
        self.workers.append(worker)
        if ready:
            eventually(worker.is_ready, "a ready worker", 60)
        return worker

    def close(self) -> None:
        """Stop all workers and close the connections."""
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.terminate()
        for worker in self.workers:
            with contextlib.suppress(AssertionError):
                worker.wait(15)
            worker.kill()
        consumer = self.app.backend.result_consumer
        consumer.stop()
        consumer._pubsub = None  # results that are still referred to would subscribe again to unsubscribe
        self.app.close()
        self.redis.close()

    def wipe(self) -> None:
        """Remove every key of this private server."""
        for key in self.redis.scan_iter():
            self.redis.delete(key)

    # ----------------------------------------------------------------------------------------------- sending

    def detect(self, image: Any = None, *, options: dict[str, Any] | None = None, **how: Any) -> AsyncResult:
        """Send ``fleet.detect`` as any Celery program would."""
        args = [self.image if image is None else image]
        return self.app.send_task("fleet.detect", args, options or {}, **{"queue": QUEUE, **how})

    def user(self, name: str, *args: Any, **how: Any) -> AsyncResult:
        """Send one of the users' tasks."""
        return self.app.send_task(f"user.{name}", list(args), **{"queue": USERS, **how})

    def gate(self, **how: Any) -> "Gate":
        """Send a task that blocks its thread until the gate is opened."""
        key = uuid.uuid4().hex
        return Gate(self, key, self.user("gate", key, **how))

    # ---------------------------------------------------------------------------------------------- looking

    def unacked(self) -> int:
        """Number of messages that a worker has taken and not acknowledged."""
        return self.redis.hlen("unacked")

    def queued(self, queue: str = QUEUE) -> int:
        """Number of messages that wait in a queue."""
        return self.redis.llen(queue)

    def inspect(self, what: str, *args: Any) -> Any:
        """Ask the first worker over Celery's remote control; return its answer."""
        asked = self.app.control.inspect(destination=[self.worker.name], timeout=5)
        return eventually(lambda: getattr(asked, what)(*args), f"an answer to {what}")[self.worker.name]

    def order(self, command: str, **arguments: Any) -> Any:
        """Send a control command to the first worker and return its answer."""
        answers = self.app.control.broadcast(
            command, arguments=arguments, destination=[self.worker.name], reply=True, timeout=5, limit=1
        )
        assert answers, f"no answer to {command}"
        return answers[0][self.worker.name]

    def revoke(self, *jobs: str, terminate: bool = False) -> None:
        """Revoke jobs, and wait until the first worker has done so."""
        self.order("revoke", task_id=list(jobs), terminate=terminate)

    def records(self, kind: str, job: AsyncResult | str) -> list[str]:
        """Return what the users' tasks have noted about a job."""
        return self.redis.lrange(f"record:{kind}:{job}", 0, -1)

    @contextlib.contextmanager
    def events(self) -> Iterator[list[dict[str, Any]]]:
        """Collect the workers' events for the length of the block."""
        seen: list[dict[str, Any]] = []
        with self.app.connection_for_read() as connection:
            receiver = self.app.events.Receiver(connection, handlers={"*": seen.append})
            thread = threading.Thread(target=_collect, args=(receiver,), daemon=True)
            thread.start()
            eventually(lambda: seen, "the heartbeat that was asked for")
            try:
                yield seen
            finally:
                receiver.should_stop = True
                thread.join(SOON_S)


def _collect(receiver: Any) -> None:
    for _ in receiver.consume(limit=None, timeout=None, safety_interval=0.05, wakeup=True):
        pass


class Gate:
    """A user's task that has a thread until it is told to go on."""

    def __init__(self, fleet: Fleet, key: str, job: AsyncResult) -> None:
        self._fleet = fleet
        self._key = key
        self.job = job

    def entered(self) -> "Gate":
        """Wait until the task's body runs."""
        found = self._fleet.redis.blpop([f"entered:{self._key}"], timeout=SOON_S)
        assert found is not None, "the gate was never entered"
        return self

    def open(self) -> None:
        """Let it go on; it returns "through"."""
        self._fleet.redis.rpush(f"go:{self._key}", "go")


def faces(result: Any) -> int:
    """Count the detections of a result of the contract."""
    assert result["v"] == 1
    assert result["model"] == MODEL
    return len(result["detections"])


@functools.cache
def small_picture(samples: Path) -> bytes:
    """Give a JPEG with one face, 256 x 300 pixels: small enough to travel inside a message."""
    photo = cv2.imread(str(samples / "grace_hopper.jpg"))
    done, data = cv2.imencode(".jpg", cv2.resize(photo, (256, 300)))
    assert done
    return data.tobytes()


def tree(pid: int) -> list[psutil.Process]:
    """List a process and all below it."""
    top = psutil.Process(pid)
    return [top, *top.children(recursive=True)]


def alive(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Return those that still run."""
    return [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


STOP = signal.SIGTERM
