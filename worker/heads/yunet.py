"""YuNet: per grid a class score, an objectness, a box and five landmarks for each cell.

Stage: inside the graph, behind the network. Formulas: Wu et al., "YuNet: A Tiny Millisecond-level Face Detector" and
OpenCV's FaceDetectorYN (Apache-2.0).
"""

from collections.abc import Sequence

import numpy as np
import openvino as ov
from openvino import opset13 as op

from worker.heads import nms, tensors

STRIDES = (8, 16, 32)


def attach(model: ov.Model, *, iou: float, strides: Sequence[int] = STRIDES) -> ov.Output:
    """Decode two scores ``(1, n, 1)``, boxes ``(1, n, 4)`` and landmarks ``(1, n, 10)`` of each grid into rows.

    Args:
        model: outputs in any order: a face's score is the mean of the two, and it does not matter which is which.
        iou: overlap above which two boxes are one face.
        strides: input pixels per cell of each grid.

    Raises:
        ValueError: the outputs have another form, or another number of cells.
    """
    found = tensors.outputs(model)
    places, steps = tensors.cells(tensors.input_size(model), strides)
    by_width = {width: [one for one in found if one.width == width] for width in (1, 4, 10)}
    wanted = {1: 2 * len(places), 4: len(places), 10: len(places)}
    fits = all(sum(one.rows for one in by_width[width]) == rows for width, rows in wanted.items())
    if not fits or [len(by_width[width]) for width in wanted] != [2 * len(strides), len(strides), len(strides)]:
        raise ValueError(
            f"YuNet has two scores, boxes and landmarks for {len(strides)} grids, {len(places)} rows of each at this "
            f"size; this network has {tensors.told(found)}"
        )
    ordered = sorted(by_width[1], key=lambda one: -one.rows)  # stable: the two of a grid stay beside each other
    first, second = (op.clamp(tensors.stacked(ordered[start::2], 1), 0.0, 1.0) for start in (0, 1))
    score = op.sqrt(op.multiply(first, second)).output(0)
    step, place = op.constant(steps), op.constant(places)
    raw = tensors.stacked(by_width[4], 4)
    centre = op.add(op.multiply(tensors.take(raw, 0, 2), step), place).output(0)
    size = op.multiply(op.exp(tensors.take(raw, 2, 4)), step).output(0)
    shifted = op.multiply(tensors.stacked(by_width[10], 10), step)
    points = op.add(shifted, op.constant(np.tile(places, 5))).output(0)
    return nms.by_class(score, tensors.corners(centre, size), points, iou=iou)
