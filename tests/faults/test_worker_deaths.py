"""A worker dies at any moment: its jobs are answered once, by another; a job that is to blame is put away."""

import base64
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from redis import Redis

from producer import Client, Job, dead
from producer.errors import InternalError
from producer.wire import BEGUN_PREFIX, BLOB_PREFIX, JOBS_KEY, ledger_key, queue_of
from tests.integration.kit import MODEL, Worker, small_picture, spawn
from tests.waiting import eventually
from worker import deaths

QUEUE = queue_of(MODEL)
DIES = ["-I", "tests.faults.dies_at"]

#: With default settings, seconds within which a dead worker's jobs are answered by another.
ANSWERED_WITHIN_S = 15


class Fleet:
    """A private server, workers that a test starts and kills, a client, and a count of the answers."""

    def __init__(self, url: str, store: Path, folder: Path) -> None:
        self.url = url
        self.redis: Redis = Redis.from_url(url, decode_responses=True)
        self.client = Client(url, model=MODEL)
        self.workers: list[Worker] = []
        self.answers: Counter[str] = Counter()
        self.supervisor: Supervisor | None = None
        self._place = (store, folder)
        self._listener = self.redis.pubsub(ignore_subscribe_messages=True)
        self._listener.psubscribe(**{"celery-task-meta-*": self._count})
        self._thread = self._listener.run_in_thread(sleep_time=0.1, daemon=True)

    def start(self, *, ready: bool = True, **more: object) -> Worker:
        """Start a worker; it is ready when the call returns."""
        worker = spawn(self.url, *self._place, f"w{len(self.workers)}", **more)  # type: ignore[arg-type]
        self.workers.append(worker)
        if ready:
            eventually(worker.is_ready, "a ready worker", 60)
        return worker

    def close(self) -> None:
        """End all workers and connections."""
        if self.supervisor is not None:
            self.supervisor.stop()
        for worker in self.workers:
            worker.kill()
        self.client.close()
        self._thread.stop()
        self._thread.join(5)
        self.redis.close()

    def is_clean(self) -> bool:
        """Whether nothing of any job is left but its result."""
        counts = (self.redis.hlen("unacked"), self.redis.hlen(JOBS_KEY), self.redis.zcard(ledger_key(QUEUE)))
        prefixes = (BLOB_PREFIX, BEGUN_PREFIX)
        return not any(counts) and not any(next(self.redis.scan_iter(f"{one}*"), None) for one in prefixes)

    def told(self, jobs: list[Job]) -> dict[str, int]:
        """How many answers of each job were told until now: a mark is sent after them, and arrives behind them."""
        mark = f"mark-{time.monotonic_ns()}"
        self.redis.publish(f"celery-task-meta-{mark}", "")
        eventually(lambda: self.answers[mark], "all that was told")
        return {job.id: self.answers[job.id] for job in jobs}

    def _count(self, message: dict[str, str]) -> None:
        self.answers[message["channel"].removeprefix("celery-task-meta-")] += 1


@pytest.fixture
def fleet(own_server: str, store: Path, tmp_path: Path) -> Iterator[Fleet]:
    """Give a fleet without workers."""
    made = Fleet(own_server, store, tmp_path)
    yield made
    made.close()


@pytest.fixture
def picture(samples: Path) -> bytes:
    """A photo with one face that is too large to ride inside the message."""
    return small_picture(samples)


def assert_answered_once(fleet: Fleet, jobs: list[Job]) -> None:
    """Each has one face, and its answer was told once."""
    assert [len(job.result(60).detections) for job in jobs] == [1] * len(jobs)
    eventually(fleet.is_clean, "the end of all traces")
    assert fleet.told(jobs) == {job.id: 1 for job in jobs}


@pytest.mark.parametrize(
    ("hop", "cause"),
    [
        ("pop", "SIGKILL"),
        ("fetch", "SIGKILL"),
        ("decode", "SIGSEGV"),
        ("inference", "SIGKILL"),
        ("body", "SIGABRT"),
        ("result", "SIGKILL"),
        ("tidied", "SIGKILL"),
    ],
)
def test_a_worker_that_dies_at_any_hop_loses_nothing(fleet: Fleet, picture: bytes, hop: str, cause: str) -> None:
    """Given jobs at a worker, when it dies right after a hop of one, then another answers each job once."""
    doomed = fleet.start(extra=DIES, lease_s=2, DIES_AT=hop, DIES_OF=cause)
    jobs = [fleet.client.submit(picture) for _ in range(6)]
    assert doomed.wait() == -signal.Signals[cause]

    fleet.start(lease_s=2)

    assert_answered_once(fleet, jobs)


def test_a_killed_worker_s_jobs_are_answered_by_another_in_time(fleet: Fleet, picture: bytes) -> None:
    """Given two workers as they come, when one is killed under load, then every job is answered within 15 s."""
    doomed = fleet.start()
    fleet.start()
    jobs = [fleet.client.submit(picture) for _ in range(300)]
    eventually(jobs[60].done, "the middle")
    doomed.signal(signal.SIGSTOP)  # so that it surely holds some
    eventually(lambda: fleet.redis.llen(QUEUE) == 0, "the other's work")
    held = fleet.redis.hlen("unacked")
    doomed.kill()
    killed_at = time.monotonic()

    for job in jobs:
        job.result(60)

    assert held > 0
    assert time.monotonic() - killed_at < ANSWERED_WITHIN_S
    assert_answered_once(fleet, jobs)


class Supervisor:
    """Starts a worker anew whenever it has died, as compose would, and counts the deaths."""

    def __init__(self, fleet: Fleet, **how: object) -> None:
        self.deaths = 0
        self._fleet = fleet
        self._how = how
        self._over = threading.Event()
        self._worker = fleet.start(ready=False, **how)
        fleet.supervisor = self
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            if self._worker.process.poll() is not None:
                self.deaths += 1
                self._worker = self._fleet.start(ready=False, **self._how)

    def stop(self) -> None:
        """Let the last one be."""
        self._over.set()
        self._thread.join()


def test_a_job_that_ends_its_worker_twice_is_put_away_with_its_image(fleet: Fleet, picture: bytes) -> None:
    """Given a fatal image among good ones, then it ends two workers and no more, and all others are answered."""
    fatal = picture + b"fatal" * 1000
    supervisor = Supervisor(fleet, extra=DIES, lease_s=2, DIES_AT="decode", DIES_ON="fatal")
    before = [fleet.client.submit(picture) for _ in range(5)]
    poison = fleet.client.submit(fatal)
    after = [fleet.client.submit(picture) for _ in range(5)]

    error = poison.error(60)

    for job in (*before, *after):
        assert len(job.result(30).detections) == 1
    supervisor.stop()
    assert supervisor.deaths == deaths.DEATHS
    assert isinstance(error, InternalError)
    assert f"fleet dead show {poison.id}" in str(error)
    with Redis.from_url(fleet.url) as redis:
        (kept,) = dead.read_all(redis)
        assert (kept.id, kept.queue, kept.code) == (poison.id, QUEUE, "internal_error")
        assert [redis.get(key) for key in kept.images] == [fatal]
        dead.drop(redis, kept)
    assert_answered_once(fleet, [*before, *after])


def test_an_image_that_cannot_be_read_is_kept_where_the_operator_wants_it(fleet: Fleet) -> None:
    """Given FLEET_KEEP_INVALID, then a damaged image is an error to its caller and an entry of the dead list."""
    fleet.start(keep_invalid=1)
    damaged = b"no image" * 1000

    job = fleet.client.submit(damaged)

    assert job.error(30).code == "invalid_image"
    with Redis.from_url(fleet.url) as redis:
        (kept,) = dead.read_all(redis)
        assert (kept.id, kept.code) == (job.id, "invalid_image")
        assert [redis.get(key) for key in kept.images] == [damaged]


def test_jobs_given_back_in_good_order_are_not_held_to_blame(fleet: Fleet, picture: bytes) -> None:
    """Given a worker that is told to end at once, three times over, then no job that it held is a suspect."""
    jobs = [fleet.client.submit(picture) for _ in range(400)]
    for share in (20, 120, 220):
        worker = fleet.start()
        eventually(jobs[share].done, f"job {share}")
        worker.signal(signal.SIGQUIT)
        worker.wait()
        assert list(fleet.redis.scan_iter(f"{BEGUN_PREFIX}*")) == []
    fleet.start()
    assert_answered_once(fleet, jobs)


def test_a_job_that_met_its_time_limit_is_not_held_to_blame(fleet: Fleet, picture: bytes) -> None:
    """Given a batch whose hard limit strikes in the middle, then nothing of it is left in the worker or in Redis."""
    worker = fleet.start()
    with Celery(broker=fleet.url, backend=fleet.url, set_as_current=False) as app:
        images = [{"data": base64.b64encode(picture).decode()}] * 200
        answer = app.send_task("fleet.detect_many", [images], queue=QUEUE, time_limit=0.1)
        assert type(answer.get(timeout=30, propagate=False)).__name__ == "TimeLimitExceeded"
        answer.forget()
    eventually(fleet.is_clean, "the end of all traces")
    assert worker.process.poll() is None
