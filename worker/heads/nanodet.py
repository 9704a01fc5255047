"""NanoDet, PicoDet and other networks with distribution focal loss: each side of a box is a distribution over bins.

Stage: inside the graph, behind the network. Formulas: Li et al., "Generalized Focal Loss" (2020); RangiLyu/nanodet and
PaddleDetection's PicoDet (Apache-2.0). A box reaches from its cell's place by the mean of each side's distribution,
in strides. The raw heads of YOLOv8 are of this kind too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import openvino as ov
from openvino import opset13 as op

from worker.heads import nms, tensors

#: Sets of grids that are known; the number of rows says which one it is.
GRIDS = ((8, 16, 32), (8, 16, 32, 64), (8, 16, 32, 64, 128))


@dataclass(frozen=True, slots=True)
class Parts:
    """Scores ``(n, classes)`` and distributions ``(n, 4 * bins)``, all grids under each other, the finest first."""

    scores: ov.Output
    sides: ov.Output
    rows: int
    is_joined: bool


def attach(
    model: ov.Model,
    *,
    iou: float,
    bins: int = 8,
    strides: Sequence[int] | None = None,
    offset: float | None = None,
    scores: str = "none",
    boxes_first: bool = False,
    multi_label: bool = True,
    agnostic: bool = False,
) -> ov.Output:
    """Decode one joined output ``(1, n, classes + 4 * bins)``, or outputs per grid, joined or apart, into rows.

    Args:
        model: outputs ``(1, n, values)``, ``(1, values, n)`` or ``(1, values, h, w)``.
        iou: two boxes of one class that overlap more are one object.
        bins: per side, one more than the network's ``reg_max``.
        strides: input pixels per cell of each grid; None: by the number of rows.
        offset: place of a cell's point in it. None: 0.0 for NanoDet-Plus (joined, four grids), else 0.5.
        scores: ``none`` where sigmoid was applied already, else ``sigmoid``.
        boxes_first: in a joined output distributions stand before scores.
        multi_label: as :func:`worker.heads.nms.by_class`; agnostic likewise.

    Raises:
        ValueError: the outputs have another form, or another number of cells.
    """
    size = tensors.input_size(model)
    parts = _parts(model, 4 * bins, boxes_first)
    fitting = [
        grids for grids in ([strides] if strides else GRIDS) if sum(tensors.cell_counts(size, grids)) == parts.rows
    ]
    if not fitting:
        raise ValueError(f"{parts.rows} cells at {size[1]} x {size[0]} are no known set of grids; say options.strides")
    if offset is None:
        offset = 0.0 if parts.is_joined and len(fitting[0]) == 4 else 0.5
    places, steps = tensors.cells(size, fitting[0], offset=offset)
    distribution = op.softmax(op.reshape(parts.sides, np.array([-1, bins]), False), 1)
    # Not a matrix product: OpenVINO would compute all before it in bfloat16 where the hardware has it.
    mean = op.reduce_sum(op.multiply(distribution, np.arange(bins, dtype=np.float32)), np.array([1]), False)
    distances = op.multiply(tensors.table(mean.output(0), 4), op.constant(steps)).output(0)
    each = tensors.activated(parts.scores, scores)
    return nms.by_class(each, tensors.around(places, distances), iou=iou, multi_label=multi_label, agnostic=agnostic)


def _parts(model: ov.Model, width: int, boxes_first: bool) -> Parts:
    outputs = tensors.outputs(model)
    found = [_as_rows(one, tensors.input_size(model)) for one in outputs]
    sides = [one for one in found if one.width == width]
    others = [one for one in found if one.width != width]
    if sides and len(sides) == len(others) and sorted(x.rows for x in sides) == sorted(x.rows for x in others):
        classes = others[0].width
        if all(one.width == classes for one in others):
            rows = sum(one.rows for one in sides)
            return Parts(tensors.stacked(others, classes), tensors.stacked(sides, width), rows, is_joined=False)
    total = found[0].width
    if total > width and all(one.width == total for one in found):
        values = tensors.stacked(found, total)
        edge = width if boxes_first else total - width
        first, second = tensors.take(values, 0, edge), tensors.take(values, edge, total)
        scores, distributions = (second, first) if boxes_first else (first, second)
        return Parts(scores, distributions, sum(one.rows for one in found), is_joined=len(found) == 1)
    shapes = tensors.told(outputs)
    raise ValueError(
        f"with {width // 4} bins the outputs are C and {width} wide, or their sum; this network has {shapes}"
    )


def rows_of(one: tensors.Tensor, size: tuple[int, int]) -> tuple[int, int, tuple[int, ...]] | None:
    """Say how an output is rows, one a cell: how many, how wide, and the order of its axes that makes them.

    Args:
        one: ``(n, values)``, ``(1, n, values)``, ``(1, values, n)`` or ``(1, values, h, w)``.
        size: (height, width) of the network's input.
    """
    shape, rank = one.shape, len(one.shape)
    if -1 in shape or rank not in (2, 3, 4) or (rank > 2 and shape[0] != 1):
        return None
    if rank == 4:
        return shape[2] * shape[3], shape[1], (0, 2, 3, 1)
    if rank == 2:
        return shape[0], shape[1], (0, 1)
    each = tensors.cell_counts(size, GRIDS[-1])
    counts = {*each, *(sum(each[: len(grids)]) for grids in GRIDS)}
    if shape[2] in counts and shape[1] not in counts:
        return shape[2], shape[1], (0, 2, 1)
    return shape[1], shape[2], (0, 1, 2)


def _as_rows(one: tensors.Tensor, size: tuple[int, int]) -> tensors.Tensor:
    """Turn an output into ``(1, n, values)``; leave what is none as it is."""
    layout = rows_of(one, size)
    if layout is None or layout[2] == tuple(range(len(one.shape))):
        return one
    rows, width, order = layout
    turned = op.transpose(one.value, np.array(order)).output(0)
    return tensors.Tensor(one.names, (1, rows, width), turned)
