"""YOLOX: for each cell a box relative to it, an objectness and a score per class.

Stage: inside the graph, behind the network. Formulas: Ge et al., "YOLOX: Exceeding YOLO Series in 2021" and its
``demo_postprocess`` (Megvii, Apache-2.0).
"""

from collections.abc import Sequence

import numpy as np
import openvino as ov
from openvino import opset13 as op

from worker.heads import nms, tensors

STRIDES = (8, 16, 32)


def attach(
    model: ov.Model,
    *,
    iou: float,
    strides: Sequence[int] = STRIDES,
    multi_label: bool = False,
    agnostic: bool = False,
) -> ov.Output:
    """Decode ``(1, n, 5 + classes)`` of x, y, log width, log height, objectness and classes into rows.

    Args:
        model: its one output of three dimensions counts.
        iou: two boxes of one class that overlap more are one object.
        strides: input pixels per cell of each grid; 8, 16, 32, 64 for the P6 networks.
        multi_label: as :func:`worker.heads.nms.by_class`; agnostic likewise.

    Raises:
        ValueError: the outputs have another form, or another number of cells.
    """
    places, steps = tensors.cells(tensors.input_size(model), strides)
    found = tensors.only(model, 3, "YOLOX", "[1,N,5+C]")
    if found.width < 6 or found.rows != len(places):
        raise ValueError(f"YOLOX has [1,{len(places)},5+C] at this size; this network has {tensors.told([found])}")
    values = tensors.table(found.value, found.width)
    step = op.constant(steps)
    centre = op.add(op.multiply(tensors.take(values, 0, 2), step), op.constant(places)).output(0)
    size = op.multiply(op.exp(tensors.take(values, 2, 4)), np.broadcast_to(steps, (len(steps), 2)).copy()).output(0)
    scores = op.multiply(tensors.take(values, 5, found.width), tensors.take(values, 4, 5)).output(0)
    boxes = tensors.corners(centre, size)
    return nms.by_class(scores, boxes, iou=iou, multi_label=multi_label, agnostic=agnostic)
