"""Small TFLite files: in floats of 32 or 16 bits, or in integers throughout, as converters write them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tests.heads.drawing import CLASSES, SIZE
from tests.heads.flatbuffer import Scalar, Table, dumps, options

#: Numbers of TFLite's schema: types of tensors, operators, and the tables of their options.
TYPES = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3, "int8": 9}
ADD, CONCATENATION, CONV_2D, DEQUANTIZE, LOGISTIC, MUL, RESHAPE, QUANTIZE, TRANSPOSE = 0, 2, 3, 6, 14, 18, 22, 114, 39
_CUSTOM = 32
_OPTIONS = {ADD: 11, CONCATENATION: 10, CONV_2D: 1, MUL: 21, RESHAPE: 17, TRANSPOSE: 26}
#: Versions of the operators that know integers of 8 bits.
_VERSIONS = {ADD: 2, CONCATENATION: 2, CONV_2D: 3, DEQUANTIZE: 3, LOGISTIC: 2, MUL: 2, TRANSPOSE: 2}


def i32(value: int) -> Scalar:
    return Scalar("i", value)


def u32(value: int) -> Scalar:
    return Scalar("I", value)


def byte(value: int) -> Scalar:
    return Scalar("b", value)


def _code(operator: int | str) -> Table:
    if isinstance(operator, str):
        return {0: byte(_CUSTOM), 1: operator, 2: i32(1), 3: i32(_CUSTOM)}
    return {0: byte(operator), 2: i32(_VERSIONS.get(operator, 1)), 3: i32(operator)}


class Net:
    """Puts a file together: ``tensor`` and ``op`` add to it, ``dumps`` gives it."""

    def __init__(self) -> None:
        self.buffers: list[Table] = [{}]
        self.tensors: list[Table] = []
        self.codes: list[int | str] = []
        self.ops: list[Table] = []

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        kind: str = "float32",
        *,
        data: np.ndarray | None = None,
        scale: Any = None,
        zero: Any = 0,
        axis: int = 0,
    ) -> int:
        """Add a tensor, a constant if it has ``data``, and return its number."""
        table: Table = {0: np.array(shape, np.int32), 1: byte(TYPES[kind]), 3: name}
        if data is not None:
            self.buffers.append({0: np.ascontiguousarray(data, kind).tobytes()})
            table[2] = u32(len(self.buffers) - 1)
        if scale is not None:
            scales = np.atleast_1d(np.array(scale, np.float32))
            zeros = np.broadcast_to(np.array(zero, np.int64), scales.shape).copy()
            table[4] = {2: scales, 3: zeros, 6: i32(axis)}
        self.tensors.append(table)
        return len(self.tensors) - 1

    def op(self, code: int, inputs: Sequence[int], output: int, options: Table | None = None) -> int:
        """Add an operator and return its output."""
        if code not in self.codes:
            self.codes.append(code)
        table: Table = {
            0: u32(self.codes.index(code)),
            1: np.array(inputs, np.int32),
            2: np.array([output], np.int32),
        }
        if options is not None:
            table |= {3: Scalar("B", _OPTIONS[code]), 4: options}
        self.ops.append(table)
        return output

    def end(self, name: str, inputs: Sequence[int], outputs: Sequence[int], options: bytes) -> None:
        """Add an operator that TFLite knows by its name only."""
        self.codes.append(name)
        code = u32(len(self.codes) - 1)
        self.ops.append({0: code, 1: np.array(inputs, np.int32), 2: np.array(outputs, np.int32), 5: options})

    def dumps(self, entry: int, outputs: Sequence[int], metadata: bytes = b"") -> bytes:
        """Give the file, with metadata in it if there is any."""
        graph: Table = {
            0: self.tensors,
            1: np.array([entry], np.int32),
            2: np.array(outputs, np.int32),
            3: self.ops,
            4: "main",
        }
        codes = [_code(one) for one in self.codes]
        model: Table = {0: u32(3), 1: codes, 2: [graph], 3: "drawn", 4: [*self.buffers]}
        if metadata:
            model[4].append({0: metadata})
            model[6] = [{0: "min_runtime_version", 1: u32(0)}, {0: "TFLITE_METADATA", 1: u32(len(model[4]) - 1)}]
        return dumps(model, b"TFL3")


#: Values that 8 bits can hold, and the zero point in their middle.
_LEAST = {"uint8": 0, "int8": -128}
#: What the integers of raw outputs count in.
_STEP = 0.08


class Drawn(Net):
    """A network of convolutions over a picture of -1 to 1, the same in floats and in integers of 8 bits."""

    def __init__(
        self, kind: str, seed: int, *, step: float = 1 / 127.5, zero: int = 127, raw_step: float = _STEP
    ) -> None:
        super().__init__()
        self.kind, self.random, self.step, self.raw_step = kind, np.random.default_rng(seed), step, raw_step
        self.low = _LEAST.get(kind, 0)
        self.entry = self.values("picture", [1, *SIZE, 3], step, zero)

    def values(self, name: str, shape: Sequence[int], step: float = 0.0, zero: int = 128) -> int:
        """Add a tensor of values, each ``step`` an integer where integers are wanted; 0: as raw values are."""
        if self.kind in _LEAST:
            return self.tensor(name, shape, self.kind, scale=step or self.raw_step, zero=zero + self.low)
        return self.tensor(name, shape)

    def rows(
        self, name: str, channels: int, stride: int, *, per_cell: int = 1, gain: float = 1.0, shift: float = 0.0
    ) -> int:
        """Add ``(1, cells * per_cell, channels)`` of about ``gain`` around ``shift``."""
        side, count = min(stride, 16), channels * per_cell
        weights = self.random.normal(0, 1, (count, side, side, 3)).astype(np.float32)
        weights -= weights.mean(axis=(1, 2, 3), keepdims=True)
        weights *= gain / side
        down, across = (-(-edge // stride) for edge in SIZE)
        found = self.values(f"{name}/maps", [1, down, across, count])
        options = {0: byte(0), 1: i32(stride), 2: i32(stride), 3: byte(0), 4: i32(1), 5: i32(1)}
        self.op(CONV_2D, [self.entry, *self._weights(name, weights, np.full(count, shift))], found, options)
        return self.reshaped(name, found, [1, down * across * per_cell, channels])

    def _weights(self, name: str, weights: np.ndarray, bias: np.ndarray) -> list[int]:
        """Add a convolution's constants as the kind of network has them."""
        shape = weights.shape
        if self.kind not in _LEAST:
            kind = self.kind
            found = [self.tensor(f"{name}/w", shape, kind, data=weights)]
            found += [self.tensor(f"{name}/b", bias.shape, kind, data=bias)]
            if kind == "float32":
                return found
            wide = [self.tensor(f"{name}/{which}32", size) for which, size in (("w", shape), ("b", bias.shape))]
            return [self.op(DEQUANTIZE, [narrow], one) for narrow, one in zip(found, wide, strict=True)]
        each = np.abs(weights).max(axis=(1, 2, 3)) if self.kind == "int8" else np.abs(weights).max()
        scale, zero = each / 127, 128 + self.low
        whole = np.round(weights / np.reshape(scale, (-1, 1, 1, 1))) + zero
        first = self.tensor(f"{name}/w", shape, self.kind, data=whole, scale=scale, zero=zero)
        steps = scale * self.step
        return [first, self.tensor(f"{name}/b", bias.shape, "int32", data=np.round(bias / steps), scale=steps)]

    def reshaped(self, name: str, value: int, shape: Sequence[int]) -> int:
        """Add the same values in another shape."""
        wanted = self.tensor(f"{name}/shape", [len(shape)], "int32", data=np.array(shape))
        return self.op(RESHAPE, [value, wanted], self.values(f"{name}/rows", shape), {0: np.array(shape, np.int32)})

    def stacked(self, name: str, parts: Sequence[int], shape: Sequence[int], *, axis: int = 1, **how: Any) -> int:
        """Add rows under each other, or beside each other."""
        return self.op(CONCATENATION, parts, self.values(name, shape, **how), {0: i32(axis), 1: byte(0)})

    def unit(self, value: int) -> int:
        """Add what a sigmoid makes of values, of which the integers count 256ths."""
        shape = self.tensors[value][0]
        return self.op(LOGISTIC, [value], self.values(f"unit{value}", shape, 1 / 256, 0))


def ssd(
    kind: str,
    seed: int = 12,
    *,
    classes: int = CLASSES + 1,
    metadata: bytes = b"",
    end: Mapping[str, Any] | None = None,
    **how: Any,
) -> bytes:
    """Raw boxes and scores for the anchors of SSD MobileNet, as :func:`tests.heads.networks.ssd_raw`.

    With ``end``, which has ``anchors`` and ``options``, what suppresses them stands behind.
    """
    one, strides = Drawn(kind, seed, **how), (16, 32, 64, 128)
    counts = [-(-SIZE[0] // stride) * -(-SIZE[1] // stride) * (6 if at else 3) for at, stride in enumerate(strides)]
    outputs = []
    for name, width, gain, shift in (("boxes", 4, 1.5, 0.0), ("scores", classes, 1.5, -4.0)):
        parts = [
            one.rows(f"{name}{stride}", width, stride, per_cell=6 if at else 3, gain=gain, shift=shift)
            for at, stride in enumerate(strides)
        ]
        outputs.append(one.stacked(f"raw_outputs/{name}", parts, [1, sum(counts), width]))
    return one.dumps(one.entry, outputs if end is None else _ended(one, outputs, end), metadata)


def yolov8(kind: str, seed: int = 3, *, classes: int = CLASSES) -> bytes:
    """``[1, 4 + C, cells]``, boxes of 0 to 1, for a picture of 0 to 1: Ultralytics' exports in floats and integers."""
    one, strides = Drawn(kind, seed, step=1 / 255, zero=0, raw_step=0.04), (8, 16, 32)
    count = sum(-(-SIZE[0] // stride) * -(-SIZE[1] // stride) for stride in strides)
    parts = []
    for name, width, shift in (("boxes", 4, 0.0), ("scores", classes, -3.0)):
        raw = [one.rows(f"{name}{stride}", width, stride, gain=3.0, shift=shift) for stride in strides]
        parts.append(one.unit(one.stacked(name, raw, [1, count, width])))
    how = {"step": 1 / 256, "zero": 0}
    joined = one.stacked("joined", parts, [1, count, 4 + classes], axis=2, **how)
    order = one.tensor("order", [3], "int32", data=np.array([0, 2, 1]))
    found = one.op(TRANSPOSE, [joined, order], one.values("Identity", [1, 4 + classes, count], **how), {})
    return one.dumps(one.entry, [found])


def _ended(one: Drawn, raw: Sequence[int], end: Mapping[str, Any]) -> list[int]:
    """Put TensorFlow's last operator for detectors behind raw boxes and scores, with these anchors."""
    boxes, scores, shape = raw[0], one.unit(raw[1]), one.tensors[raw[1]][0]
    if one.kind == "int8":  # of which that operator knows nothing
        boxes = one.op(DEQUANTIZE, [boxes], one.tensor("boxes/wide", one.tensors[boxes][0]))
        scores = one.op(DEQUANTIZE, [scores], one.tensor("scores/wide", shape))
    anchors = np.array(end["anchors"], np.float32)
    if one.kind == "uint8":
        constant = one.tensor("anchors", anchors.shape, "uint8", data=np.round(anchors / 0.01), scale=0.01)
    else:
        constant = one.tensor("anchors", anchors.shape, data=anchors)
    shapes = ([1, 10, 4], [1, 10], [1, 10], [1])
    found = [one.tensor(f"TFLite_Detection_PostProcess:{number}", shape) for number, shape in enumerate(shapes)]
    said = {"max_detections": 10, "max_classes_per_detection": 1, "nms_score_threshold": 0.001}
    one.end("TFLite_Detection_PostProcess", [boxes, scores, constant], found, options(said | dict(end["options"])))
    return found


def notes(
    *,
    mean: Sequence[float] = (127.5,),
    scale: Sequence[float] = (127.5,),
    labels: str = "labelmap.txt",
    least: float = 0.0,
) -> bytes:
    """Give the notes that TensorFlow's metadata writer puts into a detector."""
    normal: Table = {0: Scalar("B", 1), 1: {0: np.array(mean, np.float32), 1: np.array(scale, np.float32)}}
    picture: Table = {0: "image", 3: {0: Scalar("B", 2), 1: {0: byte(1)}}, 4: [normal]}
    boxes: Table = {0: "location"}
    scores: Table = {0: "category", 6: [{0: labels, 1: "Names of the classes.", 2: byte(3)}]}
    if least:
        scores[4] = [{0: Scalar("B", 3), 1: {0: Scalar("f", least)}}]
    return dumps({0: "ObjectDetector", 3: [{2: [picture], 3: [boxes, scores]}]}, b"M001")
