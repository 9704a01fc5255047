"""Boxes, scores and, where they stand apart, classes: the rest, described by options.

Stage: inside the graph, behind the network. For networks whose outputs are plain tensors of finished or nearly
finished boxes: torchvision, the Object Detection API, PaddleDetection, a network of one's own.
"""

from collections.abc import Sequence

import numpy as np
import openvino as ov
from openvino import opset13 as op

from worker.heads import nms, tensors

#: Columns of a box, as ``(n, 4)`` of these becomes xyxy.
FORMATS = ("xyxy", "yxyx", "cxcywh", "xywh")


def attach(
    model: ov.Model,
    *,
    iou: float,
    box_format: str = "xyxy",
    normalised: bool = False,
    scores: str = "none",
    suppress: bool = True,
    first_label: int = 0,
    boxes_name: str = "",
    scores_name: str = "",
    classes_name: str = "",
    multi_label: bool = False,
    agnostic: bool = False,
) -> ov.Output:
    """Take boxes ``(1, n, 4)`` and scores ``(1, n, classes)``, or scores and classes ``(1, n)``, as rows.

    Args:
        model: the outputs, with or without a leading 1; scores may be ``(1, classes, n)``. Others
            are left alone if names say which count.
        iou: two boxes of one class that overlap more are one object.
        box_format: ``xyxy``, ``yxyx``, ``cxcywh`` or ``xywh`` (corner and size).
        normalised: boxes are 0 to 1, not pixels.
        scores: ``sigmoid`` or ``softmax`` if it has still to be applied.
        suppress: apply suppression; false if the network has done it.
        first_label: the network's number of the first of the labels: 1 where class 0 is the background.
        boxes_name: name of that output, where shapes do not tell; scores_name and classes_name likewise.
        multi_label: as :func:`worker.heads.nms.by_class`; agnostic likewise.

    Raises:
        ValueError: the outputs cannot be told apart, or have another form.
    """
    if box_format not in FORMATS:
        raise ValueError(f"box_format is one of {', '.join(FORMATS)}, not {box_format!r}")
    boxes, score, classes = _find(tensors.outputs(model), boxes_name, scores_name, classes_name)
    if is_turned(score, boxes):
        value = op.transpose(score.value, np.array([0, 2, 1])).output(0)
        score = tensors.Tensor(score.names, (1, *score.shape[:0:-1]), value)
    pixels = _xyxy(tensors.table(boxes.value, 4), box_format)
    if normalised:
        pixels = tensors.scaled(pixels, tensors.input_size(model))
    if classes is None:
        each = tensors.activated(tensors.table(score.value, score.width), scores)
        each = tensors.take(each, first_label, score.width)
        if suppress:
            return nms.by_class(each, pixels, iou=iou, multi_label=multi_label, agnostic=agnostic)
        best = op.topk(each, np.int32(1), 1, "max", "none", "i32")
        return nms.passed(tensors.vector(best.output(1)), tensors.vector(best.output(0)), pixels)
    one = tensors.activated(tensors.table(score.value, 1), scores)
    label = op.subtract(op.convert(tensors.vector(classes.value), "f32"), np.float32(first_label)).output(0)
    known = op.greater_equal(label, np.float32(0))
    rows = nms.passed(label, op.select(known, tensors.vector(one), np.float32(0)).output(0), pixels)
    return nms.suppressed(rows, iou=iou, agnostic=agnostic) if suppress else rows


def _xyxy(boxes: ov.Output, box_format: str) -> ov.Output:
    if box_format == "yxyx":
        return op.gather(boxes, np.array([1, 0, 3, 2], np.int32), np.int32(1)).output(0)
    if box_format == "cxcywh":
        return tensors.from_centres(boxes)
    if box_format == "xywh":
        start, size = tensors.take(boxes, 0, 2), tensors.take(boxes, 2, 4)
        return op.concat([start, op.add(start, size)], 1).output(0)
    return boxes


def _find(
    found: Sequence[tensors.Tensor], boxes_name: str, scores_name: str, classes_name: str
) -> tuple[tensors.Tensor, tensors.Tensor, tensors.Tensor | None]:
    """Tell the outputs apart: by the names given, else by width and type, else by what their names contain."""
    boxes = _must(found, boxes_name) if boxes_name else _named(found, "boxes", least_width=4)
    boxes = boxes or next((one for one in found if one.width == 4 and len(one.shape) > 1), None)
    if boxes is None:
        raise ValueError(f"there are no boxes [1,N,4] among {tensors.told(found)}; say options.boxes_name")
    left = [one for one in found if one is not boxes and not is_count(one)]
    if scores_name:
        return boxes, _must(found, scores_name), _must(found, classes_name) if classes_name else None
    classes = _must(found, classes_name) if classes_name else None
    if classes is None and len(left) == 2:
        classes = next((one for one in left if is_classes(one)), None)
    scores = [one for one in left if one is not classes]
    if len(scores) != 1:
        raise ValueError(
            f"scores and classes cannot be told apart in {tensors.told(found)}; "
            "say options.scores_name and options.classes_name"
        )
    return boxes, scores[0], classes


def is_turned(scores: tensors.Tensor, boxes: tensors.Tensor) -> bool:
    """Tell whether scores are ``(1, classes, n)``, as PaddleDetection has them."""
    shape = scores.shape
    return len(shape) == 3 and shape[2] == boxes.rows > 0 and shape[1] != boxes.rows


def is_count(one: tensors.Tensor) -> bool:
    """Tell whether an output is one number: how many boxes are valid, which their scores say as well."""
    return (len(one.shape) <= 1 and one.width == 1) or any("num" in name.lower() for name in one.names)


def is_classes(one: tensors.Tensor) -> bool:
    """Tell whether an output gives a class per box: whole numbers, or a name that says so and no scores."""
    if one.value.get_element_type().is_integral():
        return True
    name = " ".join(one.names).lower()
    return ("class" in name or "label" in name) and "score" not in name and "prob" not in name


def _named(found: Sequence[tensors.Tensor], name: str, least_width: int = 1) -> tensors.Tensor | None:
    return next((one for one in found if name and name in one.names and one.width >= least_width), None)


def _must(found: Sequence[tensors.Tensor], name: str) -> tensors.Tensor:
    one = _named(found, name)
    if one is None:
        there = ", ".join(sorted(name for one in found for name in one.names))
        raise ValueError(f"there is no output {name!r}; there are {there}")
    return one
