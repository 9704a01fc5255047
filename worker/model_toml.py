"""What a ``model.toml`` says: the description of one detector, each field checked.

Stage: under :mod:`worker.models`, which keeps models in folders, and :mod:`worker.network`, which builds the graph.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worker.resize import MODES, SHRINKING, Fit


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One detector.

    Attributes:
        name: its name, also of its queue.
        file: the network, relative to the model's folder (IR ``.xml``, ``.onnx``, ``.tflite``, or what else OpenVINO
            reads; a SavedModel is a folder).
        head: family of detector, one of :func:`worker.heads.names`.
        input_size: (height, width) of the network's input, pixels; with ``resize = "multiple"`` the largest.
        labels: name of each class, by its number.
        layout: of the network's own input, ``NCHW`` or ``NHWC``.
        colour: channel order of the network's own input, ``RGB`` or ``BGR``.
        mean: subtracted from each channel (0 to 255), in the network's channel order.
        scale: each channel is divided by it, after the mean.
        resize: ``letterbox``, ``stretch`` or ``multiple`` (:data:`worker.resize.MODES`).
        pad: value of the border of a letterbox, 0 to 255.
        pad_at: where the picture stands in its border: ``centre``, or ``top_left`` with the border on the far sides.
        multiple: of both sides of the input, for ``resize = "multiple"``.
        shrinking: ``area`` averages; ``linear`` is what OpenCV does unless told otherwise.
        min_score: detections below it are left out unless a request asks otherwise.
        iou: two boxes of one class that overlap more are one object.
        precision: of inference, ``f32``, ``bf16`` or ``f16``; empty leaves it to the worker's settings.
        version: counts up each time another network takes this name.
        digest: of the network's files when they were added; empty if nobody noted it.
        options: what only this head knows.
    """

    name: str
    file: str
    head: str
    input_size: tuple[int, int]
    labels: tuple[str, ...]
    layout: str = "NCHW"
    colour: str = "RGB"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    scale: tuple[float, ...] = (1.0, 1.0, 1.0)
    resize: str = "letterbox"
    pad: int = 0
    pad_at: str = "centre"
    multiple: int = 32
    shrinking: str = "area"
    min_score: float = 0.5
    iou: float = 0.3
    precision: str = ""
    version: int = 1
    digest: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fit(self) -> Fit:
        """How a picture becomes this network's input."""
        return Fit(self.input_size, self.resize, self.pad, self.pad_at == "centre", self.multiple, self.shrinking)


def from_toml(name: str, raw: Mapping[str, Any]) -> ModelSpec:
    """Build a description from the content of a ``model.toml``.

    Raises:
        ValueError: a field is missing, unknown or wrong; the message says which.
    """
    if unknown := set(raw) - set(_FIELDS):
        check_field(min(unknown), None)
    if missing := {"file", "head", "input_size", "labels"} - set(raw):
        raise ValueError(f"the field {min(missing)!r} is missing")
    for field_name, value in raw.items():
        check_field(field_name, value)
    if raw.get("resize") == "multiple" and any(side % raw.get("multiple", 32) for side in raw["input_size"]):
        raise ValueError(f"input_size is of multiples of {raw.get('multiple', 32)} with resize multiple")
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()}
    return ModelSpec(name=name, **values)


def check_field(name: str, value: Any) -> None:
    """Check one field of a ``model.toml``.

    Raises:
        ValueError: there is no such field, or it cannot hold this; the message says what it is.
    """
    if name not in _FIELDS:
        raise ValueError(f"unknown field {name!r}; there are {', '.join(sorted(_FIELDS))}")
    fits, expected = _FIELDS[name]
    if not fits(value):
        raise ValueError(f"{name} is {expected}, not {value!r:.100}")


def _is_file_name(value: Any) -> bool:
    return isinstance(value, str) and value not in ("", "..") and Path(value).name == value


def _is_size(value: Any) -> bool:
    return _are_numbers(value, 2) and all(isinstance(side, int) and 1 <= side <= 16_384 for side in value)


def _are_labels(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(label, str) for label in value)


def _are_numbers(value: Any, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(_is_number(one) for one in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def _is_whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_part(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


#: What each field of a ``model.toml`` may hold: a test of its value, and the sentence for one that fails it.
_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "file": (_is_file_name, "the name of a file in the model's own folder"),
    "head": (lambda value: isinstance(value, str), "the name of a head"),
    "input_size": (_is_size, "[height, width] in pixels, 1 to 16384"),
    "labels": (_are_labels, "a list of at least one text"),
    "layout": (lambda value: value in ("NCHW", "NHWC"), "NCHW or NHWC"),
    "colour": (lambda value: value in ("RGB", "BGR"), "RGB or BGR"),
    "mean": (lambda value: _are_numbers(value, 3), "three numbers"),
    "scale": (lambda value: _are_numbers(value, 3) and 0 not in value, "three numbers, none of them 0"),
    "resize": (lambda value: value in MODES, " or ".join(MODES)),
    "pad": (lambda value: _is_whole(value, 0, 255), "a whole number from 0 to 255"),
    "pad_at": (lambda value: value in ("centre", "top_left"), "centre or top_left"),
    "multiple": (lambda value: _is_whole(value, 1, 1024), "a whole number from 1 to 1024"),
    "shrinking": (lambda value: value in list(SHRINKING), " or ".join(SHRINKING)),
    "precision": (lambda value: value in ("", "f32", "bf16", "f16"), "f32, bf16 or f16"),
    "version": (lambda value: _is_whole(value, 1, 10**9), "a whole number from 1"),
    "digest": (lambda value: isinstance(value, str), "a text"),
    "min_score": (_is_part, "a number from 0 to 1"),
    "iou": (_is_part, "a number from 0 to 1"),
    "options": (lambda value: isinstance(value, Mapping), "a table"),
}


def to_toml(spec: ModelSpec) -> str:
    """Give the ``model.toml`` of ``spec``."""
    lines = [f"{name} = {_toml(getattr(spec, name))}" for name in ModelSpec.__dataclass_fields__ if name != "name"]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, str | bool):  # JSON's texts and truths are TOML's, but for one character
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return str(value)
