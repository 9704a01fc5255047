"""Which families a network could be of, by what can be seen of it, and how each was trained.

Stage: at ``fleet-worker models add``, between :mod:`worker.evidence` and :mod:`worker.recognise`. A function per group
of families; each gives what the outputs could be, with the reason, and whether they can be nothing else.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from worker.evidence import Evidence, are_corners, are_rare, are_whole, favoured, is_part, is_unit, sums_to_one
from worker.heads import anchors, blazeface, boxes_scores
from worker.heads.tensors import Tensor

#: Names that a list of labels gives to what is no object.
BACKGROUND = frozenset({"background", "__background__", "bg", "???", "unlabeled", "none", "no object"})


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a network could be.

    Attributes:
        head: name of the head.
        why: what speaks for it, a sentence without its full stop.
        is_sure: it can be nothing else.
        classes: how many labels it has, or None where its outputs do not say.
        options: of the head.
        fields: of the model.toml: how networks of this family are trained unless their file says otherwise.
    """

    head: str
    why: str
    is_sure: bool
    classes: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)


def _trained(colour: str, mean: Any, scale: Any, resize: str, **more: Any) -> dict[str, Any]:
    three = [tuple(float(v) for v in (value if isinstance(value, tuple) else (value,) * 3)) for value in (mean, scale)]
    return {"colour": colour, "mean": three[0], "scale": three[1], "resize": resize, "shrinking": "linear", **more}


_IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
_IMAGENET_BGR = ((103.53, 116.28, 123.675), (57.375, 57.12, 58.395))
_YOLO = _trained("RGB", 0, 255, "letterbox", pad=114, pad_at="centre", min_score=0.25, iou=0.45)
_YOLO8 = _YOLO | {"iou": 0.7}
_YOLOX = _trained("BGR", 0, 1, "letterbox", pad=114, pad_at="top_left", min_score=0.25, iou=0.45)
_NANODET = _trained("BGR", *_IMAGENET_BGR, "stretch", min_score=0.35, iou=0.6)
_PICODET = _trained("RGB", *_IMAGENET, "stretch", min_score=0.5, iou=0.6)
_SCRFD = _trained("RGB", 127.5, 128, "letterbox", pad_at="top_left", min_score=0.5, iou=0.4)
_RETINAFACE = _trained("BGR", (104, 117, 123), 1, "letterbox", pad_at="top_left", min_score=0.5, iou=0.4)
_YUNET = _trained("BGR", 0, 1, "letterbox", pad_at="top_left", min_score=0.5, iou=0.3)
_DETR = _trained("RGB", *_IMAGENET, "stretch", min_score=0.5)
_RT_DETR = _trained("RGB", 0, 255, "stretch", min_score=0.5)
_SSD = _trained("BGR", 0, 1, "stretch", min_score=0.5)
_SSD_RAW = _trained("RGB", 127.5, 127.5, "stretch", min_score=0.5, iou=0.6)
_PLAIN = _trained("RGB", 0, 255, "stretch", min_score=0.5, iou=0.5)


def proposals(seen: Evidence) -> list[Proposal]:
    """Return all that the network could be."""
    return [one for look in _LOOKS for one in look(seen)]


def one_output(seen: Evidence) -> Iterator[Proposal]:
    """Propose for a single output ``(1, a, b)``: the YOLOs, NanoDet, finished rows."""
    found = [one for one in seen.outputs if len(one.shape) == 3]
    if len(found) != 1 or any(len(one.shape) < 3 for one in seen.outputs):
        return
    (one,) = found
    _, rows, width = one.shape
    values, three, four = seen.run(one), seen.cells(8, 16, 32), seen.cells(8, 16, 32, 64)
    if width in (three, four) and rows >= 5 and len(seen.outputs) == 1:
        turned = seen.run(one, turned=True)
        unit = {"normalised": True} if turned is not None and is_unit(turned[:, :4]) else {}
        is_scored = turned is not None and is_part(turned[:, 4:])
        sure = is_scored or len(seen.labels) == rows - 4
        why = f"[1,4+C,N] with N = {width} cells, one for each box"
        yield Proposal("yolov8", why, sure, rows - 4, unit, _YOLO8)
    if rows in (3 * three, 3 * four) and width >= 6:
        unit = {"normalised": True} if values is not None and is_unit(values[:, :4]) else {}
        why = f"[1,N,5+C] with N = {rows}, three anchors a cell"
        yield Proposal("yolov5", why, True, width - 5, unit, _YOLO)
    if rows in (three, four) and width >= 6 and len(seen.outputs) == 1:
        yield from _per_cell(seen, one, (8, 16, 32) if rows == three else (8, 16, 32, 64))
    if values is not None and width == 6 and is_part(values[:, 4]) and are_whole(values[:, 5]):
        unit = {"normalised": True} if is_unit(values[:, :4]) else {}
        why = "[1,N,6] with a score in the fifth column and whole numbers in the sixth"
        yield Proposal("yolov10", why, True, None, unit, _YOLO8)
    elif width > 4 and rows <= 1000 and is_part(values) and rows not in (three, four):
        sure = len(seen.labels) == width - 4
        yield Proposal("detr", "[1,Q,4+C], all of it 0 to 1", sure, width - 4, {"scores": "none"}, _RT_DETR)


def _per_cell(seen: Evidence, one: Tensor, strides: tuple[int, ...]) -> Iterator[Proposal]:
    """Tell apart what has one row per cell: a trial run shows which columns are scores."""
    values, width = seen.run(one), one.width
    told = f"[1,N,{width}] with N = {one.rows} cells"
    if values is None:
        return
    is_one_class_row = are_whole(values[:, 5]) and width == 6
    if is_part(values[:, 4:]) and not is_one_class_row:
        if (values[:, :4] >= 0).all():
            yield Proposal("yolov5", f"{told}, boxes decoded already", False, width - 5, {}, _YOLO)
            yield Proposal("yolov8", f"{told}", False, width - 4, {"transposed": True}, _YOLO8)
        else:
            grids = {} if len(strides) == 3 else {"strides": list(strides)}
            why = f"{told}, boxes relative to their cell, then scores of 0 to 1"
            yield Proposal("yolox", why, True, width - 5, grids, _YOLOX)
    for bins in (8, 16):
        edge = width - 4 * bins
        # The column behind the scores is the first of the bins, which is no score.
        if edge > 0 and is_part(values[:, :edge]) and not is_part(values[:, edge]):
            options = {} if bins == 8 else {"bins": bins}
            why = f"{told}, {edge} scores of 0 to 1, then 4 x {bins} bins"
            yield Proposal("nanodet", why, True, edge, options, _NANODET)


def distributions(seen: Evidence) -> Iterator[Proposal]:
    """Propose NanoDet's kin with outputs for each grid, distributions apart or joined with scores."""
    count = len(seen.outputs)
    for bins in (8, 16, 17):
        width = 4 * bins
        for strides in ((8, 16, 32), (8, 16, 32, 64), (8, 16, 32, 64, 128)):
            if count == 2 * len(strides) and (found := _apart(seen, width, seen.cells(*strides))):
                others, classes = found
                is_scored = all(is_part(seen.run(one)) for one in others)
                options: dict[str, Any] = {} if bins == 8 else {"bins": bins}
                options |= {} if is_scored else {"scores": "sigmoid"}
                why = f"for each of {len(strides)} grids {classes} scores and 4 x {bins} bins"
                yield Proposal("nanodet", why, True, classes, options, _PICODET)
    maps = [one.shape for one in seen.outputs if len(one.shape) == 4]
    cells, channels = sum(shape[2] * shape[3] for shape in maps), {shape[1] for shape in maps}
    if count == len(maps) == 3 and cells == seen.cells(8, 16, 32) and len(channels) == 1 and min(channels) > 64:
        classes = channels.pop() - 64
        options = {"bins": 16, "boxes_first": True, "scores": "sigmoid"}
        why = f"for each of three grids 4 x 16 bins and {classes} raw scores, or three anchors of YOLOv5"
        yield Proposal("nanodet", why, len(seen.labels) == classes, classes, options, _YOLO8)


def _apart(seen: Evidence, width: int, cells: int) -> tuple[list[Tensor], int] | None:
    axis = 1 if len(seen.outputs[0].shape) == 4 else -1
    rank = {len(one.shape) for one in seen.outputs}
    if len(rank) != 1 or not rank & {2, 3, 4}:
        return None
    sides = [one for one in seen.outputs if one.shape[axis] == width]
    others = [one for one in seen.outputs if one.shape[axis] != width]
    classes = {one.shape[axis] for one in others}
    if len(sides) != len(others) or len(classes) != 1:
        return None
    rows = [sum(one.rows * one.width // one.shape[axis] for one in group) for group in (sides, others)]
    return (others, classes.pop()) if rows == [cells, cells] else None


def faces(seen: Evidence) -> Iterator[Proposal]:
    """Propose the detectors of faces, whose outputs are like no others."""
    shapes, cells = [one.shape for one in seen.outputs], seen.cells(8, 16, 32)
    by_width = {width: [one for one in seen.outputs if one.width == width] for width in (1, 2, 4, 10, 16)}
    rows = {width: sum(one.rows for one in group) for width, group in by_width.items()}
    counts = {width: len(group) for width, group in by_width.items() if group}
    if [shape[1] for shape in shapes if len(shape) == 4] == [1, 2, 2, 10]:
        # The published file is of 32 x 32 pixels and meant to be reshaped.
        how = {"colour": "RGB", "iou": 0.3} | ({"input_size": (480, 640)} if seen.size == (32, 32) else {})
        yield Proposal("centerface", "outputs of 1, 2, 2 and 10 channels", True, 1, {}, how)
    if counts == {1: 1, 16: 1}:
        for variant in blazeface.LAYERS:
            fits = len(blazeface.anchors(variant, seen.size[0])) == rows[1] and seen.size[0] == seen.size[1]
            if fits and (variant == "short") == (seen.size[0] <= 128 and rows[1] == 896):
                how = {"colour": "RGB", "mean": (127.5,) * 3, "scale": (127.5,) * 3, "iou": 0.3}
                why = f"{rows[1]} anchors with 16 values and a score at {seen.size[0]} pixels"
                yield Proposal("blazeface", why, True, 1, {"variant": variant}, how)
    if counts in ({1: 3, 4: 3}, {1: 3, 4: 3, 10: 3}) and rows[1] == rows[4]:
        for per_cell in (1, 2):
            if rows[1] == per_cell * cells:
                options = {} if per_cell == 2 else {"per_cell": 1}
                why = f"scores, distances and perhaps landmarks for three grids, {per_cell} a cell"
                yield Proposal("scrfd", why, per_cell == 2, 1, options, _SCRFD)
    if counts == {1: 6, 4: 3, 10: 3} and rows[4] == cells:
        yield Proposal("yunet", "two scores, a box and landmarks for each cell of three grids", True, 1, {}, _YUNET)
    if set(counts) == {2, 4, 10} and rows[4] == 2 * cells == rows[2]:
        scored = all(sums_to_one(seen.run(one)) for one in by_width[2])
        why = f"boxes, two scores and landmarks for {rows[4]} priors"
        yield Proposal("retinaface", why, True, 1, {} if scored else {"scores": "softmax"}, _RETINAFACE)


def finished(seen: Evidence) -> Iterator[Proposal]:
    """Propose what has its suppression inside: DetectionOutput, boxes with labels, the Object Detection API's four."""
    sevens = [one for one in seen.outputs if one.width == 7 and len(one.shape) in (2, 4)]
    if len(sevens) == 1 and len(seen.outputs) == 1:
        node = sevens[0].value.get_node()
        said = node.get_attributes() if node.get_type_name() == "DetectionOutput" else {}
        whole = int(said.get("num_classes", -1))
        has_background = said.get("background_label_id", -1) == 0
        shift = {"first_label": 1} if has_background or len(seen.labels) == whole - 1 else {}
        classes = whole - len(shift) if whole > 0 else None
        yield Proposal("ssd", "[1,1,N,7], the rows of a DetectionOutput", True, classes, shift, _SSD)
    fives = [one for one in seen.outputs if one.width == 5 and len(one.shape) in (2, 3)]
    others = [one for one in seen.outputs if one not in fives]
    if len(fives) == 1 and len(others) == 1 and (others[0].width == 1 or len(others[0].shape) <= 2):
        unit = {"normalised": True} if _is_unit(seen, fives[0]) else {}
        yield Proposal("boxes_labels", "boxes [N,5] with their scores, and labels [N]", True, None, unit, _PLAIN)
    names = {name for one in seen.outputs for name in one.names}
    if {"detection_boxes", "detection_classes", "detection_scores"} <= names:
        options = {"box_format": "yxyx", "normalised": True, "first_label": 1, "suppress": False}
        options |= {f"{role}_name": f"detection_{role}" for role in ("boxes", "scores", "classes")}
        why = "the names are those of TensorFlow's Object Detection API"
        yield Proposal("boxes_scores", why, True, None, options, _PLAIN | {"scale": (1.0,) * 3})


def _is_unit(seen: Evidence, one: Tensor) -> bool:
    values = seen.run(one)
    return values is not None and is_unit(values[:, :4])


def boxes_and_scores(seen: Evidence) -> Iterator[Proposal]:
    """Propose for boxes ``(1, n, 4)`` and scores ``(1, n, classes)``: sets, raw SSD, or plain boxes."""
    own = [one for one in seen.outputs if one.value.get_node().get_type_name() == "Constant" and one.width == 4]
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
        made = _anchors_of(seen, boxes.rows)
        is_raw = values is not None and not is_unit(values) and bool((values[:, 2:] < 0).any())
        if own or (is_raw and made is not None):
            yield _ssd_raw(seen, scores[0], {} if own else {"anchors": made})
            return
    options: dict[str, Any] = {"normalised": True} if _is_unit(seen, boxes) else {}
    if not are_corners(seen.run(boxes)):
        options["box_format"] = "cxcywh"
    classes = None if len(scores) == 2 or len(scores[0].shape) < 3 else scores[0].shape[1 if is_turned else 2]
    yield Proposal("boxes_scores", "boxes and scores of no family that is known", False, classes, options, _PLAIN)


def _set_of(seen: Evidence, logits: Tensor, is_named: bool) -> Proposal:
    """Tell DETR (a last class for no object) from RT-DETR and D-FINE (a sigmoid each): by labels, else by scores."""
    width, by_labels = logits.width, len(seen.labels)
    stands_out = favoured(seen.run(logits)) == width - 1
    softmax = by_labels == width - 1 if by_labels in (width, width - 1) else stands_out
    sure = by_labels in (width, width - 1) or (is_named and stands_out)
    options = {"scores": "softmax"} if softmax else {}
    last = "the last of them for no object" if softmax else "a sigmoid each"
    why = f"boxes of 0 to 1 and {width} raw scores for each of {logits.rows} queries, {last}"
    return Proposal("detr", why, sure, width - softmax, options, _DETR if softmax else _RT_DETR)


def _ssd_raw(seen: Evidence, scores: Tensor, options: dict[str, Any]) -> Proposal:
    values, width = seen.run(scores), scores.width
    applied = "softmax" if sums_to_one(values) else "sigmoid" if is_part(values) else ""
    raw = "sigmoid" if applied or are_rare(values) else "softmax"
    options["scores"] = "none" if applied else raw
    known = len(seen.labels)
    named = bool(seen.labels) and seen.labels[0].lower() in BACKGROUND
    likely = "softmax" in (applied, raw) or width == 91
    background = known == width - 1 or named or (not known and likely)
    options["background"] = background
    sure = known in (width, width - 1) or width in (90, 91) or "softmax" in (applied, raw)
    if options.get("anchors", {}).get("kind") in ("efficientdet", "pyramid"):
        options["box_scale"] = [1.0] * 4 if options["anchors"]["kind"] == "efficientdet" else [10.0, 10.0, 5.0, 5.0]
    kind = options["anchors"]["kind"] if "anchors" in options else "the network's own"
    bottom = "class 0 is the background" if background else "no background"
    why = f"raw boxes and {width} scores for {scores.rows} anchors ({kind}), {bottom}"
    return Proposal("ssd_raw", why, sure, width - bool(background), options, _SSD_RAW)


def _anchors_of(seen: Evidence, rows: int) -> dict[str, Any] | None:
    """Find the anchors that are published and as many as the network's boxes."""
    published: tuple[dict[str, Any], ...] = (
        {"kind": "grid"},
        {"kind": "grid", "strides": [16, 32, 64, 128]},
        {"kind": "efficientdet", "scale": 3.0},
        {"kind": "pyramid"},
    )
    return next((dict(one) for one in published if len(anchors.make(seen.size, one)) == rows), None)


_LOOKS: tuple[Callable[[Evidence], Iterator[Proposal]], ...] = (
    one_output,
    distributions,
    faces,
    finished,
    boxes_and_scores,
)
