"""Jobs sent by our own client while something breaks, each counted to its end.

``accepted`` are the jobs whose submit returned. A job is answered when its client has a result for it; it is answered
twice when two different outcomes of it were stored, which an observer of Redis's notifications sees.
"""

import contextlib
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from producer import Client
from producer.errors import FleetError
from producer.job import Job
from producer.results import META_PREFIX
from tests.integration.kit import MODEL
from tests.waiting import eventually


class Load:
    """Sends jobs at a steady pace from a thread of its own, and remembers what became of each submit."""

    def __init__(self, client: Client, picture: bytes, *, every_s: float = 0.02, deadline_s: float = 120.0) -> None:
        self._client = client
        self._picture = picture
        self._every_s = every_s
        self._deadline_s = deadline_s
        self.accepted: list[Job[Any]] = []
        self.refused: list[FleetError] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send, name="load", daemon=True)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Send no more."""
        self._over.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "a submit hangs"

    def _send(self) -> None:
        while not self._over.wait(self._every_s):
            try:
                job = self._client.submit(self._picture, model=MODEL, deadline_s=self._deadline_s)
            except FleetError as error:
                self.refused.append(error)
            else:
                self.accepted.append(job)


@dataclass
class Tally:
    """What became of the accepted jobs."""

    answered: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    silent: int = 0

    @classmethod
    def of(cls, jobs: list[Job[Any]], within_s: float) -> "Tally":
        """Wait for every job, all together not longer than ``within_s``."""
        tally, until = cls(), time.monotonic() + within_s
        for job in jobs:
            try:
                error = job.error(timeout=max(0.0, until - time.monotonic()))
            except TimeoutError:
                tally.silent += 1
            else:
                if error is None:
                    tally.answered += 1
                else:
                    tally.errors[f"{error.code}: {str(error)[:60]}"] += 1
        return tally


#: Seconds after the return of the server within which clients and workers must have found it again.
RESUMES_WITHIN_S = 10.0


def assert_resumes(load: Load) -> float:
    """Wait until a job that is sent from now on has its answer; return how long that took, within the promise."""
    began, before = time.monotonic(), len(load.accepted)
    until = began + RESUMES_WITHIN_S
    eventually(lambda: len(load.accepted) > before, "a submit that is accepted", RESUMES_WITHIN_S)
    assert load.accepted[before].error(timeout=until - time.monotonic()) is None
    return time.monotonic() - began


def assert_all_answered(load: Load, observer: "Observer", within_s: float = 40.0) -> None:
    """Stop sending; then every accepted job has its answer, none an error, and none has two."""
    load.stop()
    tally = Tally.of(load.accepted, within_s)
    assert (tally.answered, tally.errors, tally.silent) == (len(load.accepted), Counter(), 0)
    assert observer.twice() == []


class Observer:
    """Collects the outcomes that are stored, per job; survives losing its connection, and may miss some then.

    The same bytes twice are one outcome: a reply was lost, and the worker stored it again.
    """

    def __init__(self, url: str) -> None:
        #: May be changed to that of another server.
        self.url = url
        self.heard: dict[str, set[bytes]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="observer", daemon=True)

    def __enter__(self) -> "Observer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)

    def twice(self) -> list[str]:
        """Return the jobs of which more than one outcome was stored."""
        return [job_id for job_id, outcomes in self.heard.items() if len(outcomes) > 1]

    def _listen(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(RedisError, OSError), Redis.from_url(self.url, socket_timeout=2) as redis:
                pubsub = redis.pubsub()
                pubsub.psubscribe(f"{META_PREFIX}*")
                while not self._over.is_set():
                    message = pubsub.get_message(timeout=0.5)
                    if message is not None and message["type"] == "pmessage":
                        job_id = message["channel"].decode().removeprefix(META_PREFIX)
                        self.heard.setdefault(job_id, set()).add(message["data"])
            self._over.wait(0.02)
