"""How well the boxes of one network agree with those of another: mean average precision, as COCO reckons it.

Stage: beside :mod:`worker.quantize`. Pure functions of arrays.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from worker.overlaps import iou

#: ``(n, 6+) float``: label, score, x1, y1, x2, y2, perhaps more; one picture's.
Rows: TypeAlias = npt.NDArray[np.floating]

#: Overlaps from which on a box counts as found, and the recalls at which precision is read; a hair less, for 7 of 10 is
#: below the float that stands for 0.70.
OVERLAPS = tuple(np.linspace(0.5, 0.95, 10).round(2).tolist())
_RECALLS = np.linspace(0, 1, 101) - 1e-9


@dataclass(frozen=True, slots=True)
class Agreement:
    """Mean average precision, 0 to 1.

    Attributes:
        at_50: where a box counts as found from an IoU of 0.5 on.
        at_50_95: the mean over IoUs of 0.5, 0.55, ... 0.95.
        boxes: how many there were to be found.
    """

    at_50: float
    at_50_95: float
    boxes: int


def agreement(truth: Sequence[Rows], found: Sequence[Rows]) -> Agreement:
    """Compare what was ``found`` in each picture with the ``truth`` there.

    Raises:
        ValueError: there is nothing to be found.
    """
    boxes = sum(map(len, truth))
    if not boxes:
        raise ValueError("there is no box to be found")
    each = [mean_average_precision(truth, found, overlap) for overlap in OVERLAPS]
    return Agreement(each[0], float(np.mean(each)), boxes)


def mean_average_precision(truth: Sequence[Rows], found: Sequence[Rows], overlap: float) -> float:
    """Return the mean, over the classes of ``truth``, of their average precision at one least IoU."""
    labels = np.unique(np.concatenate([rows[:, 0] for rows in truth]))
    return float(np.mean([_average_precision(truth, found, label, overlap) for label in labels]))


def _average_precision(truth: Sequence[Rows], found: Sequence[Rows], label: float, overlap: float) -> float:
    scores: list[float] = []
    hits: list[bool] = []
    wanted = 0
    for true_rows, found_rows in zip(truth, found, strict=True):
        boxes = true_rows[true_rows[:, 0] == label][:, 2:6]
        rows = found_rows[found_rows[:, 0] == label]
        rows = rows[np.argsort(-rows[:, 1], kind="stable")]
        wanted += len(boxes)
        scores += rows[:, 1].tolist()
        hits += _hits(boxes, rows[:, 2:6], overlap)
    order = np.argsort(-np.array(scores), kind="stable")
    true = np.cumsum(np.array(hits, bool)[order])
    precision = true / np.arange(1, len(true) + 1)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(true / wanted, _RECALLS, side="left")
    return float(np.where(at < len(true), np.append(best_from_here, 0.0)[np.minimum(at, len(true))], 0.0).mean())


def _hits(boxes: Rows, found: Rows, overlap: float) -> list[bool]:
    """Tell which of ``found``, best first, is a box that none before it has taken."""
    free = np.ones(len(boxes), bool)
    hits = []
    for one in found:
        overlaps = np.where(free, iou(boxes, one), -1.0)
        hit = bool(len(boxes)) and bool(overlaps.max() >= overlap)
        hits.append(hit)
        if hit:
            free[overlaps.argmax()] = False
    return hits
