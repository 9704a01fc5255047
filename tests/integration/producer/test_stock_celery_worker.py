"""An ordinary Celery worker takes our messages like its own: acknowledged, retried, revoked, expired."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from redis import Redis

from producer import Cancelled, Client, DeadlineExceeded, InferenceFailed
from tests.integration.producer.standin import PICTURE, make_result
from tests.waiting import eventually

ROOT = Path(__file__).parents[3]

APP = """
import os, time
from celery import Celery
from producer.errors import InferenceFailed

app = Celery("stock", broker=os.environ["URL"], backend=os.environ["URL"])
app.conf.task_acks_late = True
app.conf.worker_prefetch_multiplier = 1
app.conf.broker_connection_retry_on_startup = True
RESULT = {result}

@app.task(name="fleet.detect", bind=True, max_retries=1)
def detect(self, image, **options):
    if options.get("min_score") == 0.5 and self.request.retries == 0:
        raise self.retry(countdown=0)
    if options.get("min_score") == 0.25:
        raise InferenceFailed("It broke.")
    if options.get("min_score") == 0.75:
        time.sleep(float(options["max_detections"]) / 100)
    return {{**RESULT, "width": self.request.retries + 1, "worker": self.request.delivery_info["routing_key"]}}
"""


@pytest.fixture(scope="module")
def stock_worker(server: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run one worker for this module, on a database of its own."""
    folder = tmp_path_factory.mktemp("stock")
    (folder / "stock.py").write_text(APP.format(result=make_result().to_json()))
    url = f"redis://127.0.0.1:{server.port}/3"
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "stock",
        "worker",
        "-P",
        "threads",
        "-c",
        "1",
        "-Q",
        "detect.centerface",
    ]
    environment = {**os.environ, "URL": url, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, "-l", "info"], cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            eventually(lambda: b" ready." in (folder / "log").read_bytes(), 30)
            yield url
        finally:
            process.terminate()
            process.wait(20)


def acknowledged(url: str) -> bool:
    """Tell whether no message is with a worker and unacknowledged."""
    with Redis.from_url(url) as redis:
        return redis.hlen("unacked") == 0


def test_every_priority_is_consumed_and_acknowledged(stock_worker: str) -> None:
    """Given a job of each priority, then each is done and nothing stays unacknowledged."""
    with Client(stock_worker) as client:
        jobs = [client.submit(PICTURE, priority=priority) for priority in range(10)]
        assert [job.result(20).worker for job in jobs] == ["detect.centerface"] * 10
    eventually(lambda: acknowledged(stock_worker))


def test_celerys_retry_works_on_our_message(stock_worker: str) -> None:
    """Given a task that retries once, then the second try's result arrives."""
    with Client(stock_worker) as client:
        assert client.detect(PICTURE, min_score=0.5).width == 2


def test_an_error_of_ours_crosses_celery(stock_worker: str) -> None:
    """Given a task that raises a fleet error, then the client raises the same."""
    with Client(stock_worker) as client, pytest.raises(InferenceFailed, match="It broke"):
        client.detect(PICTURE, min_score=0.25)


def test_celerys_own_client_reads_our_job(stock_worker: str) -> None:
    """Given our id, then AsyncResult of a plain Celery program sees the result."""
    with Client(stock_worker) as client, Celery(broker=stock_worker, backend=stock_worker) as app:
        job = client.submit(PICTURE)
        assert app.AsyncResult(job.id).get(timeout=20)["width"] == 1


def test_a_job_past_its_deadline_is_expired_by_celery(stock_worker: str) -> None:
    """Given a worker that is busy beyond a job's deadline, then Celery revokes it, and that is a missed deadline."""
    with Client(stock_worker) as client:
        busy = client.submit(PICTURE, min_score=0.75, max_detections=80)
        job = client.submit(PICTURE, deadline_s=0.3)
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            job.result()
        assert time.monotonic() - started < 2
        busy.result(20)


def test_our_broadcast_revokes(stock_worker: str) -> None:
    """Given a waiting job, when it is cancelled, then the worker itself stores REVOKED for it."""
    with Client(stock_worker) as client, Client(stock_worker) as other:
        busy = client.submit(PICTURE, min_score=0.75, max_detections=80)
        job = client.submit(PICTURE)
        elsewhere = other.job(job.id)
        assert job.cancel()
        with pytest.raises(Cancelled):
            job.result(0)
        with pytest.raises(Cancelled):
            elsewhere.result(20)
        busy.result(20)
