"""Small networks of the forms that give boxes themselves: DetectionOutput, transformers, or a suppression inside.

As :mod:`tests.heads.networks`, where those are whose raw outputs are to be decoded.
"""

import numpy as np
import openvino as ov
from openvino import opset13 as op

from tests.heads.drawing import CLASSES, SIZE, Drawing


def yolov10(seed: int = 5, classes: int = CLASSES, rows: int = 100) -> ov.Model:
    """``[1, N, 6]``, best first."""
    one, grids = Drawing(seed), (8, 16, 32)
    cxcywh = one.pixels(grids)
    place, side = (op.slice(cxcywh, [a], [b], [1], [2]) for a, b in ((0, 2), (2, 4)))
    half = op.divide(side, np.float32(2))
    best = op.topk(one.scores(classes, grids), np.int32(1), 2, "max", "none", "i32")
    score, label = best.output(0), op.convert(best.output(1), "f32")
    joined = op.concat([op.subtract(place, half), op.add(place, half), score, label], 2)
    order = op.topk(op.squeeze(score, np.array([0, 2])), np.int32(rows), 0, "max", "value", "i32").output(1)
    one.add(op.gather(joined, order, np.int32(1)), "output0")
    return one.model()


def rt_detr_joined(seed: int = 25, classes: int = CLASSES) -> ov.Model:
    """``[1, Q, 4 + C]``, all of it 0 to 1, as Ultralytics exports RT-DETR."""
    one, grids = Drawing(seed), (16, 32)
    one.add(op.concat([op.sigmoid(one.grids(4, grids)), one.scores(classes, grids)], 2), "output0")
    return one.model()


def ssd(seed: int = 14, classes: int = CLASSES) -> ov.Model:
    """A real DetectionOutput, class 0 the background."""
    one, grids = Drawing(seed), (16, 32)
    boxes = one.grids(4, grids)
    count = int(boxes.get_output_shape(0)[1])
    bias = op.constant(np.array([1.0] + [0.0] * classes, np.float32))
    scores = op.softmax(op.add(one.grids(classes + 1, grids), bias), 2)
    corner = one.random.uniform(0, 0.6, (count, 2))
    priors = np.concatenate([corner, corner + one.random.uniform(0.1, 0.4, (count, 2))], 1)
    variances = np.tile([0.1, 0.1, 0.2, 0.2], count)
    attributes = {
        "background_label_id": 0,
        "top_k": 200,
        "keep_top_k": [50],
        "code_type": "caffe.PriorBoxParameter.CENTER_SIZE",
        "nms_threshold": 0.45,
        "confidence_threshold": 0.1,
        "share_location": True,
        "variance_encoded_in_target": False,
        "normalized": True,
        "num_classes": classes + 1,
    }
    flat = op.constant(np.stack([priors.ravel(), variances])[np.newaxis].astype(np.float32))
    each = [op.reshape(value, np.array([1, -1]), False) for value in (boxes, scores)]
    found = ov.opset8.detection_output(each[0], each[1], flat, attributes)
    one.add(found, "detection_out")
    return one.model()


def detr(seed: int = 15, classes: int = CLASSES) -> ov.Model:
    """Logits with a last class for no object, and boxes of 0 to 1."""
    one, grids = Drawing(seed), (16, 32)
    bias = op.constant(np.array([0.0] * classes + [3.0], np.float32))
    one.add(op.add(one.grids(classes + 1, grids, gain=2.0), bias), "logits")
    one.add(op.sigmoid(one.grids(4, grids)), "pred_boxes")
    return one.model()


def rt_detr(seed: int = 16, classes: int = CLASSES) -> ov.Model:
    """Logits to be put through sigmoid, and boxes of 0 to 1."""
    one, grids = Drawing(seed), (16, 32)
    one.add(one.grids(classes, grids, gain=2.0, shift=-2.5), "logits")
    one.add(op.sigmoid(one.grids(4, grids)), "pred_boxes")
    return one.model()


def boxes_labels(seed: int = 17, classes: int = CLASSES) -> ov.Model:
    """As many rows as the network itself keeps: ``boxes [N, 5]`` and ``labels [N]``."""
    rows = yolov10(seed, classes)
    found = rows.outputs[0].get_node().input_value(0)
    table = op.squeeze(found, np.array([0]))
    score = op.squeeze(op.slice(table, [4], [5], [1], [1]), np.array([1]))
    kept = op.squeeze(
        op.transpose(op.non_zero(op.greater(score, np.float32(0.2)), "i64"), np.array([1, 0])), np.array([1])
    )
    chosen = op.gather(table, kept, np.int32(0))
    one = Drawing(seed)
    one.entry, one.outputs = rows.get_parameters()[0], []
    one.add(op.slice(chosen, [0], [5], [1], [1]), "boxes")
    one.add(op.convert(op.squeeze(op.slice(chosen, [5], [6], [1], [1]), np.array([1])), "i64"), "labels")
    return one.model()


def boxes_scores(seed: int = 18, classes: int = CLASSES) -> ov.Model:
    """Boxes as y1, x1, y2, x2 of 0 to 1 and a score per class."""
    one, grids = Drawing(seed), (8, 16, 32)
    unit = op.divide(one.pixels(grids), np.array([SIZE[1], SIZE[0]] * 2, np.float32))
    x, y, w, h = op.split(unit, np.int64(2), 4).outputs()
    w, h = (op.divide(side, np.float32(2)) for side in (w, h))
    one.add(op.concat([op.subtract(y, h), op.subtract(x, w), op.add(y, h), op.add(x, w)], 2), "boxes")
    one.add(one.scores(classes, grids), "scores")
    return one.model()


def paddle(seed: int = 20, classes: int = CLASSES) -> ov.Model:
    """PaddleDetection without suppression: boxes in pixels, ``[1, C, N]`` scores, and inputs for the picture's size."""
    one, grids = Drawing(seed), (8, 16, 32)
    scale = op.parameter([1, 2], np.float32, name="scale_factor")
    x, y, w, h = op.split(one.pixels(grids), np.int64(2), 4).outputs()
    w, h = (op.divide(side, np.float32(2)) for side in (w, h))
    corners = op.concat([op.subtract(x, w), op.subtract(y, h), op.add(x, w), op.add(y, h)], 2)
    one.add(op.divide(corners, op.concat([scale, scale], 1)), "boxes")
    one.add(op.transpose(one.scores(classes, grids), np.array([0, 2, 1])), "scores")
    return ov.Model(one.outputs, [one.entry, scale], "drawn")


def tf_detections(seed: int = 19, classes: int = CLASSES) -> ov.Model:
    """The Object Detection API's four: boxes y1, x1, y2, x2 of 0 to 1, classes from 1, scores, and how many."""
    rows = yolov10(seed, classes)
    found = rows.outputs[0].get_node().input_value(0)
    x1, y1, x2, y2, score, label = op.split(found, np.int64(2), 6).outputs()
    unit = [
        op.divide(value, np.float32(side))
        for value, side in ((y1, SIZE[0]), (x1, SIZE[1]), (y2, SIZE[0]), (x2, SIZE[1]))
    ]
    one = Drawing(seed, layout="NHWC")
    one.entry, one.outputs = rows.get_parameters()[0], []
    one.add(op.concat(unit, 2), "detection_boxes")
    one.add(op.add(op.squeeze(label, np.array([2])), np.float32(1)), "detection_classes")
    one.add(op.squeeze(score, np.array([2])), "detection_scores")
    one.add(
        op.reduce_sum(op.convert(op.greater(score, np.float32(0)), "f32"), np.array([1, 2]), False), "num_detections"
    )
    return one.model()
