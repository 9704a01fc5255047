"""Tiny networks, generated on the spot: each takes ``(1, 2, 2, 3)`` uint8 NHWC and behaves badly in one way, or well.

Every output begins with the twelve values of its input, so that a result tells which tensor it belongs to.
"""

import functools
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as op

SHAPE = (1, 2, 2, 3)
VALUES = 12

#: Side of the matrices that the slow ones multiply; one product takes about half a millisecond.
_SIDE = 256


def tensor(number: int, *, first: int = 0, nonzero: int = 3) -> np.ndarray:
    """Make an input that carries ``number``.

    Args:
        number: 0 to 2**32 - 1, in the last four values.
        first: 0 to 65535, in the first two values: rounds of :func:`lasting`.
        nonzero: how many of the next six values are not zero: rows of :func:`rows`; :func:`picky` accepts three only.
    """
    values = np.zeros(VALUES, np.uint8)
    values[0], values[1] = divmod(first, 256)
    values[2 : 2 + nonzero] = 1
    values[8:] = np.frombuffer(int(number).to_bytes(4, "big"), np.uint8)
    return values.reshape(SHAPE)


def number_of(output: np.ndarray) -> int:
    """Return the number that the input of this output carried."""
    assert np.isfinite(output).all(), output
    return int.from_bytes(output.reshape(-1)[8:VALUES].astype(np.uint8).tobytes(), "big")


@functools.cache
def compiled(build: Any, streams: int = 2) -> Any:
    """Compile one of the networks below, once a process."""
    options = {"NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": 2, "ENABLE_CPU_PINNING": False}
    return ov.Core().compile_model(build(), "CPU", options)


def echo() -> ov.Model:
    """Give the input's values, at once."""
    pixels = _pixels()
    return ov.Model([_values(pixels)], [pixels], "echo")


def lasting() -> ov.Model:
    """Give the input's values after as many rounds as its first two values say; what runs cannot be stopped."""
    pixels = _pixels()
    values = _values(pixels)
    begin = op.add(op.constant(_rotation()), op.reduce_sum(values, np.array([0, 1]), True))
    before = op.parameter([_SIDE, _SIDE], np.float32)
    after = op.matmul(before, op.constant(_rotation()), False, False)
    true = op.constant(np.array(True))
    high, low = op.split(op.slice(values, np.array([0]), np.array([2]), np.array([1]), np.array([1])), 1, 2).outputs()
    rounds = op.convert(op.squeeze(op.add(op.multiply(high, np.float32(256)), low), np.array([0, 1])), "i64")
    loop = op.loop(op.add(rounds, np.int64(1)), true)
    loop.set_function(ov.Model([after, op.constant(np.array(True))], [before], "round"))
    loop.set_special_body_ports([-1, 1])
    loop.set_merged_input(before, begin.output(0), after.output(0))
    return ov.Model([_with_nothing_of(values, loop.get_iter_value(after.output(0), -1))], [pixels], "lasting")


def picky() -> ov.Model:
    """Give the input's values, or fail while running when its third to fifth are not all above zero."""
    pixels = _pixels()
    values = _values(pixels)
    found = _nonzero(values, 2, 5)  # (2, n), n known at run time only
    fits = op.add(found, op.constant(np.zeros((2, 3), np.int32)))  # two columns and three: cannot be added
    return ov.Model([_with_nothing_of(values, op.convert(fits, "f32"))], [pixels], "picky")


def resentful() -> ov.Model:
    """As :func:`picky`, but with a step between finding out the shape and failing on it."""
    pixels = _pixels()
    values = _values(pixels)
    found = op.convert(_nonzero(values, 2, 5), "f32")
    fits = op.add(found, op.constant(np.zeros((2, 3), np.float32)))
    return ov.Model([_with_nothing_of(values, fits)], [pixels], "resentful")


def rows() -> ov.Model:
    """Give as many rows of the input's values as its third to eighth are not zero, after some 30 ms of work.

    A graph with a tail of dynamic shape, as every detector with non-maximum suppression inside has one.
    """
    pixels = _pixels()
    values = _values(pixels)
    found = op.squeeze(op.gather(_nonzero(values, 2, 8), np.array([1]), np.int64(0)), np.int64(0))
    work = op.tile(op.gather(op.constant(_rotation()), found, np.int64(0)), np.array([_SIDE, 1]))
    for _ in range(20):
        work = op.matmul(work, op.constant(_rotation()), False, False)
    work = op.reduce_sum(op.reshape(work, np.array([-1, _SIDE * _SIDE]), False), np.array([1]), True)
    return ov.Model([op.add(values, op.multiply(work, np.float32(0)))], [pixels], "rows")


def _pixels() -> ov.Node:
    return op.parameter(list(SHAPE), np.uint8, name="pixels")


def _values(pixels: ov.Node) -> ov.Node:
    return op.reshape(op.convert(pixels, "f32"), np.array([1, VALUES]), False)


def _nonzero(values: ov.Node, begin: int, end: int) -> ov.Node:
    part = op.slice(values, np.array([begin]), np.array([end]), np.array([1]), np.array([1]))
    return op.non_zero(part, output_type="i32")


def _with_nothing_of(values: ov.Node, work: Any) -> ov.Node:
    """Put a zero made from ``work`` behind ``values``, so that the work must be done."""
    zero = op.multiply(op.reduce_sum(work, np.array([0, 1]), False), np.float32(0))
    return op.concat([values, op.reshape(zero, np.array([1, 1]), False)], 1)


@functools.cache
def _rotation() -> np.ndarray:
    """Return an orthogonal matrix: however often one multiplies with it, nothing grows or fades."""
    return np.linalg.qr(np.random.default_rng(1).normal(size=(_SIDE, _SIDE)))[0].astype(np.float32)
