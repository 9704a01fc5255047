"""The end of every head that needs it: best candidates, non-maximum suppression, rows.

Stage: inside the graph, after a head has its boxes and scores. Neighbours: the heads call :func:`rows`.
"""

import numpy as np
import openvino as ov
from openvino import opset13 as op

#: Candidates kept before suppression, best first.
CANDIDATES = 1000

#: Score below which nothing leaves the graph; a request's ``min_score`` filters further. Suppression goes from the best
#: score down, so filtering after it gives what filtering before it would.
SCORE_FLOOR = 0.05


def best(scores: ov.Output, count: int) -> tuple[ov.Output, ov.Output]:
    """Return the best ``min(count, CANDIDATES)`` of ``scores`` ``(count,)`` and their indices, best first."""
    top = op.topk(scores, np.int32(min(count, CANDIDATES)), 0, "max", "value", "i32")
    return top.output(0), top.output(1)


def rows(scores: ov.Output, boxes: ov.Output, keypoints: ov.Output, *, iou: float) -> ov.Output:
    """Suppress overlapping boxes of one class and give what is left as rows.

    Args:
        scores: ``(k,)`` float32.
        boxes: ``(k, 4)`` float32 xyxy, pixels of the network's input.
        keypoints: ``(k, 2 * points)`` float32, x and y in turn, pixels of the network's input.
        iou: two boxes that overlap more are one object.

    Returns:
        ``(n, 6 + 2 * points)`` float32: label 0, score, x1, y1, x2, y2, keypoints; best score first.
    """
    first = np.int64(0)
    kept = op.non_max_suppression(
        op.unsqueeze(boxes, first),
        op.unsqueeze(op.unsqueeze(scores, first), first),
        np.int64(CANDIDATES),
        np.float32(iou),
        np.float32(SCORE_FLOOR),
        box_encoding="corner",
        sort_result_descending=True,
        output_type="i32",
    ).output(0)
    index = op.gather(kept, np.int32(2), np.int32(1))  # (n, 3) of batch, class, box -> (n,)
    column = op.unsqueeze(scores, np.int64(1))
    label = op.multiply(column, np.float32(0))
    return op.gather(op.concat([label, column, boxes, keypoints], 1), index, np.int32(0)).output(0)
