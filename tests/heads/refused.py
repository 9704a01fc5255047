"""Networks that the fleet does not serve, and one that only looks as if."""

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
