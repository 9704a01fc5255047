"""What a network's file says about itself: its task, labels and preprocessing.

Stage: at ``fleet-worker models add``, before :mod:`worker.recognise`. Read are the ``model_info`` that Geti, OTX and
Ultralytics put into an IR, the properties that Ultralytics puts into an ONNX file, its ``metadata.yaml`` beside an IR,
and what TFLite files may carry: the notes of :mod:`worker.tflite_notes`, and an archive behind their end.
Nothing of it is believed without a look at the outputs.
"""

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openvino as ov

from worker import tflite_notes

#: What ``resize_type`` of ``model_info`` means in a model.toml.
_RESIZES: dict[str, dict[str, Any]] = {
    "standard": {"resize": "stretch"},
    "fit_to_window": {"resize": "letterbox", "pad_at": "top_left"},
    "fit_to_window_letterbox": {"resize": "letterbox", "pad_at": "centre"},
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What the file says.

    Attributes:
        source: who wrote it, as a sentence calls it; empty if nobody did.
        task: what the network is for, in its maker's word; empty if it does not say.
        labels: names of the classes; empty if it does not say.
        fields: fields of a model.toml: ``colour``, ``mean``, ``scale``, ``resize``, ``pad``, ``min_score``, ...
        size: (height, width) that it was exported for, or None.
    """

    source: str = ""
    task: str = ""
    labels: tuple[str, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    size: tuple[int, int] | None = None


def read(model: ov.Model, path: Path) -> Facts:
    """Return what the network ``model``, read from ``path``, says about itself."""
    beside = _yaml_beside(path)
    if found := _group(model, "model_info"):
        return _model_info(found, beside)
    behind, by_tensorflow = _tflite(path)
    said = {**beside, **behind, **_group(model, "framework")}
    return _ultralytics(said) if "names" in said or "task" in said else by_tensorflow


def _group(model: ov.Model, name: str) -> dict[str, str]:
    """Return a group of the network's own notes as text."""
    if not model.has_rt_info([name]):
        return {}
    found = model.get_rt_info([name]).value
    if not isinstance(found, Mapping):
        return {}
    return {str(key): _text(value) for key, value in found.items() if not isinstance(value, Mapping)}


def _text(value: Any) -> str:
    plain = getattr(value, "value", value)
    return " ".join(map(str, plain)) if isinstance(plain, list | tuple) else str(plain)


def _model_info(said: Mapping[str, str], beside: Mapping[str, str]) -> Facts:
    """Read ``model_info``: lists are words with blanks between, blanks inside of a word are underscores."""
    is_yolo = said.get("model_type", "").upper().startswith("YOLO") and not _by_otx(said)
    if is_yolo and beside:
        known = _ultralytics(beside)
        return Facts(known.source, known.task, known.labels, known.fields, known.size)
    fields: dict[str, Any] = {}
    if (reverse := _truth(said.get("reverse_input_channels"))) is not None:
        # OTX reads pictures as RGB and says whether to turn them; others speak of pictures that are BGR.
        fields["colour"] = "BGR" if reverse == _by_otx(said) else "RGB"
    for key, name in (("mean_values", "mean"), ("scale_values", "scale")):
        if numbers := _numbers(said.get(key, "")):
            fields[name] = numbers
    fields.update(_RESIZES.get(said.get("resize_type", ""), {}))
    if said.get("pad_value", "").isdigit():
        fields["pad"] = int(said["pad_value"])
    for key, name in (("confidence_threshold", "min_score"), ("iou_threshold", "iou")):
        if numbers := _numbers(said.get(key, "")):
            fields[name] = numbers[0]
    task = said.get("task_type", "") or said.get("model_type", "")
    source = "the model_info of Geti or OTX" if _by_otx(said) else "the model_info in the file"
    return Facts(source, task.lower(), _otx_labels(said), fields)


def _by_otx(said: Mapping[str, str]) -> bool:
    return any("otx" in key or "geti" in key for key in said)


def _otx_labels(said: Mapping[str, str]) -> tuple[str, ...]:
    try:
        names = json.loads(said.get("label_info", ""))["label_names"]
        return tuple(str(name) for name in names)
    except (ValueError, LookupError, TypeError):
        words = said.get("labels", "").split()
        return tuple(word.replace("_", " ") for word in words if word != "otx_empty_lbl")


def _ultralytics(said: Mapping[str, str]) -> Facts:
    names = _literal(said.get("names", ""))
    labels = tuple(str(names[key]) for key in sorted(names)) if isinstance(names, Mapping) else ()
    size = _literal(said.get("imgsz", ""))
    fields: dict[str, Any] = {"colour": "RGB", "mean": (0.0,) * 3, "scale": (255.0,) * 3, "pad": 114}
    fields |= {"resize": "letterbox", "pad_at": "centre", "shrinking": "linear"}
    whole = isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) for side in size)
    return Facts("Ultralytics' metadata", said.get("task", ""), labels, fields, (size[0], size[1]) if whole else None)


def _yaml_beside(path: Path) -> dict[str, str]:
    """Read the few lines that matter of the ``metadata.yaml`` that Ultralytics writes beside a network."""
    try:
        lines = (path.parent / "metadata.yaml").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return {}
    found: dict[str, str] = {}
    names: dict[int, str] = {}
    sizes: list[str] = []
    block = ""
    for line in lines:
        if matched := re.fullmatch(r"(\w+):\s*(.*)", line):
            block = matched[1]
            found[block] = matched[2].strip("'\" ")
        elif block == "names" and (matched := re.fullmatch(r"\s+(\d+):\s*(.*)", line)):
            names[int(matched[1])] = matched[2].strip("'\" ")
        elif block == "imgsz" and (matched := re.fullmatch(r"\s*-\s*(\d+)", line)):
            sizes.append(matched[1])
    if "task" not in found and not names:
        return {}
    return {**found, "names": repr(names), "imgsz": f"[{', '.join(sizes)}]" if sizes else found.get("imgsz", "")}


def _tflite(path: Path) -> tuple[dict[str, str], Facts]:
    """Read a TFLite file's archive, which may hold Ultralytics' notes, and TensorFlow's notes with their labels."""
    if path.suffix.lower() != ".tflite":
        return {}, Facts()
    texts, notes = tflite_notes.members(path), tflite_notes.read(path)
    for name, text in texts.items():
        said = _literal(text) if not name.endswith(".json") else _json(text)
        if isinstance(said, Mapping):
            known = {str(key): repr(value) if isinstance(value, dict) else str(value) for key, value in said.items()}
            return known, Facts()
    lists = [text for name, text in texts.items() if name.endswith(".txt")]
    labels = tuple(texts.get(notes.labels_file, next(iter(lists), "")).splitlines())
    source = "TensorFlow's metadata in the file" if notes.fields else "the file's label list"
    return {}, Facts(source, labels=labels, fields=notes.fields) if labels or notes.fields else Facts()


def _json(text: str) -> Any:
    try:
        return json.loads(text, object_hook=lambda one: {int(k) if k.isdigit() else k: v for k, v in one.items()})
    except ValueError:
        return None


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _numbers(text: str) -> tuple[float, ...]:
    """Return the numbers in ``text``: three, or one that stands for three."""
    try:
        found = tuple(float(word) for word in text.replace(",", " ").strip("[] ").split())
    except ValueError:
        return ()
    return found * 3 if len(found) == 1 else found


def _truth(text: str | None) -> bool | None:
    return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get((text or "").lower())
