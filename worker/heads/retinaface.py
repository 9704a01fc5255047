"""RetinaFace: for each prior a box, two scores (no face, face) and five landmarks.

Stage: inside the graph, behind the network. Formulas: Deng et al., "RetinaFace: Single-stage Dense Face Localisation in
the Wild" and the decoder of biubug6/Pytorch_Retinaface (MIT), which is Open Model Zoo's too.
"""

from collections.abc import Sequence

import numpy as np
import openvino as ov
from openvino import opset13 as op

from worker.heads import nms, tensors

STRIDES = (8, 16, 32)
SIDES = ((16, 32), (64, 128), (256, 512))
VARIANCES = (0.1, 0.2)


def attach(
    model: ov.Model,
    *,
    iou: float,
    strides: Sequence[int] = STRIDES,
    sides: Sequence[Sequence[float]] = SIDES,
    scores: str = "none",
) -> ov.Output:
    """Decode boxes ``(1, n, 4)``, scores ``(1, n, 2)`` and landmarks ``(1, n, 10)`` into rows.

    Args:
        model: three outputs, or three for each grid, in any order.
        iou: overlap above which two boxes are one face.
        strides: input pixels per cell of each grid.
        sides: of the priors at each cell of each grid, input pixels.
        scores: ``none`` where softmax was applied already, else ``softmax``.

    Raises:
        ValueError: the outputs have another form, or another number of priors.
    """
    found = tensors.outputs(model)
    size = tensors.input_size(model)
    places, priors = [], []
    for stride, row in zip(strides, sides, strict=True):
        at, _ = tensors.cells(size, [stride], per_cell=len(row), offset=0.5)
        places.append(at)
        priors.append(np.tile(np.array(row, np.float32), len(at) // len(row))[:, np.newaxis])
    place, side = np.concatenate(places), np.concatenate(priors)
    groups = {width: [one for one in found if one.width == width] for width in (2, 4, 10)}
    if sum(map(len, groups.values())) != len(found) or any(
        sum(one.rows for one in group) != len(place) for group in groups.values()
    ):
        raise ValueError(
            f"RetinaFace has boxes, scores and landmarks of {len(place)} rows at this size; "
            f"this network has {tensors.told(found)}"
        )
    shift, grow = VARIANCES
    raw = tensors.stacked(groups[4], 4)
    centre = op.add(op.multiply(tensors.take(raw, 0, 2), op.constant(side * np.float32(shift))), op.constant(place))
    sized = op.exp(op.multiply(tensors.take(raw, 2, 4), np.float32(grow)))
    boxes = tensors.corners(centre.output(0), op.multiply(sized, op.constant(side)).output(0))
    moved = op.multiply(tensors.stacked(groups[10], 10), op.constant(side * np.float32(shift)))
    points = op.add(moved, op.constant(np.tile(place, 5))).output(0)
    score = tensors.take(tensors.activated(tensors.stacked(groups[2], 2), scores), 1, 2)
    return nms.by_class(score, boxes, points, iou=iou)
