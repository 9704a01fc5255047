"""What each family's outputs mean, computed a second time with plain numpy and loops.

Written from the families' published decoders and on purpose without a line of ``worker/``. Each function takes a
network's outputs, in the order of ``tests/heads/networks.py``, and gives ``(label, score, box, points)`` per object:
boxes xyxy and points in pixels of the network's input, suppressed, best first.
"""

import math
from collections.abc import Callable, Iterable

import numpy as np

from tests.heads.drawing import SIZE
from tests.heads.found import HEIGHT, WIDTH, Found, best, corners, keep, places, sigmoid, softmax, wide
from tests.heads.networks import FORMS


def yolov5(outputs: list[np.ndarray]) -> list[Found]:
    rows = wide(outputs)[0][0]
    return keep(Found(*best(row[5:] * row[4]), corners(*row[:4]), []) for row in rows)


def yolov8(outputs: list[np.ndarray]) -> list[Found]:
    return keep(Found(*best(row[4:]), corners(*row[:4]), []) for row in wide(outputs)[0][0].T)


def yolov8_turned(outputs: list[np.ndarray]) -> list[Found]:
    return keep(Found(*best(row[4:]), corners(*row[:4]), []) for row in wide(outputs)[0][0])


def yolov6(outputs: list[np.ndarray]) -> list[Found]:
    return yolov5(outputs)


def rt_detr_joined(outputs: list[np.ndarray]) -> list[Found]:
    rows = wide(outputs)[0][0]
    return keep((one for query in _queries(rows[:, 4:], rows[:, :4]) for one in query), suppress=False)


def yolov8_tflite(outputs: list[np.ndarray]) -> list[Found]:
    sides = np.array([WIDTH, HEIGHT, WIDTH, HEIGHT])
    return keep(Found(*best(row[4:]), corners(*(row[:4] * sides)), []) for row in wide(outputs)[0][0].T)


def yolox(outputs: list[np.ndarray], size: tuple[int, int] = SIZE) -> list[Found]:
    found = []
    for row, (x, y, stride) in zip(wide(outputs)[0][0], places([8, 16, 32], size=size), strict=True):
        centre, sides = (row[:2] + np.array([x, y])) * stride, np.exp(row[2:4]) * stride
        found.append(Found(*best(row[4] * row[5:]), corners(*centre, *sides), []))
    return keep(found)


def yolov10(outputs: list[np.ndarray]) -> list[Found]:
    rows = wide(outputs)[0][0]
    return keep((Found(int(row[5]), row[4], list(row[:4]), []) for row in rows), suppress=False)


def _distributed(scores: np.ndarray, sides: np.ndarray, cells: list[tuple[int, int, int]], at: float) -> list[Found]:
    found = []
    for row, raw, (x, y, stride) in zip(scores, sides, cells, strict=True):
        left, top, right, bottom = (softmax(side) @ np.arange(len(side)) * stride for side in raw.reshape(4, -1))
        middle_x, middle_y = (x + at) * stride, (y + at) * stride
        box = [middle_x - left, middle_y - top, middle_x + right, middle_y + bottom]
        found += [Found(label, score, box, []) for label, score in enumerate(row)]
    return keep(found)


def nanodet_plus(outputs: list[np.ndarray]) -> list[Found]:
    rows = wide(outputs)[0][0]
    return _distributed(rows[:, :-32], rows[:, -32:], places([8, 16, 32, 64]), 0.0)


def picodet(outputs: list[np.ndarray]) -> list[Found]:
    rows = [one[0] for one in wide(outputs)]
    return _distributed(np.concatenate(rows[:4]), np.concatenate(rows[4:]), places([8, 16, 32, 64]), 0.5)


def nanodet_apart(outputs: list[np.ndarray]) -> list[Found]:
    rows = [one[0] for one in wide(outputs)]
    return _distributed(np.concatenate(rows[3:]), np.concatenate(rows[:3]), places([8, 16, 32]), 0.5)


def dfl_maps(outputs: list[np.ndarray]) -> list[Found]:
    rows = np.concatenate([one[0].reshape(one.shape[1], -1).T for one in wide(outputs)])
    return _distributed(sigmoid(rows[:, 64:]), rows[:, :64], places([8, 16, 32]), 0.5)


def dfl_turned(outputs: list[np.ndarray]) -> list[Found]:
    rows = wide(outputs)[0][0].T
    return _distributed(sigmoid(rows[:, 64:]), rows[:, :64], places([8, 16, 32]), 0.5)


def gfl(outputs: list[np.ndarray]) -> list[Found]:
    rows = np.concatenate([one[0] for one in wide(outputs)])
    return _distributed(rows[:, :-44], rows[:, -44:], places([8, 16, 32, 64, 128]), 0.5)


def scrfd(outputs: list[np.ndarray]) -> list[Found]:
    scores, boxes, points = (np.concatenate(wide(outputs)[start : start + 3]) for start in (0, 3, 6))
    found = []
    for score, box, marks, (x, y, stride) in zip(scores, boxes, points, places([8, 16, 32], 2), strict=True):
        (left, top, right, bottom), at = box * stride, np.array([x, y]) * stride
        moved = (marks.reshape(5, 2) * stride + at).ravel()
        found.append(Found(0, score[0], [at[0] - left, at[1] - top, at[0] + right, at[1] + bottom], list(moved)))
    return keep(found)


def yunet(outputs: list[np.ndarray]) -> list[Found]:
    faces, objects, boxes, points = (
        np.concatenate([one[0] for one in wide(outputs)[start : start + 3]]) for start in (0, 3, 6, 9)
    )
    found = []
    for index, (x, y, stride) in enumerate(places([8, 16, 32])):
        score, at = math.sqrt(faces[index, 0] * objects[index, 0]), np.array([x, y])
        centre, sides = (boxes[index, :2] + at) * stride, np.exp(boxes[index, 2:]) * stride
        moved = (points[index].reshape(5, 2) + at) * stride
        found.append(Found(0, score, corners(*centre, *sides), list(moved.ravel())))
    return keep(found)


def retinaface(outputs: list[np.ndarray]) -> list[Found]:
    boxes, scores, points = (one[0] for one in wide(outputs))
    sides = {8: (16, 32), 16: (64, 128), 32: (256, 512)}
    found = []
    for index, (x, y, stride) in enumerate(places([8, 16, 32], 2)):
        side, at = sides[stride][index % 2], np.array([x + 0.5, y + 0.5]) * stride
        centre, size = at + boxes[index, :2] * 0.1 * side, side * np.exp(boxes[index, 2:] * 0.2)
        moved = at + points[index].reshape(5, 2) * 0.1 * side
        found.append(Found(0, scores[index, 1], corners(*centre, *size), list(moved.ravel())))
    return keep(found)


def _anchored(
    boxes: np.ndarray,
    scores: np.ndarray,
    anchors: Iterable[tuple[float, ...]],
    *,
    coder: tuple[float, float] = (10, 5),
    classes: slice = slice(1, None),
) -> list[Found]:
    """Decode y, x, h, w against anchors of (y, x, h, w), 0 to 1; class 0 is the background unless told otherwise."""
    found = []
    for raw, row, (ay, ax, ah, aw) in zip(boxes, scores, anchors, strict=True):
        y, x = raw[0] / coder[0] * ah + ay, raw[1] / coder[0] * aw + ax
        h, w = math.exp(raw[2] / coder[1]) * ah, math.exp(raw[3] / coder[1]) * aw
        found.append(Found(*best(row[classes]), corners(x * WIDTH, y * HEIGHT, w * WIDTH, h * HEIGHT), []))
    return keep(found)


def efficientdet(outputs: list[np.ndarray]) -> list[Found]:
    scores, boxes = (one[0] for one in wide(outputs))
    anchors = []
    for level in (3, 4, 5, 6, 7):
        # automl's anchors.py: steps are the input's size divided by the grid's.
        tall, long = (math.ceil(side / 2**level) for side in SIZE)
        down, right = HEIGHT / tall, WIDTH / long
        for y in range(tall):
            for x in range(long):
                for octave in range(3):
                    for wide_, high in ((1.0, 1.0), (2**0.5, 0.5**0.5), (0.5**0.5, 2**0.5)):
                        h, w = (3.0 * 2 ** (octave / 3) * one for one in (down * high, right * wide_))
                        anchors.append(((y + 0.5) * down / HEIGHT, (x + 0.5) * right / WIDTH, h / HEIGHT, w / WIDTH))
    return _anchored(boxes, scores, anchors, coder=(1, 1), classes=slice(None))


def ssd_fpn(outputs: list[np.ndarray]) -> list[Found]:
    boxes, scores = (one[0] for one in wide(outputs))
    anchors = []
    for level in (3, 4, 5, 6, 7):
        stride = 2**level
        tall, long = (math.ceil(side / stride) for side in SIZE)
        top, left = (stride / 2 if side % stride == 0 else 0 for side in SIZE)
        for y in range(tall):
            for x in range(long):
                for ratio in (1.0, 2.0, 0.5):
                    for octave in (0, 1):
                        side = 4.0 * stride * 2 ** (octave / 2)
                        h, w = side / ratio**0.5 / HEIGHT, side * ratio**0.5 / WIDTH
                        anchors.append(((y * stride + top) / HEIGHT, (x * stride + left) / WIDTH, h, w))
    return _anchored(boxes, sigmoid(scores), anchors)


def ssd_last(outputs: list[np.ndarray]) -> list[Found]:
    boxes, scores = (one[0] for one in wide(outputs))
    return _anchored(boxes, scores, _mobilenet_anchors(), classes=slice(None, -1))


def ssd_raw(outputs: list[np.ndarray]) -> list[Found]:
    boxes, scores = (one[0] for one in wide(outputs))
    return _anchored(boxes, sigmoid(scores), _mobilenet_anchors())


def _mobilenet_anchors() -> list[tuple[float, ...]]:
    anchors: list[tuple[float, ...]] = []
    scales = [0.2, 0.45, 0.7, 0.95, 1.0]
    for layer, stride in enumerate((16, 32, 64, 128)):
        scale, middle = scales[layer], math.sqrt(scales[layer] * scales[layer + 1])
        kinds = [(scale, 1), (scale, 2), (scale, 0.5), (scale, 3), (scale, 1 / 3), (middle, 1)]
        kinds = kinds if layer else [(0.1, 1), (scale, 2), (scale, 0.5)]
        tall, long = math.ceil(HEIGHT / stride), math.ceil(WIDTH / stride)
        for y in range(tall):
            for x in range(long):
                for side, ratio in kinds:
                    h, w = side / ratio**0.5, side * ratio**0.5
                    anchors.append(((y + 0.5) / tall, (x + 0.5) / long, h, w))
    return anchors


def ssd_own_anchors(outputs: list[np.ndarray]) -> list[Found]:
    boxes, scores, anchors = wide(outputs)
    return _anchored(boxes[0], scores[0], [tuple(row) for row in anchors])


def ssd(outputs: list[np.ndarray]) -> list[Found]:
    found = []
    for image, label, score, x1, y1, x2, y2 in wide(outputs)[0][0, 0]:
        if image < 0:
            break
        found.append(Found(int(label) - 1, score, [x1 * WIDTH, y1 * HEIGHT, x2 * WIDTH, y2 * HEIGHT], []))
    return keep(found, suppress=False)


def _queries(scores: np.ndarray, boxes: np.ndarray) -> list[list[Found]]:
    each = []
    for row, (x, y, w, h) in zip(scores, boxes, strict=True):
        box = corners(x * WIDTH, y * HEIGHT, w * WIDTH, h * HEIGHT)
        each.append([Found(label, score, box, []) for label, score in enumerate(row)])
    return each


def detr(outputs: list[np.ndarray]) -> list[Found]:
    logits, boxes = (one[0] for one in wide(outputs))
    each = _queries(softmax(logits)[:, :-1], boxes)
    return keep((max(query, key=lambda one: one.score) for query in each), suppress=False)


def rt_detr(outputs: list[np.ndarray]) -> list[Found]:
    logits, boxes = (one[0] for one in wide(outputs))
    return keep((one for query in _queries(sigmoid(logits), boxes) for one in query), suppress=False)


def boxes_labels(outputs: list[np.ndarray]) -> list[Found]:
    boxes, labels = wide(outputs)
    rows = zip(boxes, labels, strict=True)
    return keep((Found(int(label), row[4], list(row[:4]), []) for row, label in rows), suppress=False)


def boxes_scores(outputs: list[np.ndarray]) -> list[Found]:
    boxes, scores = (one[0] for one in wide(outputs))
    found = []
    for (y1, x1, y2, x2), row in zip(boxes, scores, strict=True):
        found.append(Found(*best(row), [x1 * WIDTH, y1 * HEIGHT, x2 * WIDTH, y2 * HEIGHT], []))
    return keep(found)


def paddle(outputs: list[np.ndarray]) -> list[Found]:
    boxes, scores = (one[0] for one in wide(outputs))
    return keep(Found(*best(row), list(box), []) for box, row in zip(boxes, scores.T, strict=True))


def tf_detections(outputs: list[np.ndarray]) -> list[Found]:
    boxes, classes, scores = (one[0] for one in wide(outputs)[:3])
    found = []
    for (y1, x1, y2, x2), label, score in zip(boxes, classes, scores, strict=True):
        found.append(Found(int(label) - 1, score, [x1 * WIDTH, y1 * HEIGHT, x2 * WIDTH, y2 * HEIGHT], []))
    return keep(found, suppress=False)


#: Decoder by the name of the form: each has one here.
DECODERS: dict[str, Callable[[list[np.ndarray]], list[Found]]] = {name: globals()[name] for name in FORMS}
