"""One private server and one real worker for all hostile tests, and what must be true after each."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from producer import wire
from producer.errors import FleetError
from producer.results import meta_key, read_meta
from tests.hostile.messages import Case, Maker
from tests.integration.kit import QUEUE, Fleet, faces, small_picture
from tests.waiting import eventually
from worker import embedded

#: Jobs the worker holds at once.
JOBS = 4

#: Every key that may exist when all jobs have ended: results, and what kombu and the fleet keep of themselves.
ALLOWED_KEYS = re.compile(
    r"celery-task-meta-[A-Za-z0-9_.-]{1,96}|_kombu\.binding[A-Za-z0-9_.-]*|fleet:(models|workers|counters|sweep|suspects|dead[a-z:]*)"
    r"|unacked_mutex|[A-Za-z0-9-]+\.reply\.celery\.pidbox"
)


class Victim:
    """The worker under attack, and a look behind it."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.process = psutil.Process(fleet.worker.process.pid)

    def maker(self, seed: int) -> Maker:
        """Give a maker of messages for the worker's queue."""
        return Maker(seed, QUEUE, self.fleet.image)

    def push(self, items: Sequence[bytes], queue: str = QUEUE) -> None:
        """Put raw items into a queue, and wait until the worker has dealt with all of them."""
        for start in range(0, len(items), 100):
            self.fleet.redis.lpush(queue, *items[start : start + 100])
            self.settle()

    def settle(self) -> None:
        """Wait until nothing waits and nothing is held."""
        queues = [key for name in (QUEUE, "fleet") for key in wire.queue_keys(name)]
        eventually(lambda: not any(map(self.fleet.redis.llen, queues)) and not self.fleet.unacked(), "the end")

    def answer(self, job_id: str) -> wire.Result | list[Any] | FleetError | None:
        """Return what a client would make of the job's stored outcome."""
        stored = self.fleet.redis.get(meta_key(job_id))
        return read_meta(None if stored is None else stored.encode())

    def refused(self, case: Case, queue: str = QUEUE) -> str:
        """Send one case, and return the code of its answer."""
        self.push([case.item], queue)
        assert case.job_id is not None
        answer = eventually(lambda: self.answer(str(case.job_id)), f"the answer to {case.name}")
        assert isinstance(answer, FleetError), (case.name, answer)
        return answer.code

    def memory_mb(self) -> float:
        """Resident memory of the worker."""
        return self.process.memory_info().rss / 2**20

    def assert_well(self) -> None:
        """The same process works, every place is free, and nothing is left in Redis that should not be there."""
        assert self.process.is_running()
        assert self.process.status() != psutil.STATUS_ZOMBIE
        assert faces(self.fleet.detect().get(timeout=30)) == 1
        self.settle()
        many = [self.fleet.detect() for _ in range(4 * JOBS)]  # more than would pass if a place were lost
        assert [faces(job.get(timeout=30)) for job in many] == [1] * len(many)
        self.settle()
        pool = eventually(self.idle, "the end of all jobs")
        assert [one["in_flight"] for one in pool["models"].values()] == [0]
        try:
            eventually(lambda: not self.left_over(), "an empty Redis", 15)
        except AssertionError:
            raise AssertionError(f"left in Redis: {self.left_over()}") from None

    def idle(self) -> dict[str, Any] | None:
        """What the pool says of itself once it holds no job: a job leaves it a moment after its outcome is stored."""
        pool: dict[str, Any] = self.fleet.inspect("stats")["pool"]
        return pool if pool["jobs"] == 0 else None

    def left_over(self) -> list[str]:
        """List the keys that nobody should have left, and those of jobs that have ended."""
        return [key for key in self.fleet.redis.scan_iter(count=1000) if not ALLOWED_KEYS.fullmatch(key)]


@pytest.fixture(scope="session")
def victim(store: Path, samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """Start a worker that all hostile tests share: if one of them ends it, all fail."""
    with embedded.server() as url:
        fleet = Fleet(url, store, tmp_path_factory.mktemp("hostile"), small_picture(samples))
        fleet.start(extra=("-I", "tests.hostile.spy_tasks", "-c", str(JOBS)), lease_s=2)
        yield Victim(fleet)
        fleet.close()
