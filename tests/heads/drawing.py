"""Draws small networks of convolutions with fixed weights, whose outputs depend on the picture."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as op

#: (height, width) of the input; different ones, so that an x for a y is seen.
SIZE = (96, 160)
CLASSES = 5


class Drawing:
    """Puts a network together: ``maps`` are convolutions over the picture, ``add`` makes an output."""

    def __init__(self, seed: int, size: tuple[int, int] = SIZE, layout: str = "NCHW") -> None:
        self.random = np.random.default_rng(seed)
        self.size = size
        shape = [1, 3, *size] if layout == "NCHW" else [1, *size, 3]
        self.entry = op.parameter(shape, np.float32, name="images")
        self.entry.output(0).set_names({"images"})
        planes = self.entry if layout == "NCHW" else op.transpose(self.entry, np.array([0, 3, 1, 2]))
        self.image = op.divide(planes, np.float32(255))
        self.outputs: list[Any] = []

    def maps(self, channels: int, stride: int, gain: float = 1.0, shift: float = 0.0) -> Any:
        """Give ``(1, channels, h, w)`` of about ``gain`` around ``shift``, different for each picture."""
        side = min(stride, 16)
        weights = self.random.normal(0, 1, (channels, 3, side, side)).astype(np.float32)
        weights -= weights.mean(axis=(1, 2, 3), keepdims=True)
        weights *= 2 * gain / side
        pads = [-side % stride for side in self.size]
        found = op.convolution(self.image, weights, [stride, stride], [0, 0], pads, [1, 1])
        return op.add(found, np.float32(shift))

    def rows(self, channels: int, stride: int, gain: float = 1.0, shift: float = 0.0, per_cell: int = 1) -> Any:
        """Give the same as ``(1, h * w * per_cell, channels)``."""
        found = op.transpose(self.maps(channels * per_cell, stride, gain, shift), np.array([0, 2, 3, 1]))
        return op.reshape(found, np.array([1, -1, channels]), False)

    def grids(self, channels: int, strides: Sequence[int], **how: Any) -> Any:
        """Give the rows of several grids under each other."""
        return op.concat([self.rows(channels, stride, **how) for stride in strides], 1)

    def scores(self, channels: int, strides: Sequence[int], **how: Any) -> Any:
        """Give grids of 0 to 1, few of them high."""
        return op.sigmoid(self.grids(channels, strides, **{"gain": 2.0, "shift": -2.5, **how}))

    def pixels(self, strides: Sequence[int], per_cell: int = 1) -> Any:
        """Give ``(1, n, 4)`` centre x, centre y, width and height in pixels of the input."""
        height, width = self.size
        raw = op.sigmoid(self.grids(4, strides, per_cell=per_cell))
        return op.multiply(raw, np.array([width, height, width / 2, height / 2], np.float32))

    def add(self, value: Any, name: str) -> None:
        """Make ``value`` an output of that name."""
        result = op.result(value)
        result.output(0).set_names({name})
        self.outputs.append(result)

    def model(self) -> ov.Model:
        """Give the network."""
        return ov.Model(self.outputs, [self.entry], "drawn")
