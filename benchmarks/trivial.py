"""A network that costs nothing, so that what remains is the queue: one fixed box on a picture of 32 x 32.

Stage: under :mod:`benchmarks.growth`.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import openvino as ov
import psutil
from openvino import opset13 as op
from redis import Redis

from worker import embedded, local
from worker.model_toml import ModelSpec, to_toml

NAME = "nothing"
SIDE = 32

#: The end of a JPEG; whatever stands before it and behind the picture is carried, and not looked at.
END = b"\xff\xd9"


@dataclass(frozen=True, slots=True)
class Stand:
    """A server and its workers, ready."""

    url: str
    redis: Redis
    roles: dict[str, Sequence[int]]


@contextmanager
def stand(folder: Path, workers: int) -> Iterator[Stand]:
    """Run a server and ``workers`` workers of the network that costs nothing."""
    store = make_store(folder / "store")
    with ExitStack() as stack:
        url = stack.enter_context(embedded.server())
        redis = stack.enter_context(Redis.from_url(url))
        started = []
        stack.callback(_kill, started)
        signs = [folder / f"health{number}" for number in range(workers)]
        for number, sign in enumerate(signs):
            environ = {
                "FLEET_URL": url,
                "FLEET_MODELS": NAME,
                "FLEET_MODEL_STORE": str(store),
                "FLEET_CACHE_DIR": str(folder / "cache"),
                "FLEET_HEALTH_FILE": str(sign),
                "FLEET_THREADS": "1",
            }
            started.append(local.start_worker(f"growth{number}@bench", environ))
        local.await_ready(started, signs)
        pids = [one.pid for one in started]
        yield Stand(url, redis, {"worker": pids, "redis": [int(redis.info("server")["process_id"])]})


def make_store(store: Path) -> Path:
    """Write the network and its description."""
    folder = store / NAME
    folder.mkdir(parents=True, exist_ok=True)
    entry = op.parameter([1, 3, SIDE, SIDE], np.float32)
    nothing = op.multiply(op.reduce_mean(entry, np.array([1, 2, 3]), False), np.float32(0))
    boxes = op.add(op.unsqueeze(op.unsqueeze(nothing, np.int64(1)), np.int64(2)), _constant([8, 8, 24, 24]))
    scores = op.add(op.unsqueeze(op.unsqueeze(nothing, np.int64(1)), np.int64(2)), _constant([0.9]))
    ov.save_model(ov.Model([boxes, scores], [entry]), folder / "net.xml", compress_to_fp16=False)
    spec = ModelSpec(NAME, "net.xml", "boxes_scores", (SIDE, SIDE), ("thing",), resize="stretch")
    (folder / "model.toml").write_text(to_toml(spec), encoding="utf-8")
    return store


def picture(size_bytes: int) -> bytes:
    """Give a JPEG of 32 x 32 that takes ``size_bytes`` in all, and costs no more to decode."""
    grain = np.random.default_rng(5).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    data = cv2.imencode(".jpg", grain)[1].tobytes()
    return data + b"\0" * max(0, size_bytes - len(data) - len(END)) + END


def _constant(values: list[float]) -> ov.Node:
    return op.constant(np.array([[values]], np.float32))


def _kill(started: Sequence[psutil.Popen]) -> None:
    """End workers at once: a backlog that nobody wants is not given back."""
    for process in started:
        process.kill()
        process.wait()
