"""One request through fetch, decode and network: ``start(request) -> Detecting``, a future of one outcome an image.

Stage: all that the pool drives. Neighbours: :mod:`worker.pool` starts and cancels, :mod:`worker.tasks` turns the
outcomes into a result. Nothing here knows Celery, and no thread waits for an inference: decode threads submit and
go on to the next image, and OpenVINO's completion thread settles the future.
"""

import functools
import json
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import numpy.typing as npt
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from producer import address, blobs, wire
from producer.errors import (
    Cancelled,
    FleetError,
    InvalidImage,
    UnknownModel,
)
from worker import decode, network, tiles
from worker.admission import Line, Turn
from worker.batches import BatchQueue, Requests
from worker.begins import Begins
from worker.cpu import Plan
from worker.detecting import Detecting, Flight, answer_to, check_still_wanted, key_to_fetch
from worker.ending import Ending, Remains
from worker.entrance import Entrance
from worker.infer_queue import Inference, InferQueue, QueueClosedError
from worker.insist import InsistentRedis
from worker.lanes import Lanes
from worker.lines import Lines
from worker.lineup import Lineup, Serving
from worker.memory import IMAGES_AT_ONCE, TILED_AT_ONCE, Room
from worker.network import Network
from worker.outcome import Outcome, Request, least_score
from worker.patience import PASSING, until_done
from worker.self_test import SelfTest
from worker.settings import Settings
from worker.shares import Shares
from worker.tiling import Tiling

logger = logging.getLogger(__name__)

#: Most bytes of an image that are read from a connection at once; each has a buffer of that size.
READ_BYTES = 256 * 1024


class Detector:
    """A process's networks, their infer queues, and the threads that feed them. Thread-safe."""

    def __init__(self, networks: Sequence[Network], settings: Settings, plan: Plan) -> None:
        self._settings = settings
        self.lineups = {one.spec.name: Lineup(self.serve(one)) for one in networks}
        self._limits = decode.Limits(settings.max_image_bytes, settings.max_pixels, settings.jpeg_scale)
        self._room = Room(settings.max_pixels)
        self._keep_invalid = settings.keep_invalid
        self._redis = connect(settings.url, connections=plan.decoders + 3)
        self._lines = Lines(self._redis)
        self._begins = Begins(self._redis, self._lines, most_bytes=self._limits.max_bytes)
        self._tiled = Line(TILED_AT_ONCE)
        self._threads = Lanes(plan.decoders, lanes=len(self.networks), together=IMAGES_AT_ONCE)
        self._entrance = Entrance(self._redis, Ending(self._lines), self._begins, self._threads, self._go_on)
        self._shares = Shares()
        self._closed = False

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
        self._closed = True
        self._entrance.close()
        for one in self.lineups.values():
            one.stop()  # first of all wakes decode threads that wait for a free request
        self._shares.close()
        self._threads.close()
        self._entrance.excuse_all()
        self._lines.close()
        self._redis.close()

    # ------------------------------------------------------------------------------------------ decode threads

    def _choose(self, model: str | None) -> Lineup:
        if model is None and len(self.lineups) == 1:
            return next(iter(self.lineups.values()))
        if model not in self.lineups:
            served = ", ".join(sorted(self.lineups))
            raise UnknownModel(f"This worker does not serve the model {str(model)[:64]!r}; it serves {served}.")
        return self.lineups[model]

    def _go_on(self, detecting: Detecting, first: object) -> None:
        """Bring the images of a job that is begun on their way; ``first`` is Redis's reply for the first, or None."""
        for index in range(1, len(detecting.outcomes)):
            try:
                self._threads.gather(detecting.lane, self._prepare_some, (detecting, index))
            except RuntimeError:
                detecting.settle(index, detecting.cancelled_by or Cancelled())
        self._prepare(detecting, 0, first)

    def _prepare_some(self, images: Sequence[tuple[Detecting, int]]) -> None:
        """Fetch images of batches in one round trip, and go on with the first; the others are next."""
        fetched: list[object] = [None] * len(images)
        began = time.monotonic()
        if len(images) > 1:
            try:
                fetched = self._begins.images([key_to_fetch(detecting, index) for detecting, index in images])
            except Exception as problem:  # noqa: BLE001 - then each is asked for by itself, until Redis answers
                logger.warning("images.not_fetched images=%d error=%r", len(images), problem)
            images[0][0].note_fetch(images[0][1], began)
        while len(fetched) > 1:  # taken out, for this thread is about to wait
            detecting, index = images[len(fetched) - 1]
            try:
                self._threads.submit(detecting.lane, self._prepare, detecting, index, fetched.pop(), first=True)
            except RuntimeError:  # the worker stops
                detecting.settle(index, detecting.cancelled_by or Cancelled())
        self._prepare(*images[0], fetched.pop())

    def _prepare(self, detecting: Detecting, index: int, fetched: object = None) -> None:
        """Bring image ``index`` on its way; ``fetched`` is Redis's reply if it was asked already."""
        if detecting.request.options.tile is None:
            self._start_one(detecting, index, fetched)
            return
        # A picture in tiles keeps its pixels for long, so few are under way, and the others are not even fetched.
        turn = Turn(lambda: self._start_tiled(detecting, index))
        detecting.follow(index, turn)
        self._tiled.enter(turn)

    def _start_tiled(self, detecting: Detecting, index: int) -> bool:
        try:
            self._threads.submit(detecting.lane, self._start_one, detecting, index, None)
        except RuntimeError:  # the worker stops
            detecting.settle(index, detecting.cancelled_by or Cancelled())
            return False
        return True

    def _start_one(self, detecting: Detecting, index: int, fetched: object) -> None:
        """Decode image ``index`` and start its inference, or those of its tiles."""
        flight: Flight | None = None
        try:
            flight = self._send_in(detecting, index, fetched)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets an answer
            answer = answer_to(error, detecting)
            self._keep_if_wanted(detecting, answer)
            detecting.settle(index, answer)
        else:
            detecting.follow(index, flight)
        if isinstance(flight, Tiling):
            flight.add_done_callback(lambda _: self._tiled.leave())
        elif detecting.request.options.tile is not None:
            self._tiled.leave()

    def _step(self, detecting: Detecting, tiling: Tiling) -> None:
        """Go on with a picture that is cut into tiles, behind all that waits for a decode thread already."""
        try:
            self._threads.submit(detecting.lane, self._cut, detecting, tiling)
        except RuntimeError:  # the worker stops
            tiling.cancel()

    def _cut(self, detecting: Detecting, tiling: Tiling) -> None:
        try:
            check_still_wanted(detecting)
            tiling.step()
        except Exception as error:  # noqa: BLE001
            tiling.fail(answer_to(error, detecting))

    def _keep_if_wanted(self, detecting: Detecting, error: FleetError) -> None:
        """Put an image that cannot be read on the dead list, where the operator wants to look at such images."""
        if self._keep_invalid and isinstance(error, InvalidImage) and not detecting.is_buried:
            try:
                self._entrance.bury(detecting, error)
            except RedisError as problem:
                logger.warning("job.not_kept job=%s error=%s", detecting.request.job_id, problem)

    def _send_in(self, detecting: Detecting, index: int, fetched: object) -> Flight:
        outcome, request = detecting.outcomes[index], detecting.request
        times = outcome.timings_ms
        if self._closed:
            raise QueueClosedError
        check_still_wanted(detecting)
        outcome.thread = threading.current_thread().name
        began = time.monotonic()
        outcome.starts.setdefault("fetch", began)
        try:
            data = self._fetch(detecting, request.images[index], fetched)
        finally:
            fetch_ms, began = _lap(began)
            times["fetch"] = times.get("fetch", 0.0) + fetch_ms
        outcome.size_bytes, outcome.starts["decode"] = len(data), began
        check_still_wanted(detecting)
        tile = request.options.tile
        if tile is not None and not self._is_one_tile(outcome, data, tile):
            return self._send_in_tiles(detecting, outcome, data, tile)
        tensor, outcome.frame = decode.to_input(data, self._limits, outcome.network.spec.fit, self._room)
        times["decode"], _ = _lap(began)
        return self._submit(outcome, tensor)

    def _is_one_tile(self, outcome: Outcome, data: bytes, tile: wire.Tile) -> bool:
        """Tell by its header whether a picture fits into one tile, and so goes the way of all others."""
        width, height = decode.size_of(data, self._limits)
        return len(tiles.windows(width, height, tile, outcome.network.spec.input_size)) == 1

    def _send_in_tiles(self, detecting: Detecting, outcome: Outcome, data: bytes, tile: wire.Tile) -> Flight:
        """Decode a picture and start on its tiles."""
        spec, began = outcome.network.spec, time.monotonic()
        assert outcome.queue is not None  # noqa: S101 - chosen with its network
        picture = decode.to_picture(data, self._limits, self._room)
        height, width = picture.shape[:2]
        places = tiles.windows(width, height, tile, spec.input_size)
        outcome.frame, outcome.tiles = decode.Frame(width, height, 1.0, 1.0, 0, 0), len(places) - 1
        outcome.timings_ms["decode"], _ = _lap(began)
        tiling = Tiling(
            picture,
            places,
            spec.fit,
            least=least_score(spec, outcome.options),
            limit=spec.iou,
            agnostic=bool(spec.options.get("agnostic")),
            submit=functools.partial(self._submit, outcome),
            hand_on=lambda tiling: self._step(detecting, tiling),
        )
        tiling.begin(outcome.queue.size)
        return tiling

    def _submit(self, outcome: Outcome, tensor: npt.NDArray[np.uint8]) -> Inference:
        """Start the inference as soon as there is a free request, and cores for it beside other networks."""
        one, requests = outcome.network, outcome.queue
        assert requests is not None  # noqa: S101 - chosen with its network
        if len(self.lineups) == 1:
            return requests.submit(tensor)
        began = time.monotonic()
        give_back = self._shares.take(one.spec.name, alone=requests.size, streams=one.optimal_requests)
        try:
            flight = requests.submit(tensor)
        except BaseException:
            give_back()
            raise
        flight.waited_s = flight.started - began
        flight.add_done_callback(lambda _: give_back())
        return flight

    def _fetch(self, detecting: Detecting, raw: object, fetched: object) -> bytes:
        image, most = wire.Image.parse(raw), self._limits.max_bytes
        ref = image.ref
        if ref is None:
            return image.data or b""

        def read() -> bytes:
            reply = fetched
            if reply is None or isinstance(reply, PASSING):
                (reply,) = self._lines.ask(blobs.asking(ref, most_bytes=most))
            return blobs.read(self._redis, ref, reply, most_bytes=most)

        def unless() -> None:
            self._entrance.check_open()
            check_still_wanted(detecting)

        return until_done(read, unless=unless)


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


def _lap(began: float) -> tuple[float, float]:
    now = time.monotonic()
    return (now - began) * 1000, now
