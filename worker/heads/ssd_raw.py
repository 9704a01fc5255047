"""SSD without its end: raw boxes and scores for each anchor, as SSD MobileNet and EfficientDet have them in TFLite.

Stage: inside the graph, behind the network. Formulas: Liu et al., "SSD: Single Shot MultiBox Detector" and the Object
Detection API's FasterRcnnBoxCoder (Apache-2.0). The anchors come from :mod:`worker.heads.anchors`, or are a constant
among the network's outputs.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as op

from worker.heads import anchors as makers
from worker.heads import nms, tensors

#: Order of a raw box's values, and of the network's own anchors'.
ORDERS = {"yxhw": (1, 0, 3, 2), "xywh": (0, 1, 2, 3)}


def attach(
    model: ov.Model,
    *,
    iou: float,
    anchors: Mapping[str, Any] | None = None,
    anchors_file: Path | None = None,
    order: str = "yxhw",
    box_scale: Sequence[float] = (10.0, 10.0, 5.0, 5.0),
    scores: str = "sigmoid",
    background: bool | str = True,
    multi_label: bool = False,
    agnostic: bool = False,
) -> ov.Output:
    """Decode raw boxes ``(1, n, 4)`` and scores ``(1, n, classes)``, in any order, into rows.

    Args:
        model: with the two outputs, and its anchors ``(n, 4)`` as a third if it brings them.
        iou: two boxes of one class that overlap more are one object.
        anchors: how to make them: ``kind`` ``grid``, ``pyramid`` or ``efficientdet``, and that kind's arguments. None:
            the network's own.
        anchors_file: a file in the model's folder with the anchors, ``(n, 4)`` in ``order``, 0 to 1: ``.npy``, or
            text with a row a line.
        order: of a raw box's values: ``yxhw`` or ``xywh``.
        box_scale: what raw values are divided by, centre y and x, then height and width (as ``order`` says).
        scores: ``sigmoid``, ``softmax`` or ``none`` where it was applied already.
        background: class 0 is none of the labels and is dropped; ``last``: the last class is; false: none.
        multi_label: as :func:`worker.heads.nms.by_class`; agnostic likewise.

    Raises:
        ValueError: the outputs have another form, or the anchors are not as many as the network's boxes.
    """
    if order not in ORDERS:
        raise ValueError(f"order is one of {', '.join(ORDERS)}, not {order!r}")
    if background not in (True, False, "last"):
        raise ValueError(f'background is true, false or "last", not {background!r}')
    boxes, raw_scores, own = _find(tensors.outputs(model))
    size = tensors.input_size(model)
    turn = np.array(ORDERS[order], np.int32)
    if anchors_file is not None:
        made: ov.Node = op.constant(_read(anchors_file, boxes.rows)[:, turn])
    elif anchors is not None:
        made = op.constant(_made(size, anchors, boxes.rows))
    elif own is not None:
        made = op.gather(tensors.table(own.value, 4), turn, np.int32(1))
    else:
        raise ValueError("this network does not bring its anchors; say in options.anchors how to make them")
    raw = op.divide(tensors.table(boxes.value, 4), np.array(box_scale, np.float32))
    values = op.gather(raw, turn, np.int32(1)).output(0)
    place, side = (tensors.take(made.output(0), first, first + 2) for first in (0, 2))
    centre = op.add(op.multiply(tensors.take(values, 0, 2), side), place).output(0)
    sides = op.multiply(op.exp(tensors.take(values, 2, 4)), side).output(0)
    pixels = tensors.scaled(tensors.corners(centre, sides), size)
    each = tensors.activated(tensors.table(raw_scores.value, raw_scores.width), scores)
    if background:
        first = 0 if background == "last" else 1
        each = tensors.take(each, first, first + raw_scores.width - 1)
    return nms.by_class(each, pixels, iou=iou, multi_label=multi_label, agnostic=agnostic)


def _find(found: Sequence[tensors.Tensor]) -> tuple[tensors.Tensor, tensors.Tensor, tensors.Tensor | None]:
    """Tell boxes, scores and, if there are any, anchors apart: by constancy, then by width, then by their place."""
    own = next((one for one in found if tensors.behind(one.value, "Constant")), None)
    left = [one for one in found if one is not own]
    boxes = next((one for one in left if one.width == 4), None)
    scores = next((one for one in left if one is not boxes), None)
    if boxes is None or scores is None or len(left) != 2 or boxes.rows != scores.rows or boxes.rows < 1:
        raise ValueError(f"SSD has raw boxes [1,N,4] and scores [1,N,C]; this network has {tensors.told(found)}")
    return boxes, scores, own


def _made(size: tuple[int, int], wanted: Mapping[str, Any], rows: int) -> makers.Anchors:
    made = makers.make(size, wanted)
    if len(made) != rows:
        raise ValueError(f"these anchors are {len(made)} at {size[1]} x {size[0]}; the network has {rows} boxes")
    return made


def _read(path: Path, rows: int) -> makers.Anchors:
    try:
        found = (
            np.load(path)
            if path.suffix == ".npy"
            else np.loadtxt(path, delimiter="," if path.suffix == ".csv" else None)
        )
    except OSError as error:
        raise ValueError(f"the anchors of {path.name} cannot be read: {error.strerror}") from error
    if found.shape != (rows, 4):
        raise ValueError(f"the anchors of {path.name} are {list(found.shape)}; the network has {rows} boxes")
    return found.astype(np.float32)
