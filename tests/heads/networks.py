"""Small networks whose outputs have exactly the form of a family's exports, made of convolutions with fixed weights.

What they "find" depends on the picture, so that a head's every row can be checked against an independent decoder.
"""

from collections.abc import Callable, Sequence

import numpy as np
import openvino as ov
from openvino import opset13 as op

from tests.heads.decided import (
    boxes_labels,
    boxes_scores,
    detr,
    paddle,
    rt_detr,
    rt_detr_joined,
    ssd,
    tf_detections,
    yolov10,
)
from tests.heads.drawing import CLASSES, SIZE, Drawing


def yolov5(seed: int = 1, classes: int = CLASSES) -> ov.Model:
    """``[1, 3 * cells, 5 + C]``."""
    one, grids = Drawing(seed), (8, 16, 32)
    parts = [one.pixels(grids, 3), one.scores(1, grids, per_cell=3, shift=0.0), one.scores(classes, grids, per_cell=3)]
    one.add(op.concat(parts, 2), "output0")
    return one.model()


def yolov8(seed: int = 2, classes: int = CLASSES, grids: Sequence[int] = (8, 16, 32)) -> ov.Model:
    """``[1, 4 + C, cells]``."""
    one = Drawing(seed)
    joined = op.concat([one.pixels(grids), one.scores(classes, grids)], 2)
    one.add(op.transpose(joined, np.array([0, 2, 1])), "output0")
    return one.model()


def yolov8_turned(seed: int = 23, classes: int = CLASSES) -> ov.Model:
    """``[1, cells, 4 + C]``."""
    one, grids = Drawing(seed), (8, 16, 32)
    one.add(op.concat([one.pixels(grids), one.scores(classes, grids)], 2), "output0")
    return one.model()


def yolov6(seed: int = 24, classes: int = CLASSES) -> ov.Model:
    """``[1, cells, 5 + C]``, boxes in pixels: YOLOv6, and YOLOX with its decoding inside."""
    one, grids = Drawing(seed), (8, 16, 32)
    one.add(op.concat([one.pixels(grids), one.scores(1, grids, shift=0.0), one.scores(classes, grids)], 2), "outputs")
    return one.model()


def yolov8_tflite(seed: int = 3, classes: int = CLASSES) -> ov.Model:
    """The same with channels last and boxes of 0 to 1, as in TFLite exports."""
    one, grids = Drawing(seed, layout="NHWC"), (8, 16, 32)
    unit = op.divide(one.pixels(grids), np.array([SIZE[1], SIZE[0]] * 2, np.float32))
    joined = op.concat([unit, one.scores(classes, grids)], 2)
    one.add(op.transpose(joined, np.array([0, 2, 1])), "Identity")
    return one.model()


def yolox(seed: int = 4, classes: int = CLASSES) -> ov.Model:
    """``[1, cells, 5 + C]``, boxes relative to their cell."""
    one, grids = Drawing(seed), (8, 16, 32)
    one.add(op.concat([one.grids(4, grids), one.scores(1, grids, shift=0.0), one.scores(classes, grids)], 2), "output")
    return one.model()


def nanodet_plus(seed: int = 6, classes: int = CLASSES) -> ov.Model:
    """``[1, cells, C + 32]`` with four grids."""
    one, grids = Drawing(seed), (8, 16, 32, 64)
    one.add(op.concat([one.scores(classes, grids), one.grids(32, grids, gain=2.0)], 2), "output")
    return one.model()


def picodet(seed: int = 7, classes: int = CLASSES) -> ov.Model:
    """Scores and distributions apart, an output of each for each of four grids."""
    one, grids = Drawing(seed), (8, 16, 32, 64)
    for stride in grids:
        one.add(one.scores(classes, [stride]), f"cls_{stride}")
    for stride in grids:
        one.add(one.rows(32, stride, gain=2.0), f"reg_{stride}")
    return one.model()


def nanodet_apart(seed: int = 26, classes: int = CLASSES) -> ov.Model:
    """Distributions of 11 bins, then scores, an output of each for each of three grids: NanoDet-g."""
    one, grids = Drawing(seed), (8, 16, 32)
    for stride in grids:
        one.add(one.rows(44, stride, gain=2.0), f"reg_{stride}")
    for stride in grids:
        one.add(one.scores(classes, [stride]), f"cls_{stride}")
    return one.model()


def dfl_maps(seed: int = 8, classes: int = CLASSES) -> ov.Model:
    """``[1, 64 + C, h, w]`` for each grid, distributions first and scores raw, as in YOLOv8 without its end."""
    one = Drawing(seed)
    for stride in (8, 16, 32):
        parts = [one.maps(64, stride, 2.0), one.maps(classes, stride, 2.0, -2.5)]
        one.add(op.concat(parts, 1), f"grid{stride}")
    return one.model()


def dfl_turned(seed: int = 21, classes: int = CLASSES) -> ov.Model:
    """``[1, 64 + C, cells]``: the raw heads of YOLOv8 put together."""
    one, grids = Drawing(seed), (8, 16, 32)
    joined = op.concat([one.grids(64, grids, gain=2.0), one.grids(classes, grids, gain=2.0, shift=-4.0)], 2)
    one.add(op.transpose(joined, np.array([0, 2, 1])), "output")
    return one.model()


def gfl(seed: int = 22, classes: int = CLASSES) -> ov.Model:
    """Joined for each of five grids, scores of 0 to 1 first, 11 bins."""
    one = Drawing(seed)
    for stride in (8, 16, 32, 64, 128):
        one.add(op.concat([one.scores(classes, [stride]), one.grids(44, [stride], gain=2.0)], 2), f"grid_{stride}")
    return one.model()


def scrfd(seed: int = 9) -> ov.Model:
    """Scores, distances and landmarks for each grid, two anchors a cell, without a leading 1."""
    one, grids = Drawing(seed), (8, 16, 32)
    for name, width in (("score", 1), ("bbox", 4), ("kps", 10)):
        for stride in grids:
            raw = one.rows(width, stride, per_cell=2, gain=2.0, shift=-2.0 if width == 1 else 1.0)
            raw = op.sigmoid(raw) if width == 1 else op.relu(raw) if width == 4 else raw
            one.add(op.reshape(raw, np.array([-1, width]), False), f"{name}_{stride}")
    return one.model()


def yunet(seed: int = 10) -> ov.Model:
    """Class, objectness, box and landmarks for each grid."""
    one, grids = Drawing(seed), (8, 16, 32)
    for name, width in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
        for stride in grids:
            raw = one.rows(width, stride, gain=2.0 if width == 1 else 1.0, shift=-1.0 if width == 1 else 0.5)
            one.add(op.sigmoid(raw) if width == 1 else raw, f"{name}_{stride}")
    return one.model()


def retinaface(seed: int = 11) -> ov.Model:
    """Boxes, two scores and landmarks for each prior."""
    one, grids = Drawing(seed), (8, 16, 32)
    bias = op.constant(np.array([2.0, 0.0], np.float32))
    one.add(one.grids(4, grids, per_cell=2), "loc")
    one.add(op.softmax(op.add(one.grids(2, grids, per_cell=2), bias), 2), "conf")
    one.add(one.grids(10, grids, per_cell=2), "landms")
    return one.model()


def ssd_raw(seed: int = 12, classes: int = CLASSES + 1) -> ov.Model:
    """Raw boxes and scores for the anchors of SSD MobileNet; class 0 is the background."""
    one = Drawing(seed, layout="NHWC")
    strides = (16, 32, 64, 128)
    for name, width, how in (("boxes", 4, {"gain": 3.0}), ("scores", classes, {"gain": 2.0, "shift": -3.0})):
        parts = [one.rows(width, stride, per_cell=6 if at else 3, **how) for at, stride in enumerate(strides)]
        one.add(op.concat(parts, 1), f"raw_outputs/{name}")
    return one.model()


def efficientdet(seed: int = 27, classes: int = CLASSES) -> ov.Model:
    """Scores after a sigmoid first, then raw boxes, nine for each cell of five grids; no background."""
    one, strides = Drawing(seed, layout="NHWC"), (8, 16, 32, 64, 128)
    one.add(one.scores(classes, strides, per_cell=9, shift=-6.5), "scores")
    one.add(one.grids(4, strides, per_cell=9, gain=0.5), "boxes")
    return one.model()


def ssd_fpn(seed: int = 28, classes: int = CLASSES + 1) -> ov.Model:
    """Raw boxes and scores for six anchors of each cell of five grids; nearly all is class 0, the background."""
    one, strides = Drawing(seed, layout="NHWC"), (8, 16, 32, 64, 128)
    one.add(one.grids(4, strides, per_cell=6, gain=2.0), "raw_detection_boxes")
    bias = op.constant(np.array([9.0] + [0.0] * (classes - 1), np.float32))
    one.add(op.add(one.grids(classes, strides, per_cell=6, gain=1.5, shift=-5.0), bias), "raw_detection_scores")
    return one.model()


def ssd_last(seed: int = 29, classes: int = CLASSES) -> ov.Model:
    """Raw boxes, and scores after a softmax whose last class is the background."""
    one, strides = Drawing(seed), (16, 32, 64, 128)
    bias = op.constant(np.array([0.0] * classes + [4.0], np.float32))
    for name, width, gain in (("boxes", 4, 3.0), ("scores", classes + 1, 1.5)):
        parts = [one.rows(width, stride, gain=gain, per_cell=6 if at else 3) for at, stride in enumerate(strides)]
        joined = op.concat(parts, 1)
        one.add(joined if width == 4 else op.softmax(op.add(joined, bias), 2), name)
    return one.model()


def ssd_own_anchors(seed: int = 13, classes: int = CLASSES) -> ov.Model:
    """Raw boxes, softmaxed scores and the anchors themselves."""
    one, grids = Drawing(seed), (16, 32)
    boxes = one.grids(4, grids, per_cell=2, gain=2.0)
    one.add(boxes, "boxes")
    bias = op.constant(np.array([2.0] + [0.0] * classes, np.float32))
    one.add(op.softmax(op.add(one.grids(classes + 1, grids, per_cell=2), bias), 2), "scores")
    rows = [
        [(y + 0.5) / (SIZE[0] // stride), (x + 0.5) / (SIZE[1] // stride), *one.random.uniform(0.1, 0.6, 2)]
        for stride in grids
        for y in range(SIZE[0] // stride)
        for x in range(SIZE[1] // stride)
        for _ in range(2)
    ]
    one.add(op.constant(np.array(rows, np.float32)), "anchors")
    return one.model()


#: Every form by its name.
FORMS: dict[str, Callable[[], ov.Model]] = {
    made.__name__: made
    for made in (
        *(
            yolov5,
            yolov6,
            yolov8,
            yolov8_turned,
            yolov8_tflite,
            yolox,
            yolov10,
            nanodet_plus,
            picodet,
            nanodet_apart,
            dfl_maps,
            dfl_turned,
            gfl,
            scrfd,
            yunet,
            retinaface,
        ),
        *(
            ssd_raw,
            efficientdet,
            ssd_fpn,
            ssd_last,
            ssd_own_anchors,
            ssd,
            detr,
            rt_detr,
            rt_detr_joined,
            boxes_labels,
            boxes_scores,
            paddle,
            tf_detections,
        ),
    )
}
