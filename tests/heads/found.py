"""What the decoders of :mod:`tests.heads.reference` have in common: objects, suppression, anchors, activations."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from tests.heads.drawing import SIZE
from tests.reference import iou

HEIGHT, WIDTH = SIZE
LEAST, OVERLAP = 0.05, 0.45


class Found(NamedTuple):
    """One object."""

    label: int
    score: float
    box: list[float]
    points: list[float]


def keep(candidates: Iterable[Found], *, suppress: bool = True) -> list[Found]:
    """Drop what is below the least score, and what overlaps a better one of its class."""
    kept: list[Found] = []
    for one in sorted(candidates, key=lambda one: -one.score):
        rivals = [other for other in kept if other.label == one.label] if suppress else []
        if one.score > LEAST and all(iou(one.box, other.box) <= OVERLAP for other in rivals):
            kept.append(one)
    return kept


def corners(x: float, y: float, w: float, h: float) -> list[float]:
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def places(strides: Iterable[int], per_cell: int = 1, size: tuple[int, int] = SIZE) -> list[tuple[int, int, int]]:
    """Give (column, row, stride) of each anchor."""
    return [
        (x, y, stride)
        for stride in strides
        for y in range(math.ceil(size[0] / stride))
        for x in range(math.ceil(size[1] / stride))
        for _ in range(per_cell)
    ]


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def softmax(values: np.ndarray) -> np.ndarray:
    raised = np.exp(values - values.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def wide(outputs: list[np.ndarray]) -> list[np.ndarray]:
    return [one.astype(np.float64) for one in outputs]


def best(scores: np.ndarray) -> tuple[int, float]:
    return int(scores.argmax()), float(scores.max())
