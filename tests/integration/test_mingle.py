"""A worker that starts learns what was cancelled before, and does not wait for anybody who is not there."""

import time

from celery import Celery
from redis import Redis

from producer.wire import WORKERS_KEY
from tests.conftest import StartWorker
from tests.waiting import eventually


def _app(url: str) -> Celery:
    app = Celery("asks", broker=url, backend=url, control="worker.mingle:FleetControl")
    app.conf.broker_connection_retry_on_startup = True
    return app


def test_a_worker_that_starts_alone_waits_for_nobody(own_server: str) -> None:
    """Given no other worker, or one that has not lived for long, when one says hello, then it goes on at once."""
    with _app(own_server) as app, app.connection_for_read() as connection, Redis.from_url(own_server) as books:
        books.zadd(WORKERS_KEY, {"me@here": time.time(), "dead@there": time.time() - 60})
        began = time.monotonic()

        replies = app.control.inspect(timeout=60.0, connection=connection).hello("me@here", [])

        assert replies is None
        assert time.monotonic() - began < 30


def test_a_worker_that_starts_later_knows_what_was_cancelled(
    own_server: str, redis: Redis, start_worker: StartWorker
) -> None:
    """Given a worker that heard of a cancel, when another starts, then that one knows of it, too."""
    start_worker(own_server)
    eventually(lambda: redis.zcard(WORKERS_KEY) == 1, "the first worker has lived for two seconds")
    with _app(own_server) as app:
        app.control.revoke("cancelled-before")
        eventually(lambda: _knowing(app) == {"w1@test"}, "the first worker knows")

        start_worker(own_server)

        eventually(lambda: _knowing(app) == {"w1@test", "w2@test"}, "the second worker knows")


def _knowing(app: Celery) -> set[str]:
    replies = app.control.inspect(timeout=5.0, limit=2).revoked() or {}
    return {name for name, known in replies.items() if "cancelled-before" in known}
