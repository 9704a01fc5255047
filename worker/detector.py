"""One request through fetch, decode and network: ``start(request) -> Detecting``, a future of one outcome an image.

Stage: all that the pool drives. Neighbours: :mod:`worker.pool` starts and cancels, :mod:`worker.preparing` brings the
images on their way, :mod:`worker.tasks` turns the outcomes into a result. Nothing here knows Celery, and no thread
waits for an inference: OpenVINO's completion thread settles the future.
"""

import json
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from producer import address, wire
from producer.errors import UnknownModel
from worker import network
from worker.batches import BatchQueue, Requests
from worker.begins import Begins
from worker.cpu import Plan
from worker.detecting import Detecting
from worker.ending import Ending, Remains
from worker.entrance import Entrance
from worker.infer_queue import InferQueue
from worker.insist import InsistentRedis
from worker.lanes import Lanes
from worker.lines import Lines
from worker.lineup import Lineup, Serving
from worker.memory import IMAGES_AT_ONCE
from worker.network import Network
from worker.outcome import Outcome, Request
from worker.preparing import Preparing
from worker.self_test import SelfTest
from worker.settings import Settings
from worker.shares import Shares

#: Most bytes of an image that are read from a connection at once; each has a buffer of that size.
READ_BYTES = 256 * 1024


class Detector:
    """A process's networks, their infer queues, and the threads that feed them. Thread-safe."""

    def __init__(self, networks: Sequence[Network], settings: Settings, plan: Plan) -> None:
        self._settings = settings
        self.lineups = {one.spec.name: Lineup(self.serve(one)) for one in networks}
        self._redis = connect(settings.url, connections=plan.decoders + 3)
        self._lines = Lines(self._redis)
        begins = Begins(self._redis, self._lines, most_bytes=settings.max_image_bytes)
        self._threads = Lanes(plan.decoders, lanes=len(self.lineups), together=IMAGES_AT_ONCE)
        self._shares = Shares()
        shares = self._shares if len(self.lineups) > 1 else None
        self._preparing = Preparing(self._redis, self._lines, begins, self._threads, shares=shares, settings=settings)
        self._entrance = Entrance(self._redis, Ending(self._lines), begins, self._threads, self._preparing.go_on)

    def serve(self, one: Network) -> Serving:
        """Make the infer queue of a network, which then can be put into its model's lineup."""
        count = network.requests_of(one, self._settings)
        requests = InferQueue(one.compiled, count)
        if one.batched is None:
            return Serving(one, requests)
        most, wait_s = self._settings.batch, self._settings.batch_wait_ms / 1000
        return Serving(one, BatchQueue(requests, InferQueue(one.batched, count), most=most, wait_s=wait_s))

    @property
    def networks(self) -> dict[str, Network]:
        """The current version of each model."""
        return {name: one.current.network for name, one in self.lineups.items()}

    @property
    def queues(self) -> dict[str, Requests]:
        """The infer queue of each model's current version."""
        return {name: one.current.queue for name, one in self.lineups.items()}

    def start(self, request: Request) -> Detecting:
        """Begin a request and return at once.

        Raises:
            UnknownModel: this worker has not loaded the model.
        """
        chosen = self._choose(request.options.model or request.model).take(request.job_id)
        outcomes = [Outcome(chosen.network, request.options, queue=chosen.queue) for _ in request.images]
        detecting = Detecting(request, outcomes)
        detecting.add_done_callback(chosen.leave)
        self._entrance.enter(detecting)
        return detecting

    def check(self) -> Future[bool]:
        """Run every network once on a black image; True when all gave an answer. Settles on a completion thread."""
        return SelfTest([one for lineup in self.lineups.values() for one in lineup.take_all()])

    def finish(self, job_id: str, remains: Remains) -> None:
        """Remove what remains in Redis of a job that has ended, and forget it."""
        self._entrance.finish(job_id, remains)

    def forget(self, *job_ids: str) -> None:
        """Note that jobs are not counted as begun any more."""
        self._entrance.forget(*job_ids)

    def is_counted(self, job_id: str) -> bool:
        """Tell whether the death of this process would be held against the job."""
        return self._entrance.is_counted(job_id)

    def excuse(self, *job_ids: str) -> None:
        """Note that jobs which were begun have ended, or go back to the queue, without ending this process."""
        self._entrance.excuse(*job_ids)

    def announce(self) -> None:
        """Tell clients which models are served now: one field a model in the hash :data:`producer.wire.MODELS_KEY`."""
        seconds, _ = self._redis.time()
        said: dict[Any, Any] = {name: _describe(one, seconds) for name, one in self.lineups.items()}
        self._redis.hset(wire.MODELS_KEY, mapping=said)

    def drop_connections(self) -> None:
        """Let go of idle connections to Redis, the pool's too, which may have been lost without a sign."""
        self._lines.drop()

    def stats(self) -> dict[str, dict[str, Any]]:
        """Say what is loaded and how busy it is, as plain JSON."""
        return {name: one.stats() for name, one in self.lineups.items()}

    def close(self) -> None:
        """Stop the requests, then the decode threads, then the connection; every request settles. Idempotent."""
        self._preparing.close()
        self._entrance.close()
        for one in self.lineups.values():
            one.stop()  # first of all wakes decode threads that wait for a free request
        self._shares.close()
        self._threads.close()
        self._entrance.excuse_all()
        self._lines.close()
        self._redis.close()

    def _choose(self, model: str | None) -> Lineup:
        if model is None and len(self.lineups) == 1:
            return next(iter(self.lineups.values()))
        if model not in self.lineups:
            served = ", ".join(sorted(self.lineups))
            raise UnknownModel(f"This worker does not serve the model {str(model)[:64]!r}; it serves {served}.")
        return self.lineups[model]


def connect(url: str, *, connections: int) -> Redis:
    """Connect for the decode threads and finishers. One try each: what may be tried again, is (:func:`until_done`)."""
    pool = address.pool(
        url,
        max_connections=connections,
        health_check_interval=3,
        socket_keepalive=True,
        socket_timeout=2.5,
        socket_read_size=READ_BYTES,
        socket_connect_timeout=3,
        retry=Retry(NoBackoff(), 0),
    )
    return InsistentRedis.from_pool(pool)


def _describe(lineup: Lineup, seen_at: float) -> str:
    one = lineup.current.network
    shown = {"digest": one.digest, "input_size": one.spec.input_size, "labels": one.spec.labels, "seen_at": seen_at}
    versions = [
        {name: said[name] for name in ("version", "digest", "share")}
        for said in lineup.stats()["versions"]
        if not said["draining"]
    ]
    return json.dumps({**shown, "versions": versions})
