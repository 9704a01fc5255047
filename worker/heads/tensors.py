"""What heads share: a network's outputs by shape, boxes from centres, the cells of a grid.

Stage: inside the graph, between a network's outputs and :mod:`worker.heads.nms`. Nothing here knows a family.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset13 as op

#: How raw scores become 0 to 1.
ACTIVATIONS = ("none", "sigmoid", "softmax")


@dataclass(frozen=True, slots=True)
class Tensor:
    """One output of a network.

    Attributes:
        names: what the file calls it.
        shape: its sizes; -1 where the network decides at run time.
        value: what a head builds on.
    """

    names: frozenset[str]
    shape: tuple[int, ...]
    value: ov.Output

    @property
    def width(self) -> int:
        """Its last size: values per row."""
        return self.shape[-1] if self.shape else 1

    @property
    def rows(self) -> int:
        """How many rows of :attr:`width` it has; -1 where the network decides at run time."""
        return -1 if -1 in self.shape[:-1] else math.prod(self.shape[:-1])


def outputs(model: ov.Model) -> list[Tensor]:
    """Return the network's outputs, in its own order."""
    return [
        Tensor(frozenset(one.get_names()), sizes(one.get_partial_shape()), one.get_node().input_value(0))
        for one in model.outputs
    ]


def behind(value: ov.Output, kind: str) -> ov.Node | None:
    """Return the operation of that kind that gives ``value``, looking through changes of type and shape; None if none.

    An export with weights of 16 bits has a change of type behind each constant, and perhaps one behind its end.
    """
    node = value.get_node()
    while node.get_type_name() in ("Convert", "Reshape", "Squeeze", "Unsqueeze"):
        node = node.input_value(0).get_node()
    return node if node.get_type_name() == kind else None


def sizes(shape: ov.PartialShape) -> tuple[int, ...]:
    """Return a shape as whole numbers, -1 for what is not fixed; ``(-1,)`` if not even the rank is."""
    if shape.rank.is_dynamic:
        return (-1,)
    return tuple(-1 if one.is_dynamic else int(one.get_length()) for one in shape)


def input_size(model: ov.Model) -> tuple[int, int]:
    """Return (height, width) of the network's image input, pixels.

    Raises:
        ValueError: they are not fixed, which heads with a grid of cells need.
    """
    shape = sizes(model.input(0).get_partial_shape())
    height, width = shape[2:] if shape[1] == 3 else shape[1:3]
    if -1 in (height, width):
        raise ValueError("this head needs an input of fixed size; choose resize letterbox or stretch")
    return height, width


def only(model: ov.Model, rank: int, family: str, form: str) -> Tensor:
    """Return the one output of that rank.

    Raises:
        ValueError: there is none or more than one.
    """
    found = [one for one in outputs(model) if len(one.shape) == rank]
    if len(found) != 1:
        raise ValueError(f"{family} has one output {form}; this network has {told(outputs(model))}")
    return found[0]


def told(tensors: Sequence[Tensor]) -> str:
    """Give the shapes as a reader wants them in a sentence."""
    return ", ".join("[" + ",".join("?" if size < 0 else str(size) for size in one.shape) + "]" for one in tensors)


def table(value: ov.Output, width: int) -> ov.Output:
    """Reshape to ``(n, width)``."""
    return op.reshape(value, np.array([-1, width]), False).output(0)


def vector(value: ov.Output) -> ov.Output:
    """Reshape to ``(n,)``."""
    return op.reshape(value, np.array([-1]), False).output(0)


def stacked(tensors: Sequence[Tensor], width: int) -> ov.Output:
    """Put outputs of one width under each other, the one with most rows (the finest grid) first: ``(n, width)``."""
    ordered = sorted(tensors, key=lambda one: -one.rows)
    tables = [table(one.value, width) for one in ordered]
    return tables[0] if len(tables) == 1 else op.concat(tables, 0).output(0)


def take(values: ov.Output, first: int, last: int) -> ov.Output:
    """Return columns ``first`` to ``last`` (without it) of ``(n, width)``."""
    ends = (np.array([edge]) for edge in (first, last))
    return op.slice(values, *ends, np.array([1]), np.array([1])).output(0)


def activated(scores: ov.Output, how: str) -> ov.Output:
    """Bring raw scores ``(n, classes)`` to 0 to 1.

    Raises:
        ValueError: ``how`` is not one of :data:`ACTIVATIONS`.
    """
    if how not in ACTIVATIONS:
        raise ValueError(f"scores are one of {', '.join(ACTIVATIONS)}, not {how!r}")
    if how == "sigmoid":
        return op.sigmoid(scores).output(0)
    return op.softmax(scores, 1).output(0) if how == "softmax" else scores


def corners(centre: ov.Output, size: ov.Output) -> ov.Output:
    """Turn centres and sizes, ``(n, 2)`` each, into ``(n, 4)`` xyxy."""
    half = op.multiply(size, np.float32(0.5))
    return op.concat([op.subtract(centre, half), op.add(centre, half)], 1).output(0)


def from_centres(boxes: ov.Output) -> ov.Output:
    """Turn ``(n, 4)`` centre x, centre y, width, height into xyxy."""
    return corners(take(boxes, 0, 2), take(boxes, 2, 4))


def around(centre: npt.NDArray[np.float32], distances: ov.Output) -> ov.Output:
    """Turn distances ``(n, 4)`` left, top, right, bottom from ``centre`` ``(n, 2)`` into xyxy."""
    at = op.constant(centre)
    return op.concat([op.subtract(at, take(distances, 0, 2)), op.add(at, take(distances, 2, 4))], 1).output(0)


def scaled(values: ov.Output, size: tuple[int, int]) -> ov.Output:
    """Bring ``(n, 2 * k)`` x and y in turn from 0..1 to pixels of an input of ``size`` (height, width)."""
    pairs = op.reshape(values, np.array([0, -1, 2]), True)
    height, width = size
    grown = op.multiply(pairs, np.array([width, height], np.float32))
    return op.reshape(grown, op.shape_of(values), False).output(0)


def cell_counts(size: tuple[int, int], strides: Sequence[int]) -> list[int]:
    """Return how many cells each grid has on an input of ``size`` (height, width)."""
    return [math.ceil(size[0] / stride) * math.ceil(size[1] / stride) for stride in strides]


def cells(
    size: tuple[int, int], strides: Sequence[int], *, per_cell: int = 1, offset: float = 0.0
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return each cell's place and stride, row by row, grid by grid, each repeated for its anchors.

    Args:
        size: (height, width) of the network's input, pixels.
        strides: input pixels per cell, one for each grid.
        per_cell: anchors per cell.
        offset: 0.5 for the middle of the cell, 0.0 for its corner.

    Returns:
        ``(n, 2) float32`` x and y in input pixels, and ``(n, 1) float32`` strides.
    """
    places, steps = [], []
    for stride in strides:
        down, right = math.ceil(size[0] / stride), math.ceil(size[1] / stride)
        grid = np.stack(np.meshgrid(np.arange(right), np.arange(down)), axis=-1).reshape(-1, 2)
        places.append(np.repeat((grid + offset) * stride, per_cell, axis=0))
        steps.append(np.full((len(places[-1]), 1), stride))
    return np.concatenate(places).astype(np.float32), np.concatenate(steps).astype(np.float32)
