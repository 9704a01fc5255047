"""A head for FOMO networks ("Faster Objects, More Objects"): a coarse grid with a probability per class in each cell.

The network's output is ``(1, h, w, 1 + classes)``, 0 to 1; class 0 is the background. A cell that is at least as likely
as its eight neighbours is an object, and its box is a square around the cell.
"""

import numpy as np
import openvino as ov
from openvino import opset13 as op

from worker.heads import nms, tensors


def attach(model: ov.Model, *, iou: float, side: float = 1.0) -> ov.Output:
    """Decode the grid into rows: label, score, x1, y1, x2, y2 in pixels of the network's input.

    Args:
        model: the network, its input already of the size in model.toml.
        iou: from model.toml: two boxes of one class that overlap more are one object.
        side: of a box, in cells. A head's own arguments are the `options` of model.toml.

    Raises:
        ValueError: the network is none of this family; the sentence reaches the user.
    """
    found = tensors.outputs(model)
    if len(found) != 1 or len(found[0].shape) != 4 or found[0].width < 2:
        raise ValueError(f"FOMO has one output [1,h,w,1+C]; this network has {tensors.told(found)}")
    grid = found[0]
    _, down, right, classes = grid.shape

    # What is less likely than a neighbour is no object.
    planes = op.transpose(grid.value, np.array([0, 3, 1, 2]))
    highest = op.max_pool(planes, [1, 1], [1, 1], [1, 1], [1, 1], [3, 3]).output(0)
    is_peak = op.convert(op.equal(planes, highest), "f32")
    peaks = op.transpose(op.multiply(planes, is_peak), np.array([0, 2, 3, 1])).output(0)

    # (h * w, classes) scores without the background, and as many boxes, which do not depend on the picture.
    scores = tensors.take(tensors.table(peaks, classes), 1, classes)
    height, width = tensors.input_size(model)
    cell = np.array([width / right, height / down])
    columns, rows = np.meshgrid(np.arange(right), np.arange(down))
    centres = (np.stack([columns, rows], axis=-1).reshape(-1, 2) + 0.5) * cell
    boxes = np.concatenate([centres - side * cell / 2, centres + side * cell / 2], axis=1).astype(np.float32)

    return nms.by_class(scores, op.constant(boxes).output(0), iou=iou)
