"""The anchors of SSD-like networks: boxes of fixed places and sizes that a network corrects.

Stage: at build time, for :mod:`worker.heads.ssd_raw`. Formulas: TensorFlow's Object Detection API
(``multiple_grid_anchor_generator``, ``multiscale_grid_anchor_generator``), MediaPipe's SsdAnchorsCalculator and
google/automl's EfficientDet (all Apache-2.0). Each gives ``(n, 4) float32`` of centre x, centre y, width and height,
parts of the network's input (0 to 1).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Anchors = npt.NDArray[np.float32]


def grid(
    size: tuple[int, int],
    *,
    strides: Sequence[int] = (16, 32, 64, 128, 256, 512),
    min_scale: float = 0.2,
    max_scale: float = 0.95,
    ratios: Sequence[float] = (1.0, 2.0, 0.5, 3.0, 1 / 3),
    reduce_lowest: bool = True,
    between: bool = True,
) -> Anchors:
    """Return the anchors of SSD MobileNet: a scale per grid, a box per ratio, one more between this scale and the next.

    Args:
        size: (height, width) of the network's input.
        strides: input pixels per cell, a grid each.
        min_scale: side of the first grid's boxes, part of the input.
        max_scale: of the last grid's.
        ratios: width to height, in the network's order.
        reduce_lowest: the first grid has three boxes only: 0.1, and its scale at ratios 2 and 0.5.
        between: add the box of the mean scale.
    """
    count = len(strides)
    steps = [min_scale + (max_scale - min_scale) * at / max(1, count - 1) for at in range(count)] + [1.0]
    found = []
    for layer, stride in enumerate(strides):
        if layer == 0 and reduce_lowest:
            shapes = [(0.1, 1.0), (steps[0], 2.0), (steps[0], 0.5)]
        else:
            shapes = [(steps[layer], ratio) for ratio in ratios]
            if between:
                shapes.append((math.sqrt(steps[layer] * steps[layer + 1]), 1.0))
        sides = [(scale * math.sqrt(ratio), scale / math.sqrt(ratio)) for scale, ratio in shapes]
        down, right = math.ceil(size[0] / stride), math.ceil(size[1] / stride)
        found.append(_at_each_cell((down, right), (1 / down, 1 / right), (0.5 / down, 0.5 / right), sides))
    return np.concatenate(found).astype(np.float32)


def pyramid(
    size: tuple[int, int],
    *,
    levels: Sequence[int] = (3, 4, 5, 6, 7),
    scale: float = 4.0,
    ratios: Sequence[float] = (1.0, 2.0, 0.5),
    octaves: int = 2,
) -> Anchors:
    """Return the anchors of SSD with a feature pyramid (FPN, FPNLite) and RetinaNet of the Object Detection API.

    Args:
        size: (height, width) of the network's input.
        levels: powers of two that are the strides.
        scale: side of a box, in cells.
        ratios: width to height, in the network's order.
        octaves: scales per level, each a part of an octave.
    """
    height, width = size
    found = []
    for level in levels:
        stride = 2**level
        shapes = [(scale * stride * 2 ** (part / octaves), ratio) for ratio in ratios for part in range(octaves)]
        sides = [(side * math.sqrt(ratio) / width, side / math.sqrt(ratio) / height) for side, ratio in shapes]
        cells = (math.ceil(height / stride), math.ceil(width / stride))
        first = tuple(stride / 2 / side if side % stride == 0 else 0.0 for side in size)
        found.append(_at_each_cell(cells, (stride / height, stride / width), (first[0], first[1]), sides))
    return np.concatenate(found).astype(np.float32)


def efficientdet(
    size: tuple[int, int],
    *,
    levels: Sequence[int] = (3, 4, 5, 6, 7),
    scale: float = 4.0,
    ratios: Sequence[float] = (1.0, 2.0, 0.5),
    octaves: int = 3,
) -> Anchors:
    """Return the anchors of EfficientDet; arguments as of :func:`pyramid`. The Lite networks have scale 3."""
    found = []
    for level in levels:
        down, right = (math.ceil(side / 2**level) for side in size)
        shapes = [(scale * 2 ** (part / octaves), ratio) for part in range(octaves) for ratio in ratios]
        sides = [(side * math.sqrt(ratio) / right, side / math.sqrt(ratio) / down) for side, ratio in shapes]
        found.append(_at_each_cell((down, right), (1 / down, 1 / right), (0.5 / down, 0.5 / right), sides))
    return np.concatenate(found).astype(np.float32)


#: Generator by its name in ``options.anchors.kind``.
KINDS: dict[str, Callable[..., Anchors]] = {"grid": grid, "pyramid": pyramid, "efficientdet": efficientdet}


def make(size: tuple[int, int], wanted: Mapping[str, Any]) -> Anchors:
    """Return the anchors that ``options.anchors`` of a model.toml describes: ``kind``, and arguments of its function.

    Raises:
        ValueError: there is no such kind.
        TypeError: an argument that the kind does not have.
    """
    arguments = dict(wanted)
    kind = arguments.pop("kind", None)
    if kind not in KINDS:
        raise ValueError(f"anchors have a kind, one of {', '.join(KINDS)}, not {kind!r}")
    return KINDS[kind](size, **arguments)


def _at_each_cell(
    cells: tuple[int, int], step: tuple[float, float], first: tuple[float, float], sides: Sequence[tuple[float, float]]
) -> npt.NDArray[np.float64]:
    """Put boxes of ``sides`` (width, height) at each cell, row by row; ``cells``, ``step``, ``first`` are y, x."""
    down, right = (np.arange(count) * by + at for count, by, at in zip(cells, step, first, strict=True))
    centres = np.stack(np.meshgrid(right, down), axis=-1).reshape(-1, 1, 2)
    boxes = np.broadcast_to(np.array(sides)[np.newaxis], (len(centres), len(sides), 2))
    centres = np.broadcast_to(centres, boxes.shape)
    return np.concatenate([centres, boxes], axis=-1).reshape(-1, 4)
