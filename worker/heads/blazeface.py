"""BlazeFace: anchors at cell centres, and for each a score, a box and six keypoints.

Stage: inside the graph, behind the network. Formulas: Bazarevsky et al., "BlazeFace: Sub-millisecond Neural Face
Detection on Mobile GPUs" (2019) and MediaPipe's SsdAnchorsCalculator and TensorsToDetectionsCalculator (Apache-2.0).
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset13 as op

from worker.heads import nms

POINTS = 6

#: Input pixels per cell of each layer, and anchors per cell and layer.
LAYERS: dict[str, tuple[tuple[int, ...], int]] = {
    "short": ((8, 16, 16, 16), 2),
    "back": ((16, 32, 32, 32), 2),
    "full": ((4,), 1),
}


def anchors(variant: str, side: int) -> npt.NDArray[np.float32]:
    """Return the anchors' centres, ``(n, 2) float32`` x and y in pixels of the square input of ``side`` pixels."""
    strides, per_cell = LAYERS[variant]
    centres: list[npt.NDArray[Any]] = []
    # Layers of one stride that follow each other share their cells: all their anchors stand together at each cell.
    for stride in dict.fromkeys(strides):
        cells = (np.arange(side // stride) + 0.5) * stride
        grid = np.stack(np.meshgrid(cells, cells), axis=-1).reshape(-1, 2)
        centres.append(np.repeat(grid, per_cell * strides.count(stride), axis=0))
    return np.concatenate(centres).astype(np.float32)


def attach(model: ov.Model, *, iou: float, variant: str) -> ov.Output:
    """Decode the network's two outputs into rows.

    Args:
        model: input ``(1, side, side, 3)``; outputs regressors ``(1, n, 16)`` and scores ``(1, n, 1)``, in any order.
        iou: overlap above which two boxes are one face.
        variant: ``short``, ``back`` or ``full``, which fixes the anchors.

    Returns:
        ``(n, 18)`` float32 rows, pixels of the network's input; keypoints are eyes, nose, mouth, ears.

    Raises:
        ValueError: an unknown variant, or outputs that are not its own.
    """
    if variant not in LAYERS:
        raise ValueError(f"BlazeFace has the variants {', '.join(LAYERS)}, not {variant!r}")
    side = int(model.input(0).get_shape()[1])
    centre = anchors(variant, side)
    count, values = len(centre), 4 + 2 * POINTS
    by_width = {tuple(output.get_shape()): output.get_node().input_value(0) for output in model.outputs}
    if set(by_width) != {(1, count, values), (1, count, 1)}:
        raise ValueError(f"BlazeFace {variant} at {side} px has {count} anchors; this network has {list(by_width)}")
    logit = op.clamp(op.reshape(by_width[1, count, 1], np.array([-1]), False), -100.0, 100.0)
    score, chosen = nms.best(op.sigmoid(logit).output(0), count)
    raw = op.gather(op.squeeze(by_width[1, count, values], np.int64(0)), chosen, np.int32(0))
    at = op.gather(op.constant(centre), chosen, np.int32(0))
    middle, size, *points = op.split(raw, np.int64(1), values // 2).outputs()
    centred = op.add(middle, at)
    half = op.multiply(size, np.float32(0.5))
    boxes = op.concat([op.subtract(centred, half), op.add(centred, half)], 1)
    keypoints = op.concat([op.add(point, at) for point in points], 1)
    return nms.rows(score, boxes.output(0), keypoints.output(0), iou=iou)
