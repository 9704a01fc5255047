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


def by_class(
    scores: ov.Output,
    boxes: ov.Output,
    points: ov.Output | None = None,
    *,
    iou: float,
    multi_label: bool = False,
    agnostic: bool = False,
) -> ov.Output:
    """Suppress overlapping boxes class by class and give what is left as rows.

    Args:
        scores: ``(n, classes)`` float32, 0 to 1.
        boxes: ``(n, 4)`` float32 xyxy, pixels of the network's input.
        points: ``(n, 2 * k)`` float32 keypoints, x and y in turn, or None.
        iou: two boxes of one class that overlap more are one object.
        multi_label: a box counts for each class that it has a score for, not for its best one alone.
        agnostic: boxes of different classes suppress each other too.

    Returns:
        ``(m, 6 + 2 * k)`` float32: label, score, x1, y1, x2, y2, keypoints; best score first, at most CANDIDATES.
    """
    classes = int(scores.get_partial_shape()[1].get_length())
    winner = op.topk(scores, np.int32(1), 1, "max", "none", "i32")
    best_score, chosen = _top(op.squeeze(winner.output(0), np.int64(1)).output(0))
    label = op.gather(op.squeeze(winner.output(1), np.int64(1)), chosen, np.int32(0))
    boxes = op.gather(boxes, chosen, np.int32(0)).output(0)
    if agnostic:
        matrix = op.unsqueeze(best_score, np.int64(0))
    elif multi_label:
        matrix = op.transpose(op.gather(scores, chosen, np.int32(0)), np.array([1, 0]))
    else:
        one_hot = op.one_hot(label, np.int64(classes), np.float32(1), np.float32(0), 0)
        matrix = op.multiply(one_hot, op.unsqueeze(best_score, np.int64(0)))
    kept = op.non_max_suppression(
        op.unsqueeze(boxes, np.int64(0)),
        op.unsqueeze(matrix, np.int64(0)),
        np.int64(CANDIDATES),
        np.float32(iou),
        np.float32(SCORE_FLOOR),
        box_encoding="corner",
        sort_result_descending=True,
        output_type="i32",
    )
    index, score = (_first(one, CANDIDATES) for one in (kept.output(0), kept.output(1)))  # (m, 3): batch, class, box
    box = op.gather(index, np.int32(2), np.int32(1))
    found = op.gather(label, box, np.int32(0)) if agnostic else op.gather(index, np.int32(1), np.int32(1))
    columns = [
        op.unsqueeze(op.convert(found, "f32"), np.int64(1)),
        op.unsqueeze(op.gather(score, np.int32(2), np.int32(1)), np.int64(1)),
        op.gather(boxes, box, np.int32(0)),
    ]
    if points is not None:
        columns.append(op.gather(op.gather(points, chosen, np.int32(0)), box, np.int32(0)))
    return op.concat(columns, 1).output(0)


def passed(labels: ov.Output, scores: ov.Output, boxes: ov.Output) -> ov.Output:
    """Give rows of a network that suppresses by itself: those above the floor, best score first.

    Args:
        labels: ``(n,)`` of any type.
        scores: ``(n,)`` float32; below the floor where a row is none.
        boxes: ``(n, 4)`` float32 xyxy, pixels of the network's input.

    Returns:
        ``(m, 6)`` float32, at most CANDIDATES rows.
    """
    best_score, chosen = _top(scores)
    columns = [
        op.unsqueeze(op.convert(op.gather(labels, chosen, np.int32(0)), "f32"), np.int64(1)),
        op.unsqueeze(best_score, np.int64(1)),
        op.gather(boxes, chosen, np.int32(0)),
    ]
    good = op.convert(op.greater(best_score, np.float32(SCORE_FLOOR)), "i64")
    count = op.reduce_sum(good, np.array([0]), True)
    zero, one = np.array([0]), np.array([1])
    return op.slice(op.concat(columns, 1), op.constant(zero), count, op.constant(one), op.constant(zero)).output(0)


def suppressed(rows: ov.Output, *, iou: float, agnostic: bool = False) -> ov.Output:
    """Suppress overlapping boxes of one class among finished rows ``(n, 6)``, however many classes there are."""
    columns = op.split(rows, np.int64(1), 6).outputs()
    boxes = op.concat(columns[2:], 1)
    # Classes are moved apart, so that boxes of two of them never meet; the rows given are those that came.
    apart = op.add(op.multiply(op.reduce_max(op.abs(boxes), np.array([0, 1]), False), np.float32(2)), np.float32(1))
    moved = boxes if agnostic else op.add(boxes, op.multiply(columns[0], apart))
    kept = op.non_max_suppression(
        op.unsqueeze(moved, np.int64(0)),
        op.unsqueeze(op.transpose(columns[1], np.array([1, 0])), np.int64(0)),
        np.int64(CANDIDATES),
        np.float32(iou),
        np.float32(SCORE_FLOOR),
        box_encoding="corner",
        sort_result_descending=True,
        output_type="i32",
    ).output(0)
    return op.gather(rows, op.gather(kept, np.int32(2), np.int32(1)), np.int32(0)).output(0)


def _top(scores: ov.Output) -> tuple[ov.Output, ov.Output]:
    """Do what :func:`best` does, for a count that may be known at run time only."""
    count = scores.get_partial_shape()[0]
    if count.is_static:
        return best(scores, int(count.get_length()))
    length = op.squeeze(op.shape_of(scores, "i32"), np.int64(0))
    top = op.topk(scores, op.minimum(length, np.int32(CANDIDATES)), 0, "max", "value", "i32")
    return top.output(0), top.output(1)


def _first(table: ov.Output, count: int) -> ov.Output:
    return op.slice(table, np.array([0]), np.array([count]), np.array([1]), np.array([0])).output(0)
