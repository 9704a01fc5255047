"""YOLOv10, YOLO26 and other exports that suppress by themselves: finished rows, best ones first.

Stage: inside the graph, behind the network. Form: Ultralytics' end-to-end exports (``[1, N, 6]``).
"""

import openvino as ov

from worker.heads import nms, tensors


def attach(model: ov.Model, *, iou: float, normalised: bool = False) -> ov.Output:
    """Take ``(1, n, 6)`` of x1, y1, x2, y2, score and class as rows.

    Args:
        model: its one output of three dimensions counts.
        iou: not used: the network was trained to give one box per object, or has suppression inside.
        normalised: boxes are 0 to 1, not pixels.

    Raises:
        ValueError: the outputs have another form.
    """
    found = tensors.only(model, 3, "YOLOv10", "[1,N,6]")
    if found.width != 6:
        raise ValueError(f"YOLOv10 has an output [1,N,6]; this network has {tensors.told([found])}")
    values = tensors.table(found.value, 6)
    boxes = tensors.take(values, 0, 4)
    if normalised:
        boxes = tensors.scaled(boxes, tensors.input_size(model))
    score, label = (tensors.vector(tensors.take(values, column, column + 1)) for column in (4, 5))
    return nms.passed(label, score, boxes)
