"""The fleet as a contender: an embedded server, real workers, and this process as the client.

Stage: beside :mod:`worker.bench.inprocess`. Everything is what an operator runs; only the settings that make an
arrangement differ are set.
"""

import itertools
import random
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from redis import Redis

from producer import Client
from producer.errors import FleetError
from producer.wire import Result
from worker import embedded, local
from worker.bench.contender import Contender, ContenderError, Kind
from worker.bench.engine import Answer
from worker.bench.task import Task

#: Images under way; more than the workers of the largest arrangement hold. Fewer of large ones, for Redis's memory.
WINDOW = 256
WINDOW_BYTES = 512 * 1024 * 1024

#: Images that are asked for at random times and not answered yet; more wait for a thread.
AT_RANDOM = 64

#: Characters of a worker's log that are quoted.
LOG_TAIL = 500

#: The contenders that advice is derived from.
ONE_WORKER = "fleet: 1 worker"
PER_CORE = "fleet: worker per core"
BATCHES = "fleet: 1 worker, batches"

#: Images per message of the contenders that send batches.
BATCH = 16


@dataclass(frozen=True, slots=True)
class Fleet:
    """Some workers; ``workers`` 0 means one a core."""

    kind: Kind
    workers: int = 1
    batch: int = 1
    environ: Mapping[str, str] = field(default_factory=dict)

    @contextmanager
    def open(self, task: Task) -> Iterator["Workers"]:
        """Start server and workers; stopped in the other order."""
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fleet-bench-")))
            url = stack.enter_context(server())
            started: list[subprocess.Popen[bytes]] = []
            stack.callback(local.stop, started, 15)
            count = self.workers or task.cores
            signs = [folder / f"{number}.health" for number in range(count)]
            log = stack.enter_context((folder / "worker.log").open("wb"))
            for number, sign in enumerate(signs):
                environ = _environ(task, url, sign) | dict(self.environ)
                started.append(local.start_worker(f"bench{number}@%h", environ, output=log))
            try:
                local.await_ready(started, signs)
            except local.LocalError as error:
                said = (folder / "worker.log").read_text(errors="replace")
                raise ContenderError(f"{error} {said[-LOG_TAIL:]}") from error
            client = stack.enter_context(Client(url, model=task.spec.name))
            redis = stack.enter_context(Redis.from_url(url))
            workers = Workers(client, redis, [one.pid for one in started], task, self.batch)
            try:
                yield workers
            except NotAnswered as error:  # the log is gone with the folder
                said = (folder / "worker.log").read_text(errors="replace")
                raise ContenderError(f"{error} {said[-LOG_TAIL:]}".strip()) from error


class NotAnswered(ContenderError):
    """A worker did not answer, and its log may say why."""


class Workers:
    """A running fleet."""

    def __init__(self, client: Client, redis: Redis, pids: Sequence[int], task: Task, batch: int) -> None:
        self._client = client
        self.redis = redis
        self._pids = pids
        self._images = task.images()
        self._batch = batch
        self._window = max(32, min(WINDOW, WINDOW_BYTES // max(map(len, self._images))))

    def serve(self, count: int) -> None:
        """Send ``count`` images and read every answer."""
        for answer in self._client.map(self._work(count), window=self._window, batch=self._batch, ordered=False):
            if answer.error is not None:
                raise NotAnswered(f"The fleet did not answer: {answer.error}")

    def alone(self, count: int) -> Sequence[float]:
        """Ask for one image after the other."""
        return [self._time_one(data) for data in self._work(count)]

    def at_random(self, per_s: float, seconds: float) -> Sequence[float]:
        """Ask at random times, ``per_s`` a second on average, for ``seconds``; seconds until each answer."""
        dice, due, end = random.Random(7), time.perf_counter(), time.perf_counter() + seconds  # noqa: S311
        with ThreadPoolExecutor(AT_RANDOM) as pool:
            asked = []
            for data in itertools.cycle(self._images):
                due += dice.expovariate(per_s)
                if due > end:
                    break
                time.sleep(max(0.0, due - time.perf_counter()))
                asked.append(pool.submit(self._time_one, data))
            return [one.result() for one in asked]

    def answers(self) -> Sequence[Answer]:
        """Ask for each photo, in a message of its own or in batches, as this fleet is measured."""
        results = []
        for answer in self._client.map(self._images, batch=self._batch):
            if answer.result is None:
                raise NotAnswered(f"The fleet did not answer: {answer.error}")
            results.append(answer.result)
        return [_rows(result) for result in results]

    def processes(self) -> Mapping[str, Sequence[int]]:
        """Name the workers and the server."""
        said = self.redis.info("server")
        return {"worker": self._pids, "redis": [int(said["process_id"])]}

    def _work(self, count: int) -> Iterator[bytes]:
        return itertools.islice(itertools.cycle(self._images), count)

    def _time_one(self, data: bytes) -> float:
        began = time.perf_counter()
        try:
            self._client.detect(data)
        except FleetError as error:
            raise NotAnswered(f"The fleet did not answer: {error}") from error
        return time.perf_counter() - began


def contenders() -> list[Contender]:
    """List the fleet's arrangements."""
    alone = {"FLEET_THREADS": "1", "FLEET_STREAMS": "1"}
    return [
        Fleet(Kind(ONE_WORKER, "fleet", durable=True)),
        Fleet(Kind("fleet: 2 workers", "fleet", durable=True), workers=2),
        Fleet(Kind("fleet: 4 workers", "fleet", durable=True), workers=4),
        Fleet(Kind(PER_CORE, "fleet", durable=True, note="one thread and stream each"), 0, environ=alone),
        Fleet(Kind(BATCHES, "fleet", durable=True, note=f"{BATCH} images a message"), batch=BATCH),
        Fleet(
            Kind("fleet: worker per core, batches", "fleet", durable=True, note=f"{BATCH} images a message"),
            0,
            BATCH,
            alone,
        ),
    ]


@contextmanager
def server() -> Iterator[str]:
    """Run an embedded server.

    Raises:
        ContenderError: it does not start.
    """
    try:
        with embedded.server() as url:
            yield url
    except embedded.ServerError as error:
        raise ContenderError(str(error)) from error


def _environ(task: Task, url: str, sign: Path) -> dict[str, str]:
    return {
        "FLEET_URL": url,
        "FLEET_MODELS": task.spec.name,
        "FLEET_MODEL_STORE": str(task.store),
        "FLEET_HEALTH_FILE": str(sign),
        "FLEET_METRICS_PORT": "0",  # which workers side by side would fight for
    }


def _rows(result: Result) -> Answer:
    return [[one.label_id, one.score, *one.box] for one in result.detections]
