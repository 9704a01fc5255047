"""A network whose picture and outputs are integers of 8 bits gets floats there, in the units it was trained in.

Stage: right behind reading a network, before :mod:`worker.inputs`. TFLite's converters write such files for boards that
know no floats: each tensor has a scale and a zero point, and ``(integer - zero point) * scale`` is the value. OpenVINO
2026.4 computes inside in values, with a FakeQuantize wherever the file rounds, and gives the bare integers outside:
boxes decoded from those would be nonsense. Here the last step to integers is taken back, and the first is put in front
of the picture, so that what rounds in the file rounds here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as op

_WHOLE = {ov.Type.u8: (0.0, 255.0), ov.Type.i8: (-128.0, 127.0)}

#: What only moves numbers about, and what may stand between a picture and where its integers become values.
_MOVED = ("Transpose", "Reshape", "Squeeze", "Unsqueeze")
_PASSED = (*_MOVED, "Convert")


@dataclass(frozen=True, slots=True)
class Range:
    """The values that the least and the largest integer stand for."""

    least: float
    most: float

    @property
    def is_usual(self) -> bool:
        """Tell whether it is that of pixels as networks are trained on them: 0 to 1, -1 to 1, 0 to 255, -128 to 127."""
        step = (self.most - self.least) / 255
        usual = ((0, 1), (-1, 1), (0, 255), (-128, 127))
        return any(max(abs(self.least - low), abs(self.most - high)) <= 3 * step for low, high in usual)

    @property
    def as_bytes(self) -> dict[str, tuple[float, ...]]:
        """Give the mean and scale with which each byte of the picture becomes the integer that it is."""
        step = (self.most - self.least) / 255
        return {"mean": (round(-self.least / step, 4),) * 3, "scale": (round(1 / step, 4),) * 3}

    def holds(self, fields: Mapping[str, Any]) -> bool:
        """Tell whether ``mean`` and ``scale`` bring pixels of 0 to 255 to about this range."""
        if not {"mean", "scale"} <= set(fields):
            return False
        pairs = list(zip(fields["mean"], fields["scale"], strict=True))
        low, high = min(-mean / scale for mean, scale in pairs), max((255 - mean) / scale for mean, scale in pairs)
        slack = (self.most - self.least) / 8
        return bool(abs(self.least - low) <= slack and abs(self.most - high) <= slack)


def normal(span: Range, said: Mapping[str, Any], usual: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return mean and scale of a picture of integers, and why: as its file says, by its range, or as its family does.

    Raises:
        ValueError: none of these fits the range; the message asks.
    """
    stand_for = f"the integers of its picture stand for {span.least:.3g} to {span.most:.3g}"
    if {"mean", "scale"} <= set(said) and not span.holds(said):
        raise ValueError(
            f"{stand_for}, and its file says mean {said['mean']} and scale {said['scale']}, which give other values. "
            "Say --set mean=[..] and --set scale=[..]"
        )
    if span.holds(said):
        return {key: said[key] for key in ("mean", "scale")}, f"as its file says, and {stand_for}"
    if span.is_usual:
        return span.as_bytes, f"{stand_for}, so each byte goes in as it is"
    if span.holds(usual):
        return {key: usual[key] for key in ("mean", "scale")}, f"{stand_for}, as in networks of this family"
    raise ValueError(f"{stand_for}, and nothing says which pixels those are. Say --set mean=[..] and --set scale=[..]")


def widen(model: ov.Model) -> Range | None:
    """Let a network take and give values instead of integers; return the range of its picture, if it was of integers.

    What takes bytes or gives whole numbers by its nature is left as it is.

    Raises:
        ValueError: an output is of integers, and nothing says what they stand for.
    """
    for port in model.outputs:
        _widen_output(port)
    entries = [one for one in model.get_parameters() if one.get_element_type() in _WHOLE]
    span = _range_of(entries[0]) if len(entries) == 1 else None
    if span is not None:
        _widen_input(model, entries[0], span)
    model.validate_nodes_and_infer_types()
    return span


def _widen_output(port: Any) -> None:
    """Let an output end where its values were rounded, before they became integers."""
    last = port.get_node()
    if last.input_value(0).get_element_type() not in _WHOLE:
        return
    while last.input_value(0).get_node().get_type_name() in _MOVED:  # what OpenVINO has put behind the step to integers
        last = last.input_value(0).get_node()
    whole = last.input_value(0).get_node()
    rounded = whole.input_value(0).get_node() if whole.get_type_name() == "Convert" else None
    if rounded is None or rounded.get_type_name() != "FakeQuantize":
        kind = port.get_element_type().get_type_name()
        raise ValueError(
            f"its output {min(port.get_names(), default='?')!r} is of integers ({kind}), and nothing says what they "
            "stand for; convert the network with outputs in floats"
        )
    names = port.get_names()
    values, low, high = (rounded.input_value(number) for number in range(3))
    again = op.fake_quantize(values, low, high, low, high, rounded.get_attributes()["levels"])
    last.input(0).replace_source_output(again.output(0))
    port.get_node().input_value(0).set_names(names)


def _widen_input(model: ov.Model, entry: Any, span: Range) -> None:
    """Put a picture of values in the place of one of integers, and the rounding behind it."""
    kind = entry.get_element_type()
    ends = [np.float32(end) for end in (span.least, span.most, *_WHOLE[kind])]
    fresh = op.parameter(entry.get_partial_shape(), ov.Type.f32, name=entry.get_friendly_name())
    names, readers = entry.output(0).get_names(), list(entry.output(0).get_target_inputs())
    whole = op.convert(op.fake_quantize(fresh, *ends, 256), kind.to_dtype())
    for one in readers:
        one.replace_source_output(whole.output(0))
    model.remove_parameter(entry)
    model.add_parameters([fresh])
    fresh.output(0).set_names(names)


def _range_of(entry: Any) -> Range | None:
    """Find the place where the picture's integers become values."""
    least, most = _WHOLE[entry.get_element_type()]
    for node in _behind(entry):
        if node.get_type_name() != "FakeQuantize":
            continue
        ends = [_number(node.input_value(place)) for place in range(1, 5)]
        if ends[:2] == [least, most] and ends[2] is not None and ends[3] is not None and ends[2] < ends[3]:
            return Range(ends[2], ends[3])
    return None


def _behind(node: Any) -> Iterator[Any]:
    """Give what reads a node, looking through what only moves values about."""
    for reader in node.output(0).get_target_inputs():
        one = reader.get_node()
        yield one
        if one.get_type_name() in _PASSED:
            yield from _behind(one)


def _number(value: Any) -> float | None:
    """Return a constant's one number."""
    node = value.get_node()
    if node.get_type_name() != "Constant" or node.get_data().size != 1:
        return None
    return float(node.get_data().ravel()[0])
