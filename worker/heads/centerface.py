"""CenterFace: a heatmap of face centres, and at each centre a size, an offset and five landmarks.

Stage: inside the graph, behind the network. Formulas: Xu et al., "CenterFace: Joint Face Detection and Alignment Using
Face as Point" (2019) and its authors' decoder (Star-Clouds/CenterFace, MIT).
"""

import numpy as np
import openvino as ov
from openvino import opset13 as op

from worker.heads import nms

#: Input pixels per cell of the heatmap.
STRIDE = np.float32(4)
POINTS = 5


def attach(model: ov.Model, *, iou: float) -> ov.Output:
    """Decode the network's four outputs into rows.

    Args:
        model: outputs heatmap ``(1, 1, h, w)``, scale, offset ``(1, 2, h, w)``, landmarks ``(1, 10, h, w)``; y first.
        iou: overlap above which two boxes are one face.

    Returns:
        ``(n, 16)`` float32 rows, pixels of the network's input; landmarks are eyes, nose, corners of the mouth.

    Raises:
        ValueError: the outputs are not those of CenterFace.
    """
    shapes = [tuple(output.get_shape()) for output in model.outputs]
    if [len(shape) for shape in shapes] != [4] * 4 or [shape[1] for shape in shapes] != [1, 2, 2, 2 * POINTS]:
        raise ValueError(f"CenterFace has outputs of 1, 2, 2 and 10 channels; this network has shapes {shapes}")
    height, width = shapes[0][2:]
    heatmap, scale, offset, landmarks = (
        op.reshape(output.get_node().input_value(0), np.array([-1, height * width]), False) for output in model.outputs
    )
    score, cell = nms.best(op.reshape(heatmap, np.array([-1]), False).output(0), height * width)
    at = _Cells(cell, width)
    h, w = (op.multiply(op.exp(channel), STRIDE) for channel in at.channels(scale, 2))
    dy, dx = at.channels(offset, 2)
    top = op.subtract(_centre(at.y, dy), op.divide(h, np.float32(2)))
    left = op.subtract(_centre(at.x, dx), op.divide(w, np.float32(2)))
    boxes = _columns([left, top, op.add(left, w), op.add(top, h)])
    marks = at.channels(landmarks, 2 * POINTS)
    points = []
    for down, right in zip(marks[::2], marks[1::2], strict=True):
        points += [op.add(op.multiply(right, w), left), op.add(op.multiply(down, h), top)]
    return nms.rows(score, boxes, _columns(points), iou=iou)


class _Cells:
    """The cells that were chosen: their places on the heatmap, and what other maps say there."""

    def __init__(self, cell: ov.Output, width: int) -> None:
        self.cell = cell
        self.x = op.convert(op.mod(cell, np.int32(width)), "f32")
        self.y = op.convert(op.divide(cell, np.int32(width)), "f32")

    def channels(self, plane: ov.Node, count: int) -> list[ov.Output]:
        """Take ``(count, h*w)`` at the cells: ``count`` vectors ``(k,)``."""
        taken = op.gather(plane, self.cell, np.int32(1))
        return [op.squeeze(part, np.int64(0)).output(0) for part in op.split(taken, np.int64(0), count).outputs()]


def _centre(cell: ov.Node, offset: ov.Output) -> ov.Node:
    return op.multiply(op.add(op.add(cell, offset), np.float32(0.5)), STRIDE)


def _columns(vectors: list[ov.Node]) -> ov.Output:
    """Stack vectors ``(k,)`` into ``(k, len(vectors))``."""
    return op.concat([op.unsqueeze(vector, np.int64(1)) for vector in vectors], 1).output(0)
