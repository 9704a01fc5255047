"""YOLOv5, YOLOv6 and YOLOv7 exports: a box, an objectness and a score per class for each anchor, all decoded.

Stage: inside the graph, behind the network. Form: Ultralytics' YOLOv5 (``[1, N, 5 + C]``); a YOLOX that was exported
with its decoding inside has it too.
"""

import openvino as ov
from openvino import opset13 as op

from worker.heads import nms, tensors


def attach(
    model: ov.Model, *, iou: float, normalised: bool = False, multi_label: bool = False, agnostic: bool = False
) -> ov.Output:
    """Decode ``(1, n, 5 + classes)`` of centre x, centre y, width, height, objectness and classes into rows.

    Args:
        model: its one output of three dimensions counts; others, as of raw grids, are left alone.
        iou: two boxes of one class that overlap more are one object.
        normalised: boxes are 0 to 1, as in TFLite exports, not pixels.
        multi_label: as :func:`worker.heads.nms.by_class`; agnostic likewise.

    Raises:
        ValueError: the outputs have another form.
    """
    found = tensors.only(model, 3, "YOLOv5", "[1,N,5+C]")
    if found.width < 6:
        raise ValueError(f"YOLOv5 has an output [1,N,5+C]; this network has {tensors.told([found])}")
    values = tensors.table(found.value, found.width)
    scores = op.multiply(tensors.take(values, 5, found.width), tensors.take(values, 4, 5)).output(0)
    boxes = tensors.from_centres(tensors.take(values, 0, 4))
    if normalised:
        boxes = tensors.scaled(boxes, tensors.input_size(model))
    return nms.by_class(scores, boxes, iou=iou, multi_label=multi_label, agnostic=agnostic)
