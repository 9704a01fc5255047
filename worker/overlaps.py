"""How much boxes overlap: the one measure for merging tiles and for comparing two networks.

Stage: under :mod:`worker.tiles` and :mod:`worker.accuracy`. Pure functions of arrays.
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

#: ``(n, 4) float``, xyxy.
Boxes: TypeAlias = npt.NDArray[np.floating]


def iou(a: Boxes, b: Boxes) -> npt.NDArray[np.float64]:
    """Return intersection over union of boxes that stand beside each other; shapes as numpy broadcasts them.

    Args:
        a: ``(..., 4)`` xyxy.
        b: ``(..., 4)`` xyxy; ``iou(a[:, None], b[None])`` compares each with each.

    Returns:
        ``(...)``, 0 to 1; 0 where a box is empty.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = np.maximum(sides, 0).prod(axis=-1)
    total = area(a) + area(b) - shared
    told: npt.NDArray[np.float64] = np.divide(shared, total, out=np.zeros_like(shared), where=total > 0)
    return told


def area(boxes: Boxes) -> npt.NDArray[np.float64]:
    """Return the areas of ``(..., 4)`` boxes; 0 where one is turned inside out."""
    sides = np.asarray(boxes[..., 2:], np.float64) - boxes[..., :2]
    inside: npt.NDArray[np.float64] = np.prod(np.maximum(sides, 0), axis=-1)
    return inside


def clipped(boxes: Boxes, to: Boxes) -> npt.NDArray[np.float64]:
    """Return the parts of ``boxes`` ``(..., 4)`` that lie inside of ``to`` ``(..., 4)``; inside out where none does."""
    low = np.maximum(boxes[..., :2], to[..., :2])
    return np.concatenate([low, np.minimum(boxes[..., 2:], to[..., 2:])], axis=-1, dtype=np.float64)
