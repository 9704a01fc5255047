"""SSD and other networks that end in OpenVINO's or Caffe's DetectionOutput, as Open Model Zoo's do.

Stage: inside the graph, behind the network. Form: ``[1, 1, N, 7]`` of image, label, score and a box of 0 to 1; the
first negative image ends the list.
"""

import numpy as np
import openvino as ov
from openvino import opset13 as op

from worker.heads import nms, tensors


def attach(model: ov.Model, *, iou: float, first_label: int = 0, normalised: bool = True) -> ov.Output:
    """Take DetectionOutput's rows.

    Args:
        model: its one output that is 7 wide counts.
        iou: not used: DetectionOutput has suppression inside.
        first_label: the network's number of the first of the labels: 1 where its class 0 is the background.
        normalised: boxes are 0 to 1, not pixels.

    Raises:
        ValueError: no output has this form.
    """
    found = [one for one in tensors.outputs(model) if len(one.shape) >= 2 and one.width == 7]
    if len(found) != 1:
        raise ValueError(f"SSD has one output [1,1,N,7]; this network has {tensors.told(tensors.outputs(model))}")
    values = tensors.table(found[0].value, 7)
    image, label, score = (tensors.vector(tensors.take(values, column, column + 1)) for column in range(3))
    # What stands behind the end of the list is left over from elsewhere.
    ended = op.cum_sum(op.convert(op.less(image, np.float32(0)), "f32"), np.int32(0))
    label = op.subtract(label, np.float32(first_label)).output(0)
    valid = op.logical_and(op.equal(ended, np.float32(0)), op.greater_equal(label, np.float32(0)))
    score = op.select(valid, score, np.float32(0)).output(0)
    boxes = tensors.take(values, 3, 7)
    if normalised:
        boxes = tensors.scaled(boxes, tensors.input_size(model))
    return nms.passed(label, score, boxes)
