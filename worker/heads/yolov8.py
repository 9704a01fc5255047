"""YOLOv8, YOLOv9, YOLO11 and YOLO12 exports: a box and a score per class for each cell, all decoded.

Stage: inside the graph, behind the network. Form: Ultralytics' detection exports (``[1, 4 + C, N]``).
"""

import numpy as np
import openvino as ov
from openvino import opset13 as op

from worker.heads import nms, tensors


def attach(
    model: ov.Model,
    *,
    iou: float,
    normalised: bool = False,
    transposed: bool = False,
    multi_label: bool = False,
    agnostic: bool = False,
) -> ov.Output:
    """Decode ``(1, 4 + classes, n)`` of centre x, centre y, width, height and classes into rows.

    Args:
        model: its one output of three dimensions counts.
        iou: two boxes of one class that overlap more are one object.
        normalised: boxes are 0 to 1, as in TFLite exports, not pixels.
        transposed: the output is ``(1, n, 4 + classes)``.
        multi_label: as :func:`worker.heads.nms.by_class`; agnostic likewise.

    Raises:
        ValueError: the outputs have another form.
    """
    found = tensors.only(model, 3, "YOLOv8", "[1,4+C,N]")
    width = found.shape[2 if transposed else 1]
    if width < 5:
        raise ValueError(f"YOLOv8 has an output [1,4+C,N]; this network has {tensors.told([found])}")
    turned = found.value if transposed else op.transpose(found.value, np.array([0, 2, 1])).output(0)
    values = tensors.table(turned, width)
    boxes = tensors.from_centres(tensors.take(values, 0, 4))
    if normalised:
        boxes = tensors.scaled(boxes, tensors.input_size(model))
    scores = tensors.take(values, 4, width)
    return nms.by_class(scores, boxes, iou=iou, multi_label=multi_label, agnostic=agnostic)
