"""Networks whose one box tells by its place which version it is of, and by its size which picture was seen."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openvino as ov
from openvino import opset13 as op

from worker import store
from worker.settings import Settings

#: Side of the networks' input, pixels.
SIDE = 128

#: The model of these tests; its labels.
NAME, LABELS = "marks", ("mark", "other")

#: Rows of an output; all but the first have the score 0.
_ROWS = 100


def marking(place: int, *, label: int = 0, score: float = 0.9, work: int = 8) -> ov.Model:
    """Give one box from ``(place, place)``, as wide as the red of the picture says: ``[1, N, 6]``, as YOLOv10 does.

    ``work`` is the number of convolutions that it does besides.
    """
    picture = op.parameter([1, 3, SIDE, SIDE], np.float32, name="images")
    red = op.slice(picture, [0], [1], [1], [1])
    side = op.divide(op.reduce_mean(red, np.array([1, 2, 3]), True), np.float32(4))  # 0 to 64 pixels
    side = op.add(op.reshape(side, np.array([1, 1, 1]), False), _nothing_of(picture, work))
    first = op.constant(np.full((1, 1, 2), place, np.float32))
    last = op.add(first, side)
    told = op.constant(np.array([[[score, label]]], np.float32))
    row = op.concat([first, op.broadcast(last, np.array([1, 1, 2])), told], 2)
    rest = op.constant(np.zeros((1, _ROWS - 1, 6), np.float32))
    return ov.Model([op.concat([row, rest], 1)], [picture], f"marking{place}")


def _nothing_of(picture: Any, work: int) -> Any:
    """Make a zero out of convolutions."""
    random = np.random.default_rng(1)
    there = picture
    for channels in [3, *[16] * work][:work]:
        there = op.convolution(
            there,
            op.constant(random.normal(size=(16, channels, 3, 3)).astype(np.float32) / 10),
            [1, 1],
            [1, 1],
            [1, 1],
            [1, 1],
        )
    mean = op.reduce_mean(op.tanh(there), np.array([1, 2, 3]), True)
    return op.multiply(op.reshape(mean, np.array([1, 1, 1]), False), np.float32(0))


def add(folder: Path, models: Path, network: ov.Model, **wish: Any) -> str:
    """Add a version of the model to the store ``models``; return its digest."""
    file = folder / f"{network.get_friendly_name()}.xml"
    ov.save_model(network, file, compress_to_fp16=False)
    given = {"mean": [0, 0, 0], "scale": [1, 1, 1], "colour": "RGB", "resize": "stretch"} | wish.pop("given", {})
    wanted = store.Wish(**({"name": NAME, "labels": LABELS, "head": "yolov10", "given": given} | wish))
    added = store.add(file, wanted, Settings(model_store=models, precision="f32", cache_dir=None))
    return added.spec.digest


def picture(red: int) -> bytes:
    """Draw a picture of one colour, in which :func:`marking` marks a square of a quarter of ``red``."""
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[..., 2] = red
    done, data = cv2.imencode(".png", pixels)
    assert done
    return data.tobytes()


def box(place: int, red: int) -> list[float]:
    """Give the box that :func:`marking` finds in :func:`picture`."""
    return [place, place, place + red / 4, place + red / 4]


def heavy(place: int) -> ov.Model:
    """Give :func:`marking` with 24 MiB of weights that it really uses."""
    plain = marking(place, work=1)
    rows = plain.outputs[0].get_node().input_value(0)
    picture = plain.get_parameters()[0]
    random = np.random.default_rng(place)
    flat = op.reshape(op.slice(picture, [0], [32], [1], [2]), np.array([1, -1]), False)  # 12,288 values
    weights = op.constant(random.normal(size=(12288, 512)).astype(np.float32))
    worked = op.reduce_mean(op.tanh(op.matmul(flat, weights, False, False)), np.array([0, 1]), False)
    nothing = op.multiply(op.reshape(worked, np.array([1, 1, 1]), False), np.float32(0))
    return ov.Model([op.add(rows, nothing)], plain.get_parameters(), f"heavy{place}")
