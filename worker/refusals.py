"""Networks that the fleet does not serve, by name: classifiers, segmenters, masks, oriented boxes, poses.

Stage: at ``fleet-worker models add``, between :mod:`worker.evidence` and :mod:`worker.recognise`. A network's own notes
are believed; else its outputs are looked at, and what a trial run gave: points and angles are no scores.
"""

import numpy as np

from worker import evidence
from worker.evidence import Evidence, Values
from worker.heads.tensors import Tensor

_CLASSIFIER = "is a classifier: it scores a whole picture and gives no boxes"
_SEGMENTER = "is a segmenter: it gives a class to each place of a picture and no boxes"
_MASKS = "gives instance masks"
_ORIENTED = "gives oriented boxes"
_KEYPOINTS = "is a network for poses"

#: What the fleet does not serve, by the word for it in a network's own notes.
_REFUSED = {
    "classify": _CLASSIFIER,
    "classification": _CLASSIFIER,
    "segment": _MASKS,
    "instance_segmentation": _MASKS,
    "maskrcnn": _MASKS,
    "segmentation": _SEGMENTER,
    "semantic_segmentation": _SEGMENTER,
    "obb": _ORIENTED,
    "rotated_detection": _ORIENTED,
    "pose": _KEYPOINTS,
    "keypoint_detection": _KEYPOINTS,
    "anomaly": "finds anomalies, not objects",
}


def refusal(seen: Evidence) -> str | None:
    """Return what the network is, if it is none that the fleet serves."""
    task = "anomaly" if seen.facts.task.startswith("anomaly") else seen.facts.task
    if task in _REFUSED:
        return f"{_REFUSED[task]} (task {seen.facts.task!r} in {seen.facts.source})"
    kind = _one(seen) if len(seen.outputs) == 1 else _MASKS if _has_masks(seen) else None
    return f"{kind} (outputs {seen.shapes})" if kind else None


def _one(seen: Evidence) -> str | None:
    """Return what a network with one output is, if it is none that the fleet serves."""
    (one,) = seen.outputs
    flat = [side for side in one.shape if side != 1]
    if len(flat) == 1 and one.shape[0] in (1, -1) and one.width != 7:
        return _CLASSIFIER
    is_map = len(one.shape) == 4 and one.width != 7 and _is_map(one.shape, seen.size)
    if is_map or one.shape[1:] == seen.size:
        return _SEGMENTER
    if len(one.shape) != 3:
        return None
    rows = seen.run(one, turned=one.width in _grids(seen))
    if rows is None or not len(rows) or not _are_pixels(rows[:, :4], seen):
        return _ORIENTED if _is_turned(one, seen) else None
    if _are_turned_rows(rows) or _is_turned(one, seen):
        return _ORIENTED
    return _KEYPOINTS if _has_points(rows, seen) else None


def _has_masks(seen: Evidence) -> bool:
    names = {name.lower() for one in seen.outputs for name in one.names}
    if names & {"masks", "pred_masks", "detection_masks"}:
        return True
    return sorted(len(one.shape) for one in seen.outputs) == [3, 4] and _has_prototypes(seen)


def _has_prototypes(seen: Evidence) -> bool:
    """Tell whether one output is a row of coefficients for each box and the other the masks they belong to."""
    rows, masks = sorted(seen.outputs, key=lambda one: len(one.shape))
    cells = seen.cells(8, 16, 32)
    is_finished = rows.width - 6 in masks.shape[1::2]  # two corners, a score, a class, and a coefficient for each mask
    return _is_map(masks.shape, seen.size) and (is_finished or bool({cells, 3 * cells} & set(rows.shape[1:])))


def _is_map(shape: tuple[int, ...], size: tuple[int, int]) -> bool:
    """Tell whether an output has a place for each 8 x 8 pixels of the input or fewer, in either layout."""
    return any(tall * 8 >= size[0] and long * 8 >= size[1] for tall, long in (shape[2:], shape[1:3]))


def _is_turned(one: Tensor, seen: Evidence) -> bool:
    """Tell whether YOLOv8's rows have a value more than a box and scores, and it is an angle."""
    if len(one.shape) != 3 or one.width != seen.cells(8, 16, 32) or one.shape[1] < 6:
        return False
    values = seen.run(one, turned=True)
    if values is None:
        return False
    fits = evidence.is_part(values[:, 4:-1]) or len(seen.labels) == one.shape[1] - 5
    return fits and not evidence.is_part(values[:, -1])


def _grids(seen: Evidence) -> tuple[int, int]:
    return seen.cells(8, 16, 32), seen.cells(8, 16, 32, 64)


def _are_turned_rows(rows: Values) -> bool:
    """Tell whether rows are finished oriented boxes: four numbers, a score, a class, an angle."""
    if rows.shape[1] != 7 or not evidence.is_part(rows[:, 4]) or not evidence.are_whole(rows[:, 5]):
        return False
    return not evidence.are_whole(rows[:, 6]) and bool(np.abs(rows[:, 6]).max() <= np.pi + 1e-3)


def _has_points(rows: Values, seen: Evidence) -> bool:
    """Tell whether rows go on with places in pixels behind their box and scores: ``x, y, seen`` or ``x, y`` each."""
    for first in range(5, rows.shape[1] - 3):
        scores, rest = rows[:, 4:first], rows[:, first:]
        if not (evidence.is_part(scores) or (evidence.is_part(scores[:, :1]) and evidence.are_whole(scores[:, 1:]))):
            return False
        if rest.shape[1] % 3 == 0 and evidence.is_part(rest[:, 2::3]):
            rest = np.delete(rest, np.s_[2::3], axis=1)
        if rest.shape[1] % 2 == 0 and _are_pixels(rest, seen):
            return True
    return False


def _are_pixels(values: Values, seen: Evidence) -> bool:
    """Tell whether every column reaches further than scores do, and none further than a picture."""
    most = np.abs(values).max(axis=0)
    return bool((most > 4).all() and (most < 4 * max(seen.size)).all())
