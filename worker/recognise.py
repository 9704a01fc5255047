"""Decide what a network is, or say why that cannot be decided, or that the fleet does not serve its kind.

Stage: at ``fleet-worker models add``, between :mod:`worker.families` and :mod:`worker.store`. Never a silent guess:
what is not sure is asked for, and every decision comes with its reason.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import openvino as ov

from worker import evidence, families, heads, inputs, integers, metadata, refusals
from worker.evidence import Evidence
from worker.integers import Range
from worker.metadata import Facts
from worker.model_toml import ModelSpec
from worker.models import ModelError
from worker.trained import BACKGROUND, Proposal


@dataclass(frozen=True, slots=True)
class Recognised:
    """A network and what it was taken for.

    Attributes:
        spec: its description, complete.
        why: the reasons, a sentence each.
    """

    spec: ModelSpec
    why: tuple[str, ...]


def recognise(  # noqa: PLR0913 - what the user said, and what the file did
    path: Path,
    name: str,
    *,
    labels: tuple[str, ...] = (),
    head: str | None = None,
    given: dict[str, Any] | None = None,
    known: Proposal | None = None,
) -> Recognised:
    """Read the network at ``path`` and describe it as the model ``name``.

    Args:
        path: the network's file.
        name: the model's name.
        labels: of its classes, if the user gave some; else those in the file.
        head: given by the user, who is believed.
        given: other fields of the model.toml that the user gave, options among them.
        known: what it is, where its file said so; nothing else is thought of then.

    Raises:
        ModelError: it cannot be read, is not sure, does not fit what was given, or is no detector of upright boxes.
    """
    given = dict(given or {})
    try:
        model = ov.Core().read_model(path)
        span = integers.widen(model)
        facts = metadata.read(model, path)
        layout, size = _input(model, facts, given)
        inputs.settle(model, layout, size)
    except (RuntimeError, ValueError, OSError) as error:
        raise ModelError(f"{path.name} cannot be used: {_said(error)}") from error
    seen = evidence.look(model, size, layout, facts, labels or facts.labels)
    if (head is None or head in heads.HEADS) and (kind := refusals.refusal(seen)):
        raise ModelError(f"{path.name} {kind}. The fleet serves detectors with upright boxes.")
    chosen = _choose(seen, head, path.name, [known] if known else families.proposals(seen))
    names, words = _labels(chosen, seen, "the list given" if labels else facts.source)
    bytes_in = _bytes_in(model, span, chosen, facts, given)
    fields, reasons = _fields(chosen, facts, given, bytes_in)
    base = ModelSpec(name=name, file=path.name, head=chosen.head, input_size=size, labels=names, layout=layout)
    return Recognised(replace(base, **fields), (f"head {chosen.head}: {chosen.why}.", words, *reasons))


def _input(model: ov.Model, facts: Facts, given: dict[str, Any]) -> tuple[str, tuple[int, int]]:
    layout, shape = inputs.layout_of(model, given.get("layout"))
    size = tuple(given["input_size"]) if "input_size" in given else shape if -1 not in shape else facts.size
    if size is None:
        raise ValueError("its input has no fixed size; say which: --set input_size=[480,640] (height, width)")
    return layout, (int(size[0]), int(size[1]))


def _choose(seen: Evidence, head: str | None, file: str, found: list[Proposal]) -> Proposal:
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


def _bytes_in(
    model: ov.Model, span: Range | None, chosen: Proposal, facts: Facts, given: dict[str, Any]
) -> tuple[dict[str, Any], str]:
    """Say what mean and scale follow from what kind of numbers the picture is of, and why; nothing for floats."""
    if span is None:
        is_bytes = model.input(0).get_element_type() == ov.Type.u8
        plain = {"mean": (0.0,) * 3, "scale": (1.0,) * 3}
        return (plain, "its input takes bytes as they are") if is_bytes else ({}, "")
    if {"mean", "scale"} <= set(given):
        return {}, ""
    try:
        return integers.normal(span, facts.fields, chosen.fields)
    except ValueError as error:
        raise ModelError(f"It is not sure how pictures go in: {error}.") from error


def _fields(
    chosen: Proposal, facts: Facts, given: dict[str, Any], of_input: tuple[dict[str, Any], str]
) -> tuple[dict[str, Any], list[str]]:
    """Put together what the user gave, what the file says and how the family is trained, in this order."""
    bytes_in, told_of_input = of_input
    fields = {**chosen.fields, **facts.fields, **bytes_in, **given}
    fields["options"] = {**chosen.options, **given.get("options", {})}
    why = []
    if bytes_in:
        why.append(f"mean, scale: {told_of_input}.")
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
