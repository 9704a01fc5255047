"""Whether this worker lives, and whether it can work: two files, whose ages tell.

Stage: beside the pool, which says what it has seen. A worker is *alive* while its event loop turns and its networks
answer, or while it waits for Redis to come back, which a restart would not hasten. It is *ready* while besides Redis
answers and it has not been told to stop. Who asks, ``fleet-worker health`` or a shell, reads the age of a file only.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from celery import bootsteps

from producer.wire import ANNOUNCE_EVERY_S

logger = logging.getLogger(__name__)

#: Seconds between two signs of life.
SIGN_EVERY_S = 5.0

#: A sign older than this counts as none: three in a row are missing.
VALID_S = 20.0


def ready_file(health_file: Path) -> Path:
    """Name the file that says "ready"; ``health_file`` itself says "alive"."""
    return health_file.with_name(health_file.name + ".ready")


class Health:
    """What was seen of this worker's health. Thread-safe; every call may write to the disk."""

    def __init__(self, health_file: Path) -> None:
        self._alive = health_file
        self._ready = ready_file(health_file)
        self._lock = threading.Lock()
        self._networks_at = float("-inf")
        self._redis_at = float("-inf")
        self._stops = False
        self._ready.unlink(missing_ok=True)  # an earlier worker's

    def networks_answer(self) -> None:
        """Note that the loop has turned and that every network has given an answer."""
        self._alive.touch()
        self._networks_at = time.monotonic()
        self._judge()

    def redis_answers(self) -> None:
        """Note that Redis has answered."""
        self._redis_at = time.monotonic()
        self._judge()

    def waits_for_redis(self) -> None:
        """Note that the loop stands still because it waits for Redis."""
        if self._alive.exists():  # else the networks have never answered
            self._alive.touch()

    def stops(self) -> None:
        """Note that the worker takes no more jobs."""
        with self._lock:
            self._stops = True
            self._ready.unlink(missing_ok=True)

    def _judge(self) -> None:
        with self._lock:
            since = min(self._networks_at, self._redis_at)
            if not self._stops and time.monotonic() - since < VALID_S:
                self._ready.touch()


class Signs:
    """Sees to it that signs of health are given while the loop turns. Belongs to the loop thread.

    Args:
        health: where they are noted.
        engine: what has the networks.
        aside: does something on another thread; if it fails, an event of this name is logged.
    """

    def __init__(self, health: Health, engine: Any, aside: Callable[[Callable[[], None], str], None]) -> None:
        self._health = health
        self._engine = engine
        self._aside = aside
        self._answered_at = 0.0

    def meet(self, hub: Any) -> None:
        """Give signs now, and for as long as ``hub`` turns; to be said again to a hub that was reset."""
        hub.call_repeatedly(SIGN_EVERY_S, self._check)
        hub.call_soon(self._check)
        hub.call_soon(self._announce)
        hub.call_repeatedly(ANNOUNCE_EVERY_S, self._announce)

    def answered(self) -> None:
        """Note that a network has just given an answer, which proves as much as one that is asked for."""
        self._answered_at = time.monotonic()

    def _check(self) -> None:
        if time.monotonic() - self._answered_at < SIGN_EVERY_S:
            self._touch()
        else:
            self._engine.check().add_done_callback(self._on_checked)

    def _on_checked(self, test: Future[bool]) -> None:
        if test.result():
            self._touch()
        else:
            logger.error("health.self_test_failed")

    def _touch(self) -> None:
        self._aside(self._health.networks_answer, "health.touch_failed")

    def _announce(self) -> None:
        self._aside(self._say_served, "engine.announce_failed")

    def _say_served(self) -> None:
        self._engine.announce()
        self._health.redis_answers()


class HealthStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Gives signs of life while Celery waits for its broker: its event loop does not turn then."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **_: Any) -> None:
        self._over = threading.Event()

    def start(self, worker: Any) -> None:
        """Begin; the consumer is about to start, and its start lasts as long as the worker."""
        threading.Thread(target=self._watch, args=(worker,), name="health", daemon=True).start()

    def stop(self, worker: Any) -> None:
        """End."""
        self._over.set()

    terminate = stop

    def _watch(self, worker: Any) -> None:
        while not self._over.wait(SIGN_EVERY_S):
            if worker.consumer is not None and worker.consumer.connection is None:
                worker.pool.health.waits_for_redis()


def problem_of(path: Path) -> str | None:
    """Say what is wrong by the age of ``path``, or None."""
    try:
        age_s = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return f"{path} is not there"
    return f"{path} was last touched {age_s:.0f} s ago" if age_s > VALID_S else None
