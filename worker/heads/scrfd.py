"""SCRFD: per grid a score, distances to the four sides and five landmarks for each of two anchors a cell.

Stage: inside the graph, behind the network. Formulas: Guo et al., "Sample and Computation Redistribution for Efficient
Face Detection" and InsightFace's decoder (MIT).
"""

from collections.abc import Sequence

import numpy as np
import openvino as ov
from openvino import opset13 as op

from worker.heads import nms, tensors

STRIDES = (8, 16, 32)


def attach(model: ov.Model, *, iou: float, strides: Sequence[int] = STRIDES, per_cell: int = 2) -> ov.Output:
    """Decode scores ``(n, 1)``, distances ``(n, 4)`` and, if there are any, landmarks ``(n, 10)`` of each grid.

    Args:
        model: outputs with or without a leading 1, in any order.
        iou: overlap above which two boxes are one face.
        strides: input pixels per cell of each grid.
        per_cell: anchors per cell.

    Raises:
        ValueError: the outputs have another form, or another number of cells.
    """
    found = tensors.outputs(model)
    by_width = {width: [one for one in found if one.width == width] for width in (1, 4, 10)}
    places, steps = tensors.cells(tensors.input_size(model), strides, per_cell=per_cell)
    whole = sum(len(group) for group in by_width.values()) == len(found)
    groups = [group for width, group in by_width.items() if width != 10 or group]
    if not whole or any(len(group) != len(strides) or sum(x.rows for x in group) != len(places) for group in groups):
        raise ValueError(
            f"SCRFD has scores, boxes and landmarks for {len(strides)} grids, {len(places)} rows of each at this "
            f"size; this network has {tensors.told(found)}"
        )
    step = op.constant(steps)
    distances = op.multiply(tensors.stacked(by_width[4], 4), step).output(0)
    points = None
    if by_width[10]:
        shifted = op.multiply(tensors.stacked(by_width[10], 10), step)
        points = op.add(shifted, op.constant(np.tile(places, 5))).output(0)
    return nms.by_class(tensors.stacked(by_width[1], 1), tensors.around(places, distances), points, iou=iou)
