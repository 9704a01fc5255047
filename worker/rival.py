"""The server that this project replaces: threads that each start an inference of their own and wait for it.

Stage: beside the fleet, for ``fleet-worker timeline`` only, which records both on the same photos. It does all that a
worker does for an image: takes a job from a list in Redis, fetches the bytes, decodes, infers, makes the result and
stores it. Asynchronous in name: ``start_async`` is called, and then the thread waits.
"""

import json
import threading
import time
from typing import Any

from redis import Redis

from producer import blobs, wire
from worker import decode, resize
from worker.detector import Outcome
from worker.network import Network
from worker.settings import Settings
from worker.trail import OK, Passage

#: Threads of such a server, each with an infer request of its own.
THREADS = 4

#: List of jobs, each the key of an image.
LIST_KEY = "fleet:rival"

#: From the monotonic clock to seconds since 1970.
_OFFSET = time.time() - time.monotonic()

#: A result lives as long as Celery's.
RESULT_TTL_S = 3600


class Rival:
    """Serves until it is told to stop; remembers every image. ``passages`` belongs to all threads: append only."""

    def __init__(self, network: Network, settings: Settings, url: str) -> None:
        self.passages: list[Passage] = []
        self._network = network
        self._limits = decode.Limits(settings.max_image_bytes, settings.max_pixels, settings.jpeg_scale)
        self._redis = Redis.from_url(url, socket_timeout=None)
        self._over = threading.Event()
        requests = [network.compiled.create_infer_request() for _ in range(THREADS)]
        self._threads = [
            threading.Thread(target=self._serve, args=(number, request), name=f"thread_{number}", daemon=True)
            for number, request in enumerate(requests)
        ]

    def __enter__(self) -> "Rival":
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

    def _serve(self, number: int, request: Any) -> None:
        while not self._over.is_set():
            found: Any = self._redis.blpop([LIST_KEY], timeout=1)
            if found is not None:
                self.passages.append(self._answer(found[1].decode(), number, request))

    def _answer(self, key: str, number: int, request: Any) -> Passage:
        laps = _Laps()
        data = blobs.get(self._redis, key, most_bytes=self._limits.max_bytes)
        laps.end("fetch")
        tensor, frame = resize.fit(decode.decode(data, self._limits), self._network.spec.fit)
        laps.end("decode")
        request.start_async({0: tensor})
        request.wait()
        laps.end("infer")
        outcome = Outcome(self._network, wire.Options(), request.get_output_tensor(0).data.copy(), frame)
        result = outcome.result(worker="rival", queued_ms=0.0).to_json()
        self._redis.set(f"{key}.result", json.dumps(result), ex=RESULT_TTL_S)
        self._redis.unlink(key)
        laps.end("finish")
        name = threading.current_thread().name
        model = self._network.spec.name
        return Passage(key, 0, model, OK, laps.begun_at, {}, laps.took_ms, name, number, len(data))


class _Laps:
    """Stages of one image, each from the end of the one before."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self.begun_at = self._last + _OFFSET
        self.took_ms: dict[str, float] = {}

    def end(self, stage: str) -> None:
        now = time.monotonic()
        self.took_ms[stage] = (now - self._last) * 1000
        self._last = now
