"""An image's way to its inference, on decode threads: fetch, check, decode, resize, submit.

Stage: between :mod:`worker.entrance`, which lets jobs in, and :mod:`worker.infer_queue`. No thread waits for an
inference: it submits, which waits for a free request at most, and goes on to the next image.
"""

import functools
import logging
import threading
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from redis import Redis
from redis.exceptions import RedisError

from producer import blobs, wire
from producer.errors import Cancelled, FleetError, InvalidImage
from worker import decode, tiles
from worker.admission import Line, Turn
from worker.begins import Begins
from worker.detecting import Detecting, Flight, answer_to, check_still_wanted, key_to_fetch
from worker.entrance import bury
from worker.inference import Inference, QueueClosedError
from worker.lanes import Lanes
from worker.lines import Lines
from worker.memory import TILED_AT_ONCE, Room
from worker.outcome import Outcome, least_score
from worker.patience import PASSING, until_done
from worker.settings import Settings
from worker.shares import Shares
from worker.tiling import Tiling

logger = logging.getLogger(__name__)


class Preparing:
    """Brings the images of jobs on their way. Thread-safe.

    Args:
        redis: where long images are read, and the dead list is.
        lines: where images are asked for.
        begins: what asks for several at once.
        threads: the decode threads.
        shares: how cores are shared between networks; None where there is one.
        settings: limits of images.
    """

    def __init__(  # noqa: PLR0913 - each is a neighbour
        self, redis: Redis, lines: Lines, begins: Begins, threads: Lanes, *, shares: Shares | None, settings: Settings
    ) -> None:
        self._redis = redis
        self._lines = lines
        self._begins = begins
        self._threads = threads
        self._shares = shares
        self._limits = decode.Limits(settings.max_image_bytes, settings.max_pixels, settings.jpeg_scale)
        self._room = Room(settings.max_pixels)
        self._keep_invalid = settings.keep_invalid
        self._tiled = Line(TILED_AT_ONCE)
        self._closed = False

    def close(self) -> None:
        """Bring no image on its way any more; whoever tries learns that the worker stops."""
        self._closed = True

    def go_on(self, detecting: Detecting, first: object) -> None:
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
            self._refuse(detecting, index, answer_to(error, detecting))
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
            tiling.fail(answer_to(error, detecting).with_traceback(None))  # which leads back here

    def _refuse(self, detecting: Detecting, index: int, error: FleetError) -> None:
        """Settle image ``index``; one that cannot be read goes on the dead list where the operator wants to look at it.

        Nothing that an error's traceback leads to may keep the error itself (``Detecting.settle``).
        """
        if self._keep_invalid and isinstance(error, InvalidImage) and not detecting.is_buried:
            try:
                bury(self._redis, detecting, error)
            except RedisError as problem:
                logger.warning("job.not_kept job=%s error=%s", detecting.request.job_id, problem)
        detecting.settle(index, error)

    def _send_in(self, detecting: Detecting, index: int, fetched: object) -> Flight:
        outcome, request = detecting.outcomes[index], detecting.request
        times = outcome.timings_ms
        self._check_open()
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
        if self._shares is None:
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
            self._check_open()
            check_still_wanted(detecting)

        return until_done(read, unless=unless)

    def _check_open(self) -> None:
        if self._closed:
            raise QueueClosedError


def _lap(began: float) -> tuple[float, float]:
    now = time.monotonic()
    return (now - began) * 1000, now
