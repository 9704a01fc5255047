"""Which families a network could be of whose outputs are boxes and scores apart, finished or raw.

Stage: at ``fleet-worker models add``, between :mod:`worker.evidence` and :mod:`worker.families`.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from worker import trained
from worker.evidence import Evidence, Values, agreed, are_corners, are_rare, favoured, is_part, is_unit, sums_to_one
from worker.heads import anchors, boxes_scores, tensors
from worker.heads.tensors import Tensor
from worker.trained import BACKGROUND, Proposal


def finished(seen: Evidence) -> Iterator[Proposal]:
    """Propose what has its suppression inside: DetectionOutput, boxes with labels, the Object Detection API's four."""
    sevens = [one for one in seen.outputs if one.width == 7 and len(one.shape) == 4]
    if len(sevens) == 1 and len(seen.outputs) == 1:
        yield _detection_output(seen, sevens[0])
    fives = [one for one in seen.outputs if one.width == 5 and len(one.shape) in (2, 3)]
    others = [one for one in seen.outputs if one not in fives]
    if len(fives) == 1 and len(others) == 1 and (others[0].width == 1 or len(others[0].shape) <= 2):
        unit = {"normalised": True} if _is_unit(seen, fives[0]) else {}
        values = seen.run(fives[0])
        sure = values is None or not values.size or (are_corners(values[:, :4]) and is_part(values[:, 4]))
        yield Proposal("boxes_labels", "boxes [N,5] with their scores, and labels [N]", sure, None, unit, trained.PLAIN)
    names = {name for one in seen.outputs for name in one.names}
    if {"detection_boxes", "detection_classes", "detection_scores"} <= names:
        options = {"box_format": "yxyx", "normalised": True, "first_label": 1, "suppress": False}
        options |= {f"{role}_name": f"detection_{role}" for role in ("boxes", "scores", "classes")}
        why = "the names are those of TensorFlow's Object Detection API"
        yield Proposal("boxes_scores", why, True, None, options, trained.PLAIN | {"scale": (1.0,) * 3})


def _detection_output(seen: Evidence, one: Tensor) -> Proposal:
    """Read off a DetectionOutput which of its classes is the background; what does not say it is not sure."""
    node = tensors.behind(one.value, "DetectionOutput")
    if node is None:
        why = "[1,1,N,7]; add --set options.first_label=1 if its class 0 is the background"
        return Proposal("ssd", why, False, None, {}, trained.SSD)
    said = node.get_attributes()
    whole = int(said.get("num_classes", -1))
    has_background = said.get("background_label_id", -1) == 0
    shift = {"first_label": 1} if has_background or len(seen.labels) == whole - 1 else {}
    classes = whole - len(shift) if whole > 0 else None
    return Proposal("ssd", "[1,1,N,7], the rows of a DetectionOutput", True, classes, shift, trained.SSD)


def _is_unit(seen: Evidence, one: Tensor) -> bool:
    values = seen.run(one)
    return values is not None and is_unit(values[:, :4])


def boxes_and_scores(seen: Evidence) -> Iterator[Proposal]:
    """Propose for boxes ``(1, n, 4)`` and scores ``(1, n, classes)``: sets, raw SSD, or plain boxes."""
    own = [one for one in seen.outputs if tensors.behind(one.value, "Constant") and one.width == 4]
    left = [one for one in seen.outputs if one not in own and not boxes_scores.is_count(one)]
    boxes = next((one for one in left if one.width == 4 and any("box" in name for name in one.names)), None)
    boxes = boxes or next((one for one in left if one.width == 4), None)
    scores = [one for one in left if one is not boxes]
    if boxes is None or not 1 <= len(scores) <= 2:
        return
    is_turned = boxes_scores.is_turned(scores[0], boxes)
    if len(scores) == 1 and len(scores[0].shape) > 2 and scores[0].rows == boxes.rows > 0 and not is_turned:
        values, each = seen.run(boxes), seen.run(scores[0])
        is_named = any("logit" in name.lower() for name in scores[0].names)
        if is_part(values) and not is_part(each):
            yield _set_of(seen, scores[0], is_named)
            return
        if own or (values is not None and bool((values[:, 2:] < 0).any()) and not are_corners(values)):
            made = None if own else _anchors_of(seen, boxes.rows)
            yield _ssd_raw(seen, scores[0], own[0] if own else None, made)
            return
    options: dict[str, Any] = {"normalised": True} if _is_unit(seen, boxes) else {}
    if not are_corners(seen.run(boxes)):
        options["box_format"] = "cxcywh"
    classes = None if len(scores) == 2 or len(scores[0].shape) < 3 else scores[0].shape[1 if is_turned else 2]
    yield Proposal(
        "boxes_scores", "boxes and scores of no family that is known", False, classes, options, trained.PLAIN
    )


def _set_of(seen: Evidence, logits: Tensor, is_named: bool) -> Proposal:
    """Tell DETR (a last class for no object) from RT-DETR and D-FINE (a sigmoid each): by labels, else by scores."""
    width, by_labels = logits.width, len(seen.labels)
    stands_out = favoured(seen.run(logits)) == width - 1
    fits = 0 < by_labels in (width, width - 1)
    softmax = by_labels == width - 1 if fits else stands_out
    # A label less than classes may mean another thing: a class 0 that is not used, with a sigmoid each.
    is_odd = softmax and not stands_out and are_rare(seen.run(logits))
    sure = (fits or (is_named and stands_out)) and not is_odd
    options = {"scores": "softmax"} if softmax else {}
    last = "the last of them for no object" if softmax else "a sigmoid each"
    why = f"boxes of 0 to 1 and {width} raw scores for each of {logits.rows} queries, {last}"
    return Proposal("detr", why, sure, width - softmax, options, trained.DETR if softmax else trained.RT_DETR)


def _ssd_raw(seen: Evidence, scores: Tensor, own: Tensor | None, made: dict[str, Any] | None) -> Proposal:
    values, width = seen.run(scores), scores.width
    applied = "softmax" if sums_to_one(values) else "sigmoid" if is_part(values) else ""
    stands_out = agreed([_stands_out(one, applied) for one in seen.each(scores)])
    kinds = [_kind(one, stands_out) for one in seen.each(scores)]
    raw = kinds[0] if kinds else "sigmoid"  # of the picture of 0 to 1, which every network takes for a dark one
    options: dict[str, Any] = {"scores": "none" if applied else raw}
    background = _background(seen, width, stands_out, is_softmax=(applied or raw) == "softmax")
    options["background"] = background
    order = _order(seen, own)
    if made is not None:
        options["anchors"] = made
        if made["kind"] == "efficientdet":
            options["box_scale"] = [1.0] * 4
    elif order == "xywh":
        options["order"] = order
    origin = f"{_told(made)} as published" if made else f"its own, {order}" if own else "say options.anchors"
    known = len(seen.labels)
    is_softmax = applied == "softmax" or (not applied and agreed(kinds) == "softmax")
    sure = 0 < known in (width, width - 1) or width in (90, 91) or is_softmax or stands_out is not None
    sure &= made is not None or order != ""
    which = {True: "class 0 is the background", "last": "the last class is the background"}
    kind = f"scores after {applied}" if applied else f"raw scores, as for {raw}"
    why = f"raw boxes and {width} {kind} for {scores.rows} anchors ({origin}), {which.get(background, 'no background')}"
    return Proposal("ssd_raw", why, sure, width - bool(background), options, trained.SSD_RAW)


def _kind(values: Values, stands_out: int | None) -> str:
    """Tell raw scores for a sigmoid from those for a softmax, the background's aside."""
    return "sigmoid" if are_rare(np.delete(values, stands_out or 0, axis=1)) else "softmax"


def _told(made: dict[str, Any]) -> str:
    return f"{made['kind']} of scale {made['scale']:g}" if "scale" in made else str(made["kind"])


def _stands_out(values: Values | None, applied: str) -> int | None:
    """Return the column that nearly all rows prefer to all others, as they do the background's."""
    if values is None or not applied:
        return favoured(values)
    return favoured(np.log(np.clip(values, 1e-7, 1.0)) - (np.log1p(-np.clip(values, 0, 1 - 1e-7))))


def _background(seen: Evidence, width: int, stands_out: int | None, *, is_softmax: bool) -> bool | str:
    """Tell whether class 0 is none of the labels, or the ``last`` one is."""
    known = len(seen.labels)
    if known == width and seen.labels[0].lower() not in BACKGROUND:
        return False
    if known and seen.labels[0].lower() in BACKGROUND:
        return True
    if stands_out in (0, width - 1):
        return "last" if stands_out else True
    return 0 < known == width - 1 or (not known and (is_softmax or width == 91))


def _order(seen: Evidence, own: Tensor | None) -> str:
    """Tell in which order a network's own anchors are: row by row, x changes more often than y. Empty if neither."""
    values = seen.run(own) if own else None
    if values is None:
        return ""
    first, second = (np.abs(np.diff(values[:, :2], axis=0)) > 1e-6).sum(axis=0)
    return "xywh" if first > 2 * second else "yxhw" if second > 2 * first else ""


def _anchors_of(seen: Evidence, rows: int) -> dict[str, Any] | None:
    """Find the anchors that are published and as many as the network's boxes."""
    published: tuple[dict[str, Any], ...] = (
        {"kind": "grid"},
        {"kind": "grid", "strides": [16, 32, 64, 128]},
        {"kind": "efficientdet", "scale": 3.0},
        {"kind": "pyramid"},
    )
    return next((dict(one) for one in published if len(anchors.make(seen.size, one)) == rows), None)
