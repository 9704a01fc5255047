"""A fleet whose one model has three versions, and workers that serve it."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from redis import Redis

from producer import Client
from producer.wire import Result
from tests.integration.kit import Worker, spawn
from tests.swap.versions import LABELS, NAME, add, box, marking, picture
from tests.waiting import eventually
from worker import embedded
from worker.rollout import Rollout, Said
from worker.versions import Order

#: Where the marks of each version are.
PLACES = {1: 5, 2: 40, 3: 60}


@dataclass
class Marks:
    """A server, a store with versions of one model, and workers."""

    url: str
    folder: Path
    digests: dict[int, str]
    workers: list[Worker] = field(default_factory=list)

    @property
    def store(self) -> Path:
        """The model store."""
        return self.folder / "models"

    def start(self, **more: Any) -> Worker:
        """Start a worker; it is ready when the call returns."""
        settings = {"precision": "f32", "cache_dir": self.folder / "compiled", "threads": 2} | more
        name = f"w{len(self.workers) + 1}"
        worker = spawn(self.url, self.store, self.folder, name, served=NAME, extra=("-l", "INFO"), **settings)
        self.workers.append(worker)
        eventually(worker.is_ready, "a ready worker", 60)
        return worker

    def add(self, number: int, **how: Any) -> str:
        """Add a version and return its digest."""
        self.digests[number] = add(self.folder, self.store, marking(PLACES.get(number, number), **how))
        return self.digests[number]

    def swap(self, number: int, **how: Any) -> list[Said]:
        """Change all workers, as the command does."""
        with Rollout(self.url, within_s=60) as rollout:
            return rollout.change(Order(NAME, number, **how))

    def order(self, command: str, *workers: Worker, **words: Any) -> list[dict[str, Any]]:
        """Send a control command, as `celery control` does, and return the workers' answers."""
        with Celery("bare", broker=self.url, set_as_current=False) as app:
            names = [one.name for one in workers or self.workers]
            said = app.control.broadcast(
                command, arguments=words, destination=names, reply=True, timeout=20, limit=len(names)
            )
        return [answer for reply in said for answer in reply.values()]

    def outcome(self, order: str) -> dict[str, Any]:
        """Wait for the end of an order of this id on the first worker, and tell what became of it."""

        def ended() -> Any:
            (said,) = self.order("model_change", self.workers[0])
            return said["last"].get("order") == order and said["last"]["state"] != "preparing" and said["last"]

        return eventually(ended, "the end of the order", 60)

    def try_to_swap(self, version: str, **words: Any) -> dict[str, Any]:
        """Order the first worker to swap, and wait for what comes of it."""
        order = uuid.uuid4().hex
        (said,) = self.order("swap_model", self.workers[0], version=version, order=order, **words)
        return {"state": "failed", "reason": said["error"]} if "error" in said else self.outcome(order)

    def served(self) -> dict[str, dict[str, Any]]:
        """Ask every worker."""
        with Rollout(self.url) as rollout:
            return rollout.served()

    def shares(self, worker: Worker) -> dict[int, float]:
        """Tell which versions a worker serves: number -> share."""

        def answered() -> Any:  # a worker that has just begun, or has much to do, may not answer in time
            return self.served().get(worker.name)

        versions = eventually(answered, f"an answer of {worker.name}")["models"][NAME]
        return {one["version"]: one["share"] for one in versions if not one["draining"]}

    def ask(self, red: int = 100) -> Result:
        """Send one picture."""
        with Client(self.url, model=NAME) as client:
            return client.detect(picture(red))

    def number_of(self, result: Result, red: int) -> int:
        """Tell which version made a result; its digest and its box must agree, and be of the picture."""
        number = next(one for one, digest in self.digests.items() if digest == result.model_digest)
        (found,) = result.detections
        assert list(found.box) == pytest.approx(box(PLACES[number], red), abs=0.1)
        assert found.label == LABELS[0]
        return number


@pytest.fixture
def marks(tmp_path: Path) -> Iterator[Marks]:
    """A fleet without workers; its model has the versions 1, 2 and 3."""
    with embedded.server() as url:
        made = Marks(url, tmp_path, {})
        for number in PLACES:
            made.add(number)
        yield made
        for worker in made.workers:
            worker.kill()


@pytest.fixture
def redis(marks: Marks) -> Iterator[Redis]:
    """A connection to the server of the test's fleet."""
    with Redis.from_url(marks.url) as connection:
        yield connection
