"""Networks that the fleet does not serve, and one that only looks as if."""

from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as op

from tests.heads.drawing import CLASSES, Drawing


def classifier(classes: int = 1000) -> ov.Model:
    """A score for each class and nothing else."""
    one = Drawing(30)
    one.add(op.softmax(op.reduce_mean(one.maps(classes, 32), np.array([2, 3]), False), 1), "probabilities")
    return one.model()


def segmenter(classes: int = 21) -> ov.Model:
    """A score for each class at each place."""
    one = Drawing(31)
    one.add(one.maps(classes, 4), "logits")
    return one.model()


def instance_masks(classes: int = CLASSES) -> ov.Model:
    """YOLOv8-seg: boxes with mask coefficients, and the masks' prototypes."""
    one, grids = Drawing(32), (8, 16, 32)
    joined = op.concat([one.pixels(grids), one.scores(classes, grids), one.grids(32, grids)], 2)
    one.add(op.transpose(joined, np.array([0, 2, 1])), "output0")
    one.add(one.maps(32, 4), "output1")
    return one.model()


def instance_masks_v5(classes: int = CLASSES) -> ov.Model:
    """YOLOv5-seg: three anchors a cell."""
    one, grids = Drawing(34), (8, 16, 32)
    parts = [one.pixels(grids, 3), one.scores(1 + classes, grids, per_cell=3), one.grids(32, grids, per_cell=3)]
    one.add(op.concat(parts, 2), "output0")
    one.add(one.maps(32, 4), "output1")
    return one.model()


def seven(classes: int = CLASSES) -> ov.Model:
    """YOLOv7 with suppression inside: ``[N, 7]`` as wide as DetectionOutput's rows, and another order."""
    one = Drawing(35)
    one.add(op.squeeze(one.grids(7, (16, 32)), np.array([0])), "output")
    return one.model()


def oriented(classes: int = CLASSES) -> ov.Model:
    """YOLOv8-obb: boxes, classes and an angle."""
    one, grids = Drawing(33), (8, 16, 32)
    joined = op.concat([one.pixels(grids), one.scores(classes, grids), one.grids(1, grids)], 2)
    one.add(op.transpose(joined, np.array([0, 2, 1])), "output0")
    return one.model()


def _finished(one: Drawing, rows: int, *more: Any) -> Any:
    """Give the best rows: two corners, a score, a class, and what else there is."""
    grids = (8, 16, 32)
    cxcywh, best = one.pixels(grids), op.topk(one.scores(CLASSES, grids), np.int32(1), 2, "max", "none", "i32")
    score, label = best.output(0), op.convert(best.output(1), "f32")
    joined = op.concat([cxcywh, score, label, *more], 2)
    order = op.topk(op.squeeze(score, np.array([0, 2])), np.int32(rows), 0, "max", "value", "i32").output(1)
    return op.gather(joined, order, np.int32(1))


def _points(one: Drawing, count: int) -> list[Any]:
    """Give x and y in pixels and a score for each point of each cell."""
    grids, found = (8, 16, 32), []
    for _ in range(count):
        place = op.multiply(op.sigmoid(one.grids(2, grids)), np.array([160, 96], np.float32))
        found += [place, one.scores(1, grids)]
    return found


def pose(points: int = 17, *, is_unit: bool = False) -> ov.Model:
    """YOLOv8-pose: a box, a score, and three values for each point; all 0 to 1 in TFLite exports."""
    one, grids = Drawing(36), (8, 16, 32)
    joined = op.concat([one.pixels(grids), one.scores(1, grids), *_points(one, points)], 2)
    if is_unit:
        joined = op.divide(joined, np.array([160, 96, 160, 96, 1] + [160, 96, 1] * points, np.float32))
    one.add(op.transpose(joined, np.array([0, 2, 1])), "output0")
    return one.model()


def pose_finished() -> ov.Model:
    """``[1, 300, 57]``: two corners, a score, a class, 17 points."""
    one = Drawing(37)
    one.add(_finished(one, 300, *_points(one, 17)), "output0")
    return one.model()


def oriented_finished() -> ov.Model:
    """``[1, 300, 7]``: a box, a score, a class, an angle."""
    one, grids = Drawing(38), (8, 16, 32)
    turns = op.multiply(op.subtract(op.sigmoid(one.grids(1, grids)), np.float32(0.25)), np.float32(np.pi))
    one.add(_finished(one, 300, turns), "output0")
    return one.model()


def masks_finished() -> ov.Model:
    """``[1, 300, 38]``: two corners, a score, a class, 32 coefficients; and the masks' prototypes."""
    one = Drawing(39)
    one.add(_finished(one, 300, one.grids(32, (8, 16, 32))), "output0")
    one.add(one.maps(32, 4), "output1")
    return one.model()


def oriented_upright(classes: int = CLASSES) -> ov.Model:
    """YOLOv8-obb whose angles all happen to be 0 to 1, as scores are."""
    one, grids = Drawing(41), (8, 16, 32)
    angle = one.scores(1, grids, gain=0.2, shift=0.0)
    joined = op.concat([one.pixels(grids), one.scores(classes, grids, shift=-5.0), angle], 2)
    one.add(op.transpose(joined, np.array([0, 2, 1])), "output0")
    return one.model()


def _logits(scores: ov.Output) -> ov.Output:
    """Undo a sigmoid."""
    return op.log(op.divide(scores, op.subtract(np.float32(1.0001), scores))).output(0)


def raw_yolov5(classes: int = CLASSES) -> ov.Model:
    """YOLOv5's rows, whose scores went through no sigmoid."""
    one, grids = Drawing(36), (8, 16, 32)
    scores = one.scores(1 + classes, grids, per_cell=3)
    one.add(op.concat([one.pixels(grids, 3), _logits(scores)], 2), "output0")
    return one.model()


def yolov5_face() -> ov.Model:
    """A box, its score, five landmarks in pixels and a class."""
    one, grids = Drawing(37), (8, 16, 32)
    pixels = op.concat([one.pixels(grids, 3) for _ in range(3)], 2)
    marks = op.slice(pixels, [0], [10], [1], [2])
    scores = [one.scores(1, grids, per_cell=3) for _ in range(2)]
    one.add(op.concat([one.pixels(grids, 3), scores[0], marks, scores[1]], 2), "output0")
    return one.model()


def raw_yolov8(classes: int = CLASSES) -> ov.Model:
    """YOLOv8's columns, whose scores went through no sigmoid."""
    one, grids = Drawing(38), (8, 16, 32)
    joined = op.concat([one.pixels(grids), _logits(one.scores(classes, grids))], 2)
    one.add(op.transpose(joined, np.array([0, 2, 1])), "output0")
    return one.model()


def _corners(one: Drawing) -> ov.Output:
    boxes = one.pixels((8, 16, 32))
    place, side = (op.slice(boxes, [first], [first + 2], [1], [2]) for first in (0, 2))
    half = op.divide(side, np.float32(2))
    return op.concat([op.subtract(place, half), op.add(place, half)], 2).output(0)


def corners_yolov8(classes: int = CLASSES) -> ov.Model:
    """YOLOv8's columns, but two corners a box."""
    one = Drawing(39)
    joined = op.concat([_corners(one), one.scores(classes, (8, 16, 32))], 2)
    one.add(op.transpose(joined, np.array([0, 2, 1])), "output0")
    return one.model()


def corners_yolov6(classes: int = CLASSES) -> ov.Model:
    """YOLOv6's rows, but two corners a box, some of them outside of the picture."""
    one = Drawing(40)
    one.add(op.concat([_corners(one), one.scores(1 + classes, (8, 16, 32))], 2), "outputs")
    return one.model()
