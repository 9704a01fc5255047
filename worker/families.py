"""Which families a network could be of, by what can be seen of it: here those with a row for each cell of a grid.

Stage: at ``fleet-worker models add``, between :mod:`worker.evidence` and :mod:`worker.recognise`. A function per group
of families; each gives what the outputs could be, with the reason, and whether they can be nothing else.
"""

from collections.abc import Iterator

import numpy as np

from worker import families_boxes, families_distributions, trained
from worker.evidence import Evidence, Values, are_corners, are_whole, is_part, is_unit, sums_to_one
from worker.heads import blazeface
from worker.heads.tensors import Tensor
from worker.trained import Proposal

#: Values of a box in YOLOv8's networks for poses: the box, a score, and three for each of 17 points.
POSE = 4 + 1 + 3 * 17


def proposals(seen: Evidence) -> list[Proposal]:
    """Return all that the network could be."""
    looks = (
        one_output,
        families_distributions.distributions,
        faces,
        families_boxes.finished,
        families_boxes.boxes_and_scores,
    )
    return [one for look in looks for one in look(seen)]


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
        # Without labels, values of 0 to 1 that are often high could be keypoints as well, and a last one an angle.
        is_scored = turned is not None and is_part(turned[:, 4:]) and float(turned[:, 4:].mean()) < 0.3
        is_scored &= turned is not None and rows != POSE and not _is_odd(turned[:, 4:])
        sure = is_scored or len(seen.labels) == rows - 4
        why = f"[1,4+C,N] with N = {width} cells, one for each box"
        why += f" of {rows - 4} classes, unless it is a network for poses, with 17 points each" if rows == POSE else ""
        if _are_centres_and_scores(turned):
            yield Proposal("yolov8", why, sure, rows - 4, unit, trained.YOLO8)
    if rows in (3 * three, 3 * four) and width >= 6 and _are_centres_and_scores(values):
        unit = {"normalised": True} if values is not None and is_unit(values[:, :4]) else {}
        sure = values is not None or len(seen.labels) == width - 5
        why = f"[1,N,5+C] with N = {rows}, three anchors a cell"
        yield Proposal("yolov5", why, sure, width - 5, unit, trained.YOLO)
    if rows in (three, four) and width >= 5 and len(seen.outputs) == 1:
        yield from _per_cell(seen, one, (8, 16, 32) if rows == three else (8, 16, 32, 64))
    if values is not None and width == 6 and is_part(values[:, 4]) and are_whole(values[:, 5]):
        unit = {"normalised": True} if is_unit(values[:, :4]) else {}
        why = "[1,N,6] with a score in the fifth column and whole numbers in the sixth"
        yield Proposal("yolov10", why, are_corners(values[:, :4]), None, unit, trained.YOLO8)
    elif width > 4 and rows <= 1000 and is_part(values) and rows not in (three, four):
        sure = len(seen.labels) == width - 4 and values is not None and not are_corners(values[:, :4])
        yield Proposal("detr", "[1,Q,4+C], all of it 0 to 1", sure, width - 4, {"scores": "none"}, trained.RT_DETR)


def _is_odd(scores: Values) -> bool:
    """Tell whether the last score is high where all others are low, as an angle is."""
    middles = np.median(scores, axis=0)
    return len(middles) > 1 and bool(middles[-1] > 0.1 and middles[-1] > 4 * middles[:-1].max())


def _are_centres_and_scores(values: Values | None) -> bool:
    """Tell whether rows can be a box by its centre, then scores of 0 to 1; without a trial run they can.

    Raw scores, landmarks and keypoints are no scores of 0 to 1. Centres and sizes are never corners in all cells.
    """
    return values is None or (is_part(values[:, 4:]) and not are_corners(values[:, :4]))


def _per_cell(seen: Evidence, one: Tensor, strides: tuple[int, ...]) -> Iterator[Proposal]:
    """Tell apart what has one row per cell: a trial run shows which columns are scores."""
    values, width = seen.run(one), one.width
    told = f"[1,N,{width}] with N = {one.rows} cells"
    if values is None:
        return
    is_finished = width == 6 and are_whole(values[:, 5])
    if _are_centres_and_scores(values) and not is_finished:
        if (values[:, :4] >= 0).all():
            unit = {"normalised": True} if is_unit(values[:, :4]) else {}
            for head, before, options, how in (
                ("yolov5", 5, unit, trained.YOLO),
                ("yolov8", 4, {"transposed": True, **unit}, trained.YOLO8),
            ):
                why = f"{told}, boxes decoded already and {width - before} classes"
                if width > before:
                    yield Proposal(head, why, len(seen.labels) == width - before, width - before, options, how)
        elif width >= 6:
            grids = {} if len(strides) == 3 else {"strides": list(strides)}
            why = f"{told}, boxes relative to their cell, then scores of 0 to 1"
            yield Proposal("yolox", why, True, width - 5, grids, trained.YOLOX)


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
                yield Proposal("scrfd", why, per_cell == 2, 1, options, trained.SCRFD)
    if counts == {1: 6, 4: 3, 10: 3} and rows[4] == cells:
        yield Proposal(
            "yunet", "two scores, a box and landmarks for each cell of three grids", True, 1, {}, trained.YUNET
        )
    if set(counts) == {2, 4, 10} and rows[4] == 2 * cells == rows[2]:
        scored = all(sums_to_one(seen.run(one)) for one in by_width[2])
        why = f"boxes, two scores and landmarks for {rows[4]} priors"
        yield Proposal("retinaface", why, True, 1, {} if scored else {"scores": "softmax"}, trained.RETINAFACE)
