"""Whether a network gives distributions over bins for the sides of its boxes, as NanoDet and PicoDet do.

Stage: at ``fleet-worker models add``, between :mod:`worker.evidence` and :mod:`worker.families`. The number of rows is
that of the cells of some grids; a trial run shows which columns are scores, applied or raw, and which are bins.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from worker import trained
from worker.evidence import Evidence, Values, are_rare, is_part
from worker.heads import nanodet
from worker.heads.tensors import Tensor
from worker.trained import Proposal

#: Bins per side in published networks: NanoDet and PicoDet, NanoDet-g, YOLOv8, GFL.
USUAL = (8, 11, 16, 17)


@dataclass(frozen=True, slots=True)
class _Table:
    """One output as rows: how many, how wide, and what the trial runs gave."""

    rows: int
    width: int
    values: Values


def distributions(seen: Evidence) -> Iterator[Proposal]:
    """Propose NanoDet's kin: distributions apart from scores or joined with them, for each grid or for all."""
    tables = [found for one in seen.outputs if (found := _table(one, seen))]
    widths = sorted({one.width for one in tables})
    if len(tables) != len(seen.outputs) or not 1 <= len(widths) <= 2:
        return
    groups = [[one for one in tables if one.width == width] for width in widths]
    totals = {sum(one.rows for one in group) for group in groups}
    if len(totals) > 1 or not totals <= {seen.cells(*grids) for grids in nanodet.GRIDS}:
        return
    if len(widths) == 1:
        is_map = all(len(one.shape) == 4 for one in seen.outputs)
        yield from _joined(seen, np.concatenate([one.values for one in tables]), is_map=is_map)
    elif len(groups[0]) == len(groups[1]):
        for sides, scores in (groups, reversed(groups)):
            yield from _apart(seen, sides, scores)


def _apart(seen: Evidence, sides: list[_Table], scores: list[_Table]) -> Iterator[Proposal]:
    bins, rest = divmod(sides[0].width, 4)
    classes = scores[0].width
    is_scored = all(is_part(one.values) for one in scores)
    # Bins are raw, so outputs of 0 to 1 are the scores; raw ones are told by a number of bins that is usual.
    is_told = is_scored and not any(is_part(one.values) for one in sides)
    if rest or bins < 4 or not (is_told or bins in USUAL or len(seen.labels) == classes):
        return
    options: dict[str, Any] = {} if bins == 8 else {"bins": bins}
    if not is_scored:
        options["scores"] = "sigmoid"
    why = f"{classes} scores and 4 x {bins} bins, in {len(sides)} pairs of outputs"
    yield Proposal("nanodet", why, True, classes, options, _trained(bins, trained.PICODET if len(sides) > 3 else None))


def _trained(bins: int, otherwise: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Say how the family trains: 16 bins are YOLOv8's."""
    return trained.YOLO8 if bins == 16 else otherwise or trained.NANODET


def _joined(seen: Evidence, values: Values, *, is_map: bool) -> Iterator[Proposal]:
    width, known = values.shape[1], len(seen.labels)
    for bins in dict.fromkeys((*USUAL, (width - known) // 4 if known else 8)):
        edge = width - 4 * bins
        if edge < 1 or bins < 4:
            continue
        for first in (False, True):
            sides, scores = (
                (values[:, : 4 * bins], values[:, 4 * bins :]) if first else (values[:, edge:], values[:, :edge])
            )
            # The outermost bins are no scores, or the cut is in the wrong place.
            if is_part(sides[:, :1]) or is_part(sides[:, -1:]) or not (is_part(scores) or are_rare(scores)):
                continue
            options: dict[str, Any] = {} if bins == 8 else {"bins": bins}
            options |= {"boxes_first": True} if first else {}
            options |= {} if is_part(scores) else {"scores": "sigmoid"}
            sure = known == edge or (is_part(scores) and not is_map)
            kind = "scores of 0 to 1" if is_part(scores) else "raw scores"
            why = f"{edge} {kind} {'behind' if first else 'before'} 4 x {bins} bins for each cell"
            yield Proposal("nanodet", why, sure, edge, options, _trained(bins, None))


def _table(one: Tensor, seen: Evidence) -> _Table | None:
    """Turn an output of any of the known layouts into rows, or give None if it is none or was never run."""
    layout = nanodet.rows_of(one, seen.size)
    if layout is None or not seen.runs:
        return None
    rows, width, order = layout
    found = [values[seen.outputs.index(one)].transpose(order).reshape(-1, width) for values in seen.runs]
    return _Table(rows, width, np.concatenate(found))
