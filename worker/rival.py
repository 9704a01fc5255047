"""Two bare servers, for ``fleet-worker timeline`` only, which records them on the same photos as a worker of the fleet.

Stage: beside the fleet. Both do all that a worker does for an image: take a job from a list in Redis, fetch the bytes,
decode, infer, make the result and store it; neither does anything again when it dies. :class:`Rival` is the server that
this project replaces, asynchronous in name: its threads call ``start_async``, and then wait. :class:`Unwaiting` differs
from it in that alone: its threads hand over to :mod:`worker.infer_queue` and take the next job.
"""

import json
import threading
import time
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from redis import Redis

from producer import blobs, wire
from worker import decode, resize
from worker.infer_queue import InferQueue
from worker.inference import Inference
from worker.network import Network
from worker.outcome import Outcome
from worker.resize import Frame, Pixels
from worker.settings import Settings
from worker.trail import OK, Passage

#: Threads of a server that waits, each with an infer request of its own; requests of the one that does not.
THREADS = 4

#: Threads of the server that does not wait: they decode only.
DECODERS = 2

#: List of jobs, each the key of an image.
LIST_KEY = "fleet:rival"

#: From the monotonic clock to seconds since 1970.
_OFFSET = time.time() - time.monotonic()

#: A result lives as long as Celery's.
RESULT_TTL_S = 3600


class _Bare(ABC):
    """Serves until it is told to stop; remembers every image. ``passages`` belongs to all threads: append only."""

    def __init__(self, network: Network, settings: Settings, url: str, threads: int, name: str) -> None:
        self.passages: list[Passage] = []
        self._network = network
        self._limits = decode.Limits(settings.max_image_bytes, settings.max_pixels, settings.jpeg_scale)
        self._redis = Redis.from_url(url, socket_timeout=None)
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._serve, args=(number,), name=f"{name}_{number}", daemon=True)
            for number in range(threads)
        ]

    def __enter__(self) -> "_Bare":
        """Start the threads."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let each thread end its image."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._redis.close()

    def _serve(self, number: int) -> None:
        while not self._over.is_set():
            found: Any = self._redis.blpop([LIST_KEY], timeout=1)
            if found is not None:
                self._answer(found[1].decode(), number)

    @abstractmethod
    def _answer(self, key: str, number: int) -> None:
        """Do everything for the image under ``key``, on thread ``number``."""

    def _prepare(self, key: str, laps: "_Laps") -> tuple[Pixels, Frame]:
        data = blobs.get(self._redis, key, most_bytes=self._limits.max_bytes)
        laps.bytes = len(data)
        laps.end("fetch")
        prepared = resize.fit(decode.decode(data, self._limits), self._network.spec.fit)
        laps.end("decode")
        return prepared

    def _store(self, key: str, rows: Any, frame: Frame, laps: "_Laps", slot: int) -> None:
        outcome = Outcome(self._network, wire.Options(), rows, frame)
        result = outcome.result(worker="rival", queued_ms=0.0).to_json()
        self._redis.set(f"{key}.result", json.dumps(result), ex=RESULT_TTL_S)
        self._redis.unlink(key)
        laps.end("finish")
        model = self._network.spec.name
        self.passages.append(
            Passage(key, 0, model, OK, laps.begun_at, laps.starts_at, laps.took_ms, laps.thread, slot, laps.bytes)
        )


class Rival(_Bare):
    """Threads that each start an inference of their own and wait for it."""

    def __init__(self, network: Network, settings: Settings, url: str) -> None:
        super().__init__(network, settings, url, THREADS, "thread")
        self._requests = [network.compiled.create_infer_request() for _ in range(THREADS)]

    def _answer(self, key: str, number: int) -> None:
        laps, request = _Laps(), self._requests[number]
        tensor, frame = self._prepare(key, laps)
        request.start_async({0: tensor})
        request.wait()
        laps.end("infer")
        self._store(key, request.get_output_tensor(0).data.copy(), frame, laps, number)


class Unwaiting(_Bare):
    """Threads that decode, an infer queue, and a thread that stores results: nobody waits for an inference."""

    def __init__(self, network: Network, settings: Settings, url: str) -> None:
        super().__init__(network, settings, url, DECODERS, "decode")
        self._queue = InferQueue(network.compiled, THREADS)
        self._finisher = ThreadPoolExecutor(1, "finish")

    def __exit__(self, *_: object) -> None:
        """Let each thread end its image, then what is in flight end."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        while self._queue.in_flight:
            time.sleep(0.01)
        self._queue.close()
        self._finisher.shutdown()
        self._redis.close()

    def _answer(self, key: str, number: int) -> None:
        laps = _Laps()
        tensor, frame = self._prepare(key, laps)
        flight = self._queue.submit(tensor)
        flight.add_done_callback(
            lambda done: self._finisher.submit(self._finish, key, cast(Inference, done), frame, laps)
        )

    def _finish(self, key: str, flight: Inference, frame: Frame, laps: "_Laps") -> None:
        laps.took_ms |= {"wait": flight.waited_s * 1000, "infer": flight.infer_s * 1000}
        laps.starts_at["infer"] = flight.started + _OFFSET
        laps.begin("finish")
        self._store(key, flight.result(), frame, laps, flight.slot)


class _Laps:
    """Stages of one image, each from the end of the one before unless it was begun."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self.begun_at = self._last + _OFFSET
        self.took_ms: dict[str, float] = {}
        self.starts_at: dict[str, float] = {}
        self.thread = threading.current_thread().name
        self.bytes = 0

    def begin(self, stage: str) -> None:
        self._last = time.monotonic()
        self.starts_at[stage] = self._last + _OFFSET

    def end(self, stage: str) -> None:
        now = time.monotonic()
        self.took_ms[stage] = (now - self._last) * 1000
        self._last = now
