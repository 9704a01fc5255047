"""Networks whose tiles carry numbers, and jobs for them."""

import functools
import uuid
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import openvino as ov
from openvino import opset13 as op

from producer import blobs
from producer.wire import Options, Result, Tile
from tests.hazards import networks
from worker.detecting import Detecting
from worker.detector import Detector
from worker.model_toml import ModelSpec
from worker.network import Network
from worker.outcome import Request

SOON_S = 60.0

#: Side of the canvases of :func:`mosaic` in tiles of 32 pixels.
SMALL = Tile(32, 0.0)


def tiny(build: Any) -> Network:
    """Make a detector of one of the hazard tests' networks; a tile of 32 x 32 pixels becomes its 2 x 2."""
    spec = ModelSpec("tiny", "net.xml", "none", (2, 2), ("thing",), min_score=0.0)
    return Network(spec, "0" * 16, networks.compiled(_rows_of(build)), 2)


@functools.cache
def _rows_of(build: Callable[[], Any]) -> Callable[[], Any]:
    """Give the network 14 columns: a row of a detector has six and pairs of coordinates."""

    def built() -> Any:
        model = build()
        values = model.get_results()[0].input_value(0)
        last = op.slice(
            values,
            np.array([0]),
            np.array([14 - values.get_partial_shape()[1].get_length()]),
            np.array([1]),
            np.array([1]),
        )
        return ov.Model([op.concat([values, last], 1)], model.get_parameters(), model.get_name())

    return built


def mosaic(columns: int, rows: int, **how: int) -> bytes:
    """Make a picture whose tiles of 32 x 32 carry their numbers; see :func:`tests.hazards.networks.tensor`."""
    tiles = [networks.tensor(number, **how)[0].repeat(16, 0).repeat(16, 1) for number in range(columns * rows)]
    lines = [np.concatenate(tiles[row * columns : (row + 1) * columns], 1) for row in range(rows)]
    return cv2.imencode(".png", np.concatenate(lines))[1].tobytes()


def ask(detector: Detector, *images: bytes, deadline: float | None = None, **options: Any) -> Detecting:
    """Start a job for ``images``."""
    keys = [blobs.new_key() for _ in images]
    for key, data in zip(keys, images, strict=True):
        detector._redis.set(key, data, ex=600)
    raw = [{"ref": key} for key in keys]
    return detector.start(Request(raw, Options(**options), job_id=f"job-{uuid.uuid4().hex}", deadline=deadline))


def result(detecting: Detecting) -> Result:
    """Wait for a job of one image and build its result."""
    (outcome,) = detecting.result(SOON_S)
    return outcome.result(worker="", queued_ms=0)


def error(detecting: Detecting) -> Any:
    """Wait for a job of one image and give its error."""
    (outcome,) = detecting.result(SOON_S)
    return outcome.error
