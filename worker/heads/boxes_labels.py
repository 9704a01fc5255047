"""Geti, OTX and MMDetection exports: finished boxes with their scores, and a label for each.

Stage: inside the graph, behind the network. Form: ``boxes [N, 5]`` or ``[1, N, 5]`` of x1, y1, x2, y2, score, and
``labels [N]`` or ``[1, N]``.
"""

import numpy as np
import openvino as ov
from openvino import opset13 as op

from worker.heads import nms, tensors


def attach(model: ov.Model, *, iou: float, normalised: bool = False, first_label: int = 0) -> ov.Output:
    """Take boxes with scores and their labels as rows.

    Args:
        model: one output that is 5 wide, and one with a label for each of its rows.
        iou: not used: these networks have suppression inside.
        normalised: boxes are 0 to 1, not pixels.
        first_label: the network's number of the first of the labels.

    Raises:
        ValueError: the outputs have another form.
    """
    found = tensors.outputs(model)
    boxes = [one for one in found if len(one.shape) >= 2 and one.width == 5]
    labels = [one for one in found if not (len(one.shape) >= 2 and one.width == 5)]
    if len(boxes) != 1 or len(labels) != 1:
        raise ValueError(f"boxes and labels are [N,5] and [N]; this network has {tensors.told(found)}")
    values = tensors.table(boxes[0].value, 5)
    corners = tensors.take(values, 0, 4)
    if normalised:
        corners = tensors.scaled(corners, tensors.input_size(model))
    label = op.subtract(op.convert(tensors.vector(labels[0].value), "f32"), np.float32(first_label)).output(0)
    score = tensors.vector(tensors.take(values, 4, 5))
    known = op.greater_equal(label, np.float32(0))  # MMDetection fills up with label -1
    return nms.passed(label, op.select(known, score, np.float32(0)).output(0), corners)
