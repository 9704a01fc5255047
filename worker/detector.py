"""One request through fetch, decode and network: ``start(request) -> Detecting``, a future of one outcome an image.

Stage: all that the pool drives. Neighbours: :mod:`worker.pool` starts and cancels, :mod:`worker.tasks` turns the
outcomes into a result. Nothing here knows Celery, and no thread waits for an inference: decode threads submit and
go on to the next image, and OpenVINO's completion thread settles the future.
"""

import contextlib
import functools
import json
import logging
import threading
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import OutOfMemoryError, RedisError
from redis.retry import Retry

from producer import address, blobs, dead, wire
from producer.errors import (
    Cancelled,
    DeadlineExceeded,
    FleetError,
    InferenceFailed,
    InternalError,
    InvalidImage,
    UnknownModel,
)
from worker import deaths, decode, models, network, tiles, versions
from worker.admission import Admission, Line, Turn
from worker.clock import redis_clock
from worker.cpu import Plan
from worker.ending import Ending, Remains
from worker.infer_queue import Inference, InferenceError, InferQueue, QueueClosedError
from worker.insist import InsistentRedis
from worker.lanes import Lanes
from worker.lineup import Lineup, Serving
from worker.memory import TILED_AT_ONCE, Room, give_back_large_blocks
from worker.network import Network
from worker.patience import PASSING, until_done
from worker.settings import Settings
from worker.shares import Shares
from worker.tiling import Tiling

logger = logging.getLogger(__name__)

#: Where a row's box ends and its keypoints begin.
_BOX_END = 6


@dataclass(frozen=True, slots=True)
class Request:
    """What a job wants.

    Attributes:
        images: as they stand in the message, not yet parsed.
        options: the job's options.
        model: model that the job's queue belongs to, or None.
        job_id: for the log.
        deadline: seconds since the epoch, or None.
        many: whether it is a batch.
        queue: where the message came from, or None.
        redelivered: whether the message was delivered before, as after a worker's death.
        retries: how often the job was tried before.
    """

    images: Sequence[object]
    options: wire.Options
    model: str | None = None
    job_id: str = ""
    deadline: float | None = None
    many: bool = False
    queue: str | None = None
    redelivered: bool = False
    retries: int = 0

    def as_dead(self, error: FleetError) -> dead.DeadJob:
        """Describe the job for the dead list."""
        return dead.DeadJob(
            id=self.job_id,
            task=wire.TASK_DETECT_MANY if self.many else wire.TASK_DETECT,
            queue=self.queue or "",
            args=[list(self.images)] if self.many else list(self.images),
            kwargs=self.options.to_json(),
            code=error.code,
            reason=str(error),
        )


@dataclass(slots=True)
class Outcome:
    """What became of one image; complete when its :class:`Detecting` is settled.

    ``queue`` is the infer queue of ``network``: the two are chosen together, when the request begins.
    ``rows`` is ``(n, 6+) float32`` in pixels of the network's input, or of the picture if that was cut into ``tiles``;
    None when there is an ``error``. The next four say where its way led, for :mod:`worker.trail`: when stages began, by
    the monotonic clock, on which decode thread, how many bytes, in which infer request.
    """

    network: Network
    options: wire.Options
    rows: npt.NDArray[np.float32] | None = None
    frame: decode.Frame | None = None
    tiles: int = 0
    error: FleetError | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)
    done_at: float = 0.0
    starts: dict[str, float] = field(default_factory=dict)
    thread: str = ""
    size_bytes: int = 0
    slot: int | None = None
    queue: InferQueue | None = None

    def result(self, *, worker: str, queued_ms: float) -> wire.Result:
        """Build the public result: filter, map to the original image, clip, name the labels.

        Raises:
            FleetError: the image's own error.
        """
        if self.error is not None:
            raise self.error
        assert self.rows is not None  # noqa: S101 - one of the two is set
        assert self.frame is not None  # noqa: S101
        detections = to_detections(self.rows, self.frame, self.network.spec, self.options)
        finish_ms = (time.monotonic() - self.done_at) * 1000
        timings = {"queued": queued_ms, **self.timings_ms, "finish": finish_ms}
        return wire.Result(
            model=self.network.spec.name,
            model_digest=self.network.digest,
            width=self.frame.width,
            height=self.frame.height,
            detections=detections,
            timings_ms={stage: round(value, 2) for stage, value in timings.items()},
            worker=worker,
            tiles=self.tiles,
        )


def to_detections(
    rows: npt.NDArray[np.float32], frame: decode.Frame, spec: models.ModelSpec, options: wire.Options
) -> tuple[wire.Detection, ...]:
    """Turn the graph's rows into detections in pixels of the original image.

    Args:
        rows: ``(n, 6 + 2 * points)`` float32: label, score, x1, y1, x2, y2, keypoints, input pixels, best first.
        frame: how the original lies in the input.
        spec: the model's labels and least score.
        options: the request's own least score and most detections.
    """
    rows = rows[rows[:, 1] >= _least(spec, options)][: options.max_detections or wire.MAX_DETECTIONS]
    corners = frame.to_original(rows[:, 2:_BOX_END].reshape(-1, 2, 2))
    corners = np.clip(corners, 0, np.array([frame.width, frame.height], np.float32))
    points = frame.to_original(rows[:, _BOX_END:].reshape(len(rows), (rows.shape[1] - _BOX_END) // 2, 2))
    boxes = corners.reshape(-1, 4).astype(float).round(2).tolist()
    marks = points.astype(float).round(2).tolist()
    scores = rows[:, 1].astype(float).round(4).tolist()
    ids = rows[:, 0].astype(int).tolist()
    return tuple(
        wire.Detection(
            label=spec.labels[label_id] if label_id < len(spec.labels) else str(label_id),
            label_id=label_id,
            score=score,
            box=(box[0], box[1], box[2], box[3]),
            keypoints=tuple((x, y) for x, y in keypoints),
        )
        for label_id, score, box, keypoints in zip(ids, scores, boxes, marks, strict=True)
    )


#: An image's way through the network, in one piece or in tiles; or its place in the line before that.
Flight: TypeAlias = Inference | Tiling | Turn


class Detecting(Future[list[Outcome]]):
    """A request on its way; settles, never with an exception, when each of its images has an outcome. Thread-safe."""

    def __init__(self, request: Request, outcomes: list[Outcome]) -> None:
        super().__init__()
        self.request = request
        self.outcomes = outcomes
        self._left = len(outcomes)
        self._lock = threading.Lock()
        self._flights: dict[int, Flight] = {}
        self.cancelled_by: FleetError | None = None
        self.is_buried = False
        self.is_duplicate = False
        self.set_running_or_notify_cancel()

    @property
    def lane(self) -> str:
        """Which of the decode threads' lanes its images go through: a lane for each model."""
        return self.outcomes[0].network.spec.name

    def cancel(self) -> bool:
        """Give up: images not yet begun are skipped, inferences in flight are cancelled."""
        return self.stop(Cancelled())

    def stop(self, error: FleetError) -> bool:
        """Give up for the reason ``error``, which each unfinished image gets as its outcome."""
        with self._lock:
            if self._left == 0:
                return False
            self.cancelled_by = self.cancelled_by or error
            flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        return True

    def follow(self, index: int, flight: Flight) -> None:
        """Settle image ``index`` when ``flight`` does."""
        with self._lock:
            self._flights[index] = flight
            stopped = self.cancelled_by is not None
        flight.add_done_callback(lambda _: self._landed(index, flight))
        if stopped:
            flight.cancel()

    def settle(self, index: int, error: FleetError | None = None) -> None:
        """Count image ``index`` as finished; the last one settles the whole.

        The error is kept without its traceback, whose frames hold the image and this very outcome: a ring that would
        keep every refused image in memory until Python's collector comes by.
        """
        outcome = self.outcomes[index]
        outcome.error = None if error is None else type(error)(*error.args)
        outcome.done_at = time.monotonic()
        with self._lock:
            self._flights.pop(index, None)
            self._left -= 1
            last = self._left == 0
        if last:
            self.set_result(self.outcomes)

    def settle_all(self, error: FleetError) -> None:
        """Settle every image with ``error``; for a request of which none was begun."""
        for index in range(len(self.outcomes)):
            self.settle(index, error)

    def _landed(self, index: int, flight: Flight) -> None:
        """On OpenVINO's completion thread: note what came, hand over, return."""
        if isinstance(flight, Turn):  # it settles only when it is cancelled
            self.settle(index, self.cancelled_by or Cancelled())
            return
        outcome = self.outcomes[index]
        outcome.timings_ms |= {"wait": flight.waited_s * 1000, "infer": flight.infer_s * 1000}
        outcome.slot, outcome.starts["infer"] = flight.slot, flight.started
        problem = flight.exception()
        if problem is None:
            outcome.rows = flight.result()
            self.settle(index)
        elif isinstance(problem, CancelledError):
            self.settle(index, self.cancelled_by or Cancelled())
        elif isinstance(problem, FleetError):
            self.settle(index, problem)
        else:
            logger.warning("inference.failed job=%s error=%s", self.request.job_id, problem)
            self.settle(index, InferenceFailed())


class Detector:
    """A process's networks, their infer queues, and the threads that feed them. Thread-safe."""

    def __init__(self, networks: Sequence[Network], settings: Settings, plan: Plan) -> None:
        self._settings = settings
        self.lineups = {one.spec.name: Lineup(self.serve(one)) for one in networks}
        self._limits = decode.Limits(settings.max_image_bytes, settings.max_pixels, settings.jpeg_scale)
        self._room = Room(settings.max_pixels)
        self._keep_invalid = settings.keep_invalid
        self._redis = _connect(settings.url, connections=plan.decoders + 3)
        self._ending = Ending(self._redis)
        self._admission = Admission()
        self._tiled = Line(TILED_AT_ONCE)
        self._counted: set[str] = set()
        self._alone: dict[str, bool] = {}
        self._threads = Lanes(plan.decoders, lanes=len(self.networks))
        self._shares = Shares()
        self._closed = False

    def serve(self, one: Network) -> Serving:
        """Make the infer queue of a network, which then can be put into its model's lineup."""
        return Serving(one, InferQueue(one.compiled, network.requests_of(one, self._settings)))

    @property
    def networks(self) -> dict[str, Network]:
        """The current version of each model."""
        return {name: one.current.network for name, one in self.lineups.items()}

    @property
    def queues(self) -> dict[str, InferQueue]:
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
        if request.redelivered and request.job_id:
            self._threads.submit(detecting.lane, self._admit_again, detecting)
        else:
            self._admission.enter(lambda: self._begin(detecting))
        return detecting

    def check(self) -> Future[bool]:
        """Run every network once on a black image; True when all gave an answer. Settles on a completion thread."""
        return _SelfTest([one for lineup in self.lineups.values() for one in lineup.take_all()])

    def finish(self, job_id: str, remains: Remains) -> None:
        """Remove what remains in Redis of a job that has ended, and forget it."""
        try:
            until_done(lambda: self._ending(job_id, remains), unless=self._check_open)
        finally:
            self.forget(job_id)

    def forget(self, *job_ids: str) -> None:
        """Note that jobs are not counted as begun any more."""
        for job_id in job_ids:
            self._counted.discard(job_id)
            self._leave_alone(job_id)

    def _check_open(self) -> None:
        if self._closed:
            raise QueueClosedError

    def is_counted(self, job_id: str) -> bool:
        """Tell whether the death of this process would be held against the job."""
        return job_id in self._counted

    def excuse(self, *job_ids: str) -> None:
        """Note that jobs which were begun have ended, or go back to the queue, without ending this process."""
        try:
            with self._redis.pipeline(transaction=False) as pipe:
                for job_id in job_ids:
                    deaths.end(pipe, job_id)
                pipe.execute()
        finally:
            self.forget(*job_ids)

    def announce(self) -> None:
        """Tell clients which models are served now: one field a model in the hash :data:`producer.wire.MODELS_KEY`."""
        seconds, _ = self._redis.time()
        said: dict[Any, Any] = {name: _describe(one, seconds) for name, one in self.lineups.items()}
        self._redis.hset(wire.MODELS_KEY, mapping=said)

    def drop_connections(self) -> None:
        """Let go of idle connections to Redis, which may have been lost without a sign; new ones are made at need."""
        self._redis.connection_pool.disconnect(inuse_connections=False)

    def stats(self) -> dict[str, dict[str, Any]]:
        """Say what is loaded and how busy it is, as plain JSON."""
        return {name: one.stats() for name, one in self.lineups.items()}

    def close(self) -> None:
        """Stop the requests, then the decode threads, then the connection; every request settles. Idempotent."""
        self._closed = True
        for one in self.lineups.values():
            one.stop()  # first of all wakes decode threads that wait for a free request
        self._shares.close()
        self._threads.close()
        try:
            self.excuse(*list(self._counted))
        except RedisError as error:
            logger.warning("jobs.not_excused jobs=%d error=%s", len(self._counted), error)
        self._redis.close()

    # ------------------------------------------------------------------------------------------ decode threads

    def _choose(self, model: str | None) -> Lineup:
        if model is None and len(self.lineups) == 1:
            return next(iter(self.lineups.values()))
        if model not in self.lineups:
            served = ", ".join(sorted(self.lineups))
            raise UnknownModel(f"This worker does not serve the model {str(model)[:64]!r}; it serves {served}.")
        return self.lineups[model]

    def _admit_again(self, detecting: Detecting) -> None:
        """Let in a job that came before: alone, if it may have ended a worker."""
        job_id = detecting.request.job_id
        try:
            suspect = deaths.is_suspect(self._redis, job_id)
        except RedisError as error:
            logger.warning("job.not_looked_up job=%s error=%s", job_id, error)
            suspect = True
        self._admission.enter(lambda: self._begin(detecting, alone=suspect), alone=suspect)

    def _begin(self, detecting: Detecting, *, alone: bool = False) -> None:
        detecting.add_done_callback(self._excuse_cancelled)  # not a lambda of its own: a future keeps its callbacks
        if alone:
            self._alone[detecting.request.job_id] = True
            detecting.add_done_callback(self._settled_alone)
        else:
            detecting.add_done_callback(lambda _: self._admission.leave())
        try:
            self._threads.submit(detecting.lane, self._open, detecting)
        except RuntimeError:  # the worker stops; what it held comes back to the queue
            detecting.settle_all(detecting.cancelled_by or Cancelled())

    def _open(self, detecting: Detecting) -> None:
        """Count a job as begun and go on with its images, unless it was answered before or has ended two workers."""
        error, first = None, None
        try:
            error, first = self._enter(detecting)
        except RedisError as problem:  # then it is a job like any other
            logger.warning("job.not_counted job=%s error=%s", detecting.request.job_id, problem)
        except Exception:
            logger.exception("job.not_counted job=%s", detecting.request.job_id)
        if error is not None:
            detecting.settle_all(error)
            return
        for index in range(1, len(detecting.outcomes)):
            try:
                self._threads.submit(detecting.lane, self._prepare, detecting, index)
            except RuntimeError:
                detecting.settle(index, detecting.cancelled_by or Cancelled())
        self._prepare(detecting, 0, first)

    def _enter(self, detecting: Detecting) -> tuple[FleetError | None, object]:
        """Count the job; return why it is not begun, or what Redis holds of its first image, asked in the same trip."""
        request = detecting.request
        if not request.job_id or self._closed:
            return None, None
        if request.redelivered and deaths.is_answered(self._redis, request.job_id, retries=request.retries):
            detecting.is_duplicate = True
            self.finish(request.job_id, Remains(request.queue, blobs.refs_of([request.images])))
            return Cancelled(), None
        self._counted.add(request.job_id)
        wanted = _is_wanted(detecting) and request.options.tile is None
        ref = _ref_of(request.images[0]) if wanted else None
        detecting.outcomes[0].starts["fetch"] = asked_at = time.monotonic()
        begun, first = self._begin_and_ask(request.job_id, ref)
        detecting.outcomes[0].timings_ms["fetch"], _ = _lap(asked_at)
        if isinstance(begun, Exception):
            raise begun
        if begun <= deaths.DEATHS:
            return None, first
        error = deaths.poisoned(request.job_id)
        self._bury(detecting, error)
        return error, None

    def _begin_and_ask(self, job_id: str, ref: str | None) -> tuple[Any, object]:
        """Count the job; return how often it was, and what Redis holds under ``ref``, or the error instead of each."""
        with self._redis.pipeline(transaction=False) as pipe:
            deaths.begin(pipe, job_id)
            if ref is not None:
                blobs.ask(pipe, ref, most_bytes=self._limits.max_bytes)
            begun, _, *first = pipe.execute(raise_on_error=False)
        if isinstance(begun, OutOfMemoryError):  # refused, so nothing was counted; a transaction is not
            with self._redis.pipeline() as pipe:
                deaths.begin(pipe, job_id)
                begun, _ = pipe.execute()
        return begun, first[0] if first else None

    def _excuse_cancelled(self, settled: Future[list[Outcome]]) -> None:
        """Take back the count of a cancelled job: the pool cannot know of one that began while it was cancelled."""
        detecting = cast(Detecting, settled)
        if detecting.cancelled_by is not None and self.is_counted(detecting.request.job_id):
            with contextlib.suppress(RuntimeError):  # the worker stops, and excuses all
                self._threads.submit(detecting.lane, self.excuse, detecting.request.job_id)

    def _bury(self, detecting: Detecting, error: FleetError) -> None:
        detecting.is_buried = True
        deaths.bury(self._redis, detecting.request.as_dead(error))

    def _settled_alone(self, detecting: Future[list[Outcome]]) -> None:
        """Let others in, unless the job is counted: then its end is stored first, lest it pay for their deaths."""
        job_id = cast(Detecting, detecting).request.job_id
        if job_id not in self._counted:
            self._leave_alone(job_id)

    def _leave_alone(self, job_id: str) -> None:
        if self._alone.pop(job_id, False):  # in one step: two threads may come
            self._admission.leave()

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
            answer = _answer_to(error, detecting)
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
            _check_still_wanted(detecting)
            tiling.step()
        except Exception as error:  # noqa: BLE001
            tiling.fail(_answer_to(error, detecting))

    def _keep_if_wanted(self, detecting: Detecting, error: FleetError) -> None:
        """Put an image that cannot be read on the dead list, where the operator wants to look at such images."""
        if self._keep_invalid and isinstance(error, InvalidImage) and not detecting.is_buried:
            try:
                self._bury(detecting, error)
            except RedisError as problem:
                logger.warning("job.not_kept job=%s error=%s", detecting.request.job_id, problem)

    def _send_in(self, detecting: Detecting, index: int, fetched: object) -> Flight:
        outcome, request = detecting.outcomes[index], detecting.request
        times = outcome.timings_ms
        if self._closed:
            raise QueueClosedError
        _check_still_wanted(detecting)
        outcome.thread = threading.current_thread().name
        began = time.monotonic()
        outcome.starts.setdefault("fetch", began)
        data = self._fetch(detecting, request.images[index], fetched)
        outcome.size_bytes = len(data)
        fetch_ms, began = _lap(began)
        times["fetch"], outcome.starts["decode"] = times.get("fetch", 0.0) + fetch_ms, began
        _check_still_wanted(detecting)
        tile = request.options.tile
        if tile is not None and not self._is_one_tile(outcome, data, tile):
            return self._send_in_tiles(detecting, outcome, data, tile)
        tensor, outcome.frame = decode.to_input(data, self._limits, outcome.network.spec.fit, self._room)
        del data, fetched  # the next line may wait
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
            least=_least(spec, outcome.options),
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
            if fetched is None or isinstance(fetched, PASSING):
                return blobs.get(self._redis, ref, most_bytes=most)
            return blobs.read(self._redis, ref, fetched, most_bytes=most)

        def unless() -> None:
            self._check_open()
            _check_still_wanted(detecting)

        return until_done(read, unless=unless)


class _SelfTest(Future[bool]):
    """Settles True when every version has answered for a black image, False when one could not."""

    def __init__(self, taken: Sequence[Serving]) -> None:
        super().__init__()
        self._left = len(taken)
        self._good = True
        self._lock = threading.Lock()
        for one in taken:
            height, width = one.network.spec.input_size
            try:
                flight = one.queue.submit(np.zeros((1, height, width, 3), np.uint8), timeout_s=0.0)
            except Exception:  # noqa: BLE001 - busy or closed: a full queue proves itself by its jobs
                one.leave()
                self._count(one.queue.in_flight > 0)
            else:
                flight.add_done_callback(one.leave)
                flight.add_done_callback(lambda done: self._count(done.exception() is None))

    def _count(self, good: bool) -> None:
        with self._lock:
            self._left -= 1
            self._good &= good
            last = self._left == 0
        if last:
            self.set_result(self._good)


def open_detector(settings: Settings, plan: Plan) -> Detector:
    """Read, compile and warm up every model of ``settings``, then start the threads.

    Raises:
        models.ModelError: a model cannot be loaded.
    """
    give_back_large_blocks()
    wanted = _wanted(settings.url)
    networks = [
        network.load(*_chosen(name, wanted.get(name), settings), settings, plan.threads) for name in settings.models
    ]
    return Detector(networks, settings, plan)


def _wanted(url: str) -> dict[str, versions.Wanted]:
    """Read which versions the fleet serves; when Redis is away, :mod:`worker.change` follows as soon as it is back."""
    try:
        with _connect(url, connections=1) as redis:
            return versions.read(redis)
    except RedisError as error:
        logger.info("versions.not_read error=%s", error)
        return {}


def _chosen(name: str, wanted: versions.Wanted | None, settings: Settings) -> tuple[models.ModelSpec, Path]:
    """Find the version of ``name`` that the fleet serves; the store's own where nobody ever changed it.

    Raises:
        ModelError: this host's store has not got it.
    """
    if wanted is None:
        return models.read(name, settings.model_store)
    label, digest = f"{name}@{wanted.current.number}", wanted.current.digest
    mend = f"The fleet serves {label} (digest {digest}): add it here, or run: fleet-worker models swap NAME@NUMBER"
    try:
        spec, path = models.read(label, settings.model_store)
    except models.ModelError as error:
        raise models.ModelError(f"{error} {mend}") from error
    if (found := models.digest(path)) != digest:
        raise models.ModelError(f"{label} in {settings.model_store} has the digest {found}. {mend}")
    return spec, path


def _least(spec: models.ModelSpec, options: wire.Options) -> float:
    return spec.min_score if options.min_score is None else options.min_score


def _answer_to(error: Exception, detecting: Detecting) -> FleetError:
    """Turn what came in an image's way into its outcome; called where it is handled."""
    if isinstance(error, FleetError):
        return error
    if isinstance(error, InferenceError):
        logger.warning("inference.not_started job=%s error=%s", detecting.request.job_id, error)
        return InferenceFailed()
    if isinstance(error, QueueClosedError):  # the worker stops; what it held comes back to the queue
        return detecting.cancelled_by or Cancelled()
    incident = uuid.uuid4().hex[:12]
    logger.error("job.internal_error job=%s incident=%s", detecting.request.job_id, incident, exc_info=error)
    return InternalError(f"Something unforeseen went wrong; incident {incident}.")


def _ref_of(raw: object) -> str | None:
    """Return the key of an image's bytes; None where they ride in the message, or nothing can be said."""
    try:
        return wire.Image.parse(raw).ref
    except FleetError:
        return None


def _check_still_wanted(detecting: Detecting) -> None:
    if detecting.cancelled_by is not None:
        raise detecting.cancelled_by
    if not _is_wanted(detecting):
        raise DeadlineExceeded


def _is_wanted(detecting: Detecting) -> bool:
    deadline = detecting.request.deadline
    return detecting.cancelled_by is None and (deadline is None or redis_clock.now() <= deadline)


def _connect(url: str, *, connections: int) -> Redis:
    """Connect for the decode threads and finishers. One try each: what may be tried again, is (:func:`until_done`)."""
    pool = address.pool(
        url,
        max_connections=connections,
        health_check_interval=3,
        socket_keepalive=True,
        socket_timeout=2.5,
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
