"""Decide what a network is, or say why that cannot be decided, or that the fleet does not serve its kind.

Stage: at ``fleet-worker models add``, between :mod:`worker.families` and :mod:`worker.store`. Never a silent guess:
what is not sure is asked for, and every decision comes with its reason.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import openvino as ov

from worker import evidence, families, heads, inputs, metadata
from worker.evidence import Evidence
from worker.heads.tensors import Tensor
from worker.metadata import Facts
from worker.models import ModelError, ModelSpec
from worker.trained import BACKGROUND, Proposal

_CLASSIFIER = "is a classifier: it scores a whole picture and gives no boxes"
_SEGMENTER = "is a segmenter: it gives a class to each place of a picture and no boxes"
_MASKS = "gives instance masks"
_ORIENTED = "gives oriented boxes"
_KEYPOINTS = "is a network for poses"

#: What the fleet does not serve, by the word for it in a network's own notes.
_REFUSED = {
    "classify": _CLASSIFIER,
    "classification": _CLASSIFIER,
    "segment": _MASKS,
    "instance_segmentation": _MASKS,
    "maskrcnn": _MASKS,
    "segmentation": _SEGMENTER,
    "semantic_segmentation": _SEGMENTER,
    "obb": _ORIENTED,
    "rotated_detection": _ORIENTED,
    "pose": _KEYPOINTS,
    "keypoint_detection": _KEYPOINTS,
    "anomaly": "finds anomalies, not objects",
}


@dataclass(frozen=True, slots=True)
class Recognised:
    """A network and what it was taken for.

    Attributes:
        spec: its description, complete.
        why: the reasons, a sentence each.
    """

    spec: ModelSpec
    why: tuple[str, ...]


def recognise(
    path: Path, name: str, *, labels: tuple[str, ...] = (), head: str | None = None, given: dict[str, Any] | None = None
) -> Recognised:
    """Read the network at ``path`` and describe it as the model ``name``.

    Args:
        path: the network's file.
        name: the model's name.
        labels: of its classes, if the user gave some; else those in the file.
        head: given by the user, who is believed.
        given: other fields of the model.toml that the user gave, options among them.

    Raises:
        ModelError: it cannot be read, is not sure, does not fit what was given, or is no detector of upright boxes.
    """
    given = dict(given or {})
    try:
        model = ov.Core().read_model(path)
        facts = metadata.read(model, path)
        layout, size = _input(model, facts, given)
        inputs.settle(model, layout, size)
    except (RuntimeError, ValueError, OSError) as error:
        raise ModelError(f"{path.name} cannot be used: {_said(error)}") from error
    seen = evidence.look(model, size, layout, facts, labels or facts.labels)
    if (head is None or head in heads.HEADS) and (kind := refusal(seen)):
        raise ModelError(f"{path.name} {kind}. The fleet serves detectors with upright boxes.")
    chosen = _choose(seen, head, path.name)
    known, words = _labels(chosen, seen, "the list given" if labels else facts.source)
    takes_bytes = model.input(0).get_element_type() == ov.Type.u8
    fields, reasons = _fields(chosen, facts, given, takes_bytes=takes_bytes)
    base = ModelSpec(name=name, file=path.name, head=chosen.head, input_size=size, labels=known, layout=layout)
    return Recognised(replace(base, **fields), (f"head {chosen.head}: {chosen.why}.", words, *reasons))


def refusal(seen: Evidence) -> str | None:
    """Return what the network is, if it is none that the fleet serves."""
    task = "anomaly" if seen.facts.task.startswith("anomaly") else seen.facts.task
    if task in _REFUSED:
        return f"{_REFUSED[task]} (task {seen.facts.task!r} in {seen.facts.source})"
    kind = _one(seen) if len(seen.outputs) == 1 else _MASKS if _has_masks(seen) else None
    return f"{kind} (outputs {seen.shapes})" if kind else None


def _one(seen: Evidence) -> str | None:
    """Return what a network with one output is, if it is none that the fleet serves."""
    (one,) = seen.outputs
    flat = [side for side in one.shape if side != 1]
    if len(flat) == 1 and one.shape[0] in (1, -1) and one.width != 7:
        return _CLASSIFIER
    is_map = len(one.shape) == 4 and one.width != 7 and _is_map(one.shape, seen.size)
    if is_map or one.shape[1:] == seen.size:
        return _SEGMENTER
    return _ORIENTED if _is_turned(one, seen) else None


def _has_masks(seen: Evidence) -> bool:
    names = {name.lower() for one in seen.outputs for name in one.names}
    if names & {"masks", "pred_masks", "detection_masks"}:
        return True
    return sorted(len(one.shape) for one in seen.outputs) == [3, 4] and _has_prototypes(seen)


def _has_prototypes(seen: Evidence) -> bool:
    """Tell whether one output is a row of coefficients for each cell and the other the masks they belong to."""
    rows, masks = sorted(seen.outputs, key=lambda one: len(one.shape))
    cells = seen.cells(8, 16, 32)
    return bool({cells, 3 * cells} & set(rows.shape[1:])) and _is_map(masks.shape, seen.size)


def _is_map(shape: tuple[int, ...], size: tuple[int, int]) -> bool:
    """Tell whether an output has a place for each 8 x 8 pixels of the input or fewer, in either layout."""
    return any(tall * 8 >= size[0] and long * 8 >= size[1] for tall, long in (shape[2:], shape[1:3]))


def _is_turned(one: Tensor, seen: Evidence) -> bool:
    """Tell whether YOLOv8's rows have a value more than a box and scores, and it is an angle."""
    if len(one.shape) != 3 or one.width != seen.cells(8, 16, 32) or one.shape[1] < 6:
        return False
    values = seen.run(one, turned=True)
    if values is None:
        return False
    fits = evidence.is_part(values[:, 4:-1]) or len(seen.labels) == one.shape[1] - 5
    return fits and not evidence.is_part(values[:, -1])


def _input(model: ov.Model, facts: Facts, given: dict[str, Any]) -> tuple[str, tuple[int, int]]:
    layout, shape = inputs.layout_of(model, given.get("layout"))
    size = tuple(given["input_size"]) if "input_size" in given else shape if -1 not in shape else facts.size
    if size is None:
        raise ValueError("its input has no fixed size; say which: --set input_size=[480,640] (height, width)")
    return layout, (int(size[0]), int(size[1]))


def _choose(seen: Evidence, head: str | None, file: str) -> Proposal:
    found = families.proposals(seen)
    known = len(seen.labels)
    fitting = [one for one in found if not known or one.classes in (None, known) or _drops_first(one, seen)]
    if head is not None:
        return next((one for one in fitting if one.head == head), Proposal(head, "you said so", True))
    sure = [one for one in fitting if one.is_sure]
    if len(sure) == 1:
        return sure[0]
    if not found:
        raise ModelError(
            f"{file} has outputs of no family that is known: {seen.shapes}. If they are boxes and scores, say "
            "--head boxes_scores and its options; else write a head (docs/models.md)."
        )
    if not fitting:
        counts = ", ".join(f"{one.classes} for {one.head}" for one in found)
        raise ModelError(f"{file} does not fit its {known} labels: its outputs {seen.shapes} have {counts}.")
    could = "; or ".join(f"--head {one.head} ({one.why})" for one in (sure or fitting))
    raise ModelError(f"It is not sure what {file} is: {seen.shapes}. Say {could}. Labels help: --labels FILE.")


def _drops_first(one: Proposal, seen: Evidence) -> bool:
    """Tell whether the labels name the background first, which is none of the proposal's classes.

    Where outputs do not say how many classes there are, it is none of them if they are counted from 1.
    """
    if not seen.labels or seen.labels[0].lower() not in BACKGROUND:
        return False
    return one.classes == len(seen.labels) - 1 or (one.classes is None and one.options.get("first_label") == 1)


def _labels(chosen: Proposal, seen: Evidence, source: str) -> tuple[tuple[str, ...], str]:
    labels = seen.labels[1:] if seen.labels and _drops_first(chosen, seen) else seen.labels
    if labels:
        return labels, f"{len(labels)} labels: from {source}."
    if chosen.head in ("centerface", "blazeface", "scrfd", "yunet", "retinaface"):
        return ("face",), "label face: this family finds faces."
    if chosen.classes is None:
        return ("0",), "labels: the file does not say how many, so numbers stand for them; --labels FILE names them."
    numbered = tuple(f"class_{number}" for number in range(chosen.classes))
    return numbered, f"{len(numbered)} labels: the file names none, so they are numbered; --labels FILE names them."


def _fields(
    chosen: Proposal, facts: Facts, given: dict[str, Any], *, takes_bytes: bool
) -> tuple[dict[str, Any], list[str]]:
    """Put together what the user gave, what the file says and how the family is trained, in this order."""
    bytes_in = {"mean": (0.0,) * 3, "scale": (1.0,) * 3} if takes_bytes else {}
    fields = {**chosen.fields, **facts.fields, **bytes_in, **given}
    fields["options"] = {**chosen.options, **given.get("options", {})}
    why = []
    if bytes_in:
        why.append("mean, scale: its input takes bytes as they are.")
    if told := sorted(set(facts.fields) - set(given) - set(bytes_in)):
        why.append(f"{', '.join(told)}: from {facts.source}.")
    if guessed := sorted(set(chosen.fields) - set(facts.fields) - set(given) - set(bytes_in)):
        why.append(f"{', '.join(guessed)}: as networks of this family are trained; check with a photo.")
    left = [key for key in ("colour", "mean", "scale", "resize") if key not in fields]
    if left and not chosen.fields and not facts.fields:
        why.append(f"{', '.join(left)}: nothing is known, so the defaults; check with a photo.")
    return {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}, why


def _said(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else repr(error))[:500]
