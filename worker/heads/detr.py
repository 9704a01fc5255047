"""DETR, RT-DETR, D-FINE and their kin: a set of boxes, and for each the logits of its classes.

Stage: inside the graph, behind the network. Formulas: Carion et al., "End-to-End Object Detection with Transformers";
Zhao et al., "DETRs Beat YOLOs on Real-time Object Detection" and their post-processors (Apache-2.0).
"""

import numpy as np
import openvino as ov
from openvino import opset13 as op

from worker.heads import nms, tensors


def attach(model: ov.Model, *, iou: float, scores: str = "sigmoid", first_label: int = 0) -> ov.Output:
    """Decode logits ``(1, q, classes)`` and boxes ``(1, q, 4)``, or one output of both, boxes first, into rows.

    Boxes are centre x, centre y, width and height, 0 to 1.

    Args:
        model: the outputs in any order.
        iou: not used: the network was trained to give one box per object.
        scores: ``sigmoid`` (RT-DETR, D-FINE, Deformable DETR), ``softmax`` (DETR: its last class, "no object", is
            dropped) or ``none`` where it was applied already.
        first_label: the network's number of the first of the labels: 1 where its class 0 is none of them.

    Raises:
        ValueError: the outputs have another form.
    """
    logits, boxes = _find(model)
    each = tensors.activated(logits, scores)
    width = int(each.get_partial_shape()[1].get_length())
    last = width - 1 if scores == "softmax" else width
    each = tensors.take(each, first_label, last)
    pixels = tensors.scaled(tensors.from_centres(boxes), tensors.input_size(model))
    if scores == "softmax":
        best = op.topk(each, np.int32(1), 1, "max", "none", "i32")
        return nms.passed(tensors.vector(best.output(1)), tensors.vector(best.output(0)), pixels)
    # The best of all pairs of query and class: a query may stand for two classes, as in the published post-processor.
    classes = np.int32(last - first_label)
    score, pair = nms.best(tensors.vector(each), int(np.prod(each.get_shape())))
    picked = op.gather(pixels, op.divide(pair, classes), np.int32(0)).output(0)
    return nms.passed(op.mod(pair, classes).output(0), score, picked)


def _find(model: ov.Model) -> tuple[ov.Output, ov.Output]:
    """Return logits ``(q, classes)`` and boxes ``(q, 4)``; by name if both are four wide."""
    found = tensors.outputs(model)
    if len(found) == 1 and len(found[0].shape) == 3 and found[0].width > 4:
        values = tensors.table(found[0].value, found[0].width)
        return tensors.take(values, 4, found[0].width), tensors.take(values, 0, 4)
    named = [one for one in found if one.width == 4 and any("box" in name for name in one.names)]
    boxes = named[0] if named else next((one for one in found if one.width == 4), None)
    logits = [one for one in found if one is not boxes]
    if boxes is None or len(logits) != 1 or logits[0].rows != boxes.rows:
        raise ValueError(f"DETR has logits [1,Q,C] and boxes [1,Q,4]; this network has {tensors.told(found)}")
    return tensors.table(logits[0].value, logits[0].width), tensors.table(boxes.value, 4)
