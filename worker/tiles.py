"""Where a big picture is cut into tiles, and how what the tiles saw becomes one list of boxes.

Stage: under :mod:`worker.tiling`, which runs the tiles. Pure functions of sizes and arrays.

Each tile is a window on the picture, and the whole picture, scaled down, is one more: small things are found in the
tiles, and things too large for a tile are found in the whole.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from producer import wire
from producer.errors import InvalidRequest
from worker.overlaps import area, clipped, iou
from worker.resize import Pixels

#: ``(n, 6 + 2 * points) float32``: label, score, x1, y1, x2, y2, keypoints; pixels of the original picture.
Rows: TypeAlias = npt.NDArray[np.float32]

#: Most rows that are merged, best first: three times as many as a result holds.
CANDIDATES = 3000

#: A box that ends less than this part of the window's side away from the window's edge was cut there, as far as can be
#: told: networks place edges a little inside.
CUT_WITHIN = 0.015

#: Boxes of two windows that overlap more are one object, unless the model's own limit is lower. Networks of which two
#: boxes in one picture may overlap by 0.7 still place one object a little differently in two windows.
MOST_OVERLAP = 0.5

#: Two boxes of which one was cut are one object, if they agree that much in what both windows saw.
SAME_SEEN = 0.5


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a picture that the network looks at: columns x1 to x2, rows y1 to y2, pixels of the original."""

    x1: int
    y1: int
    x2: int
    y2: int

    def cut(self, picture: Pixels) -> Pixels:
        """Return the window's pixels; no copy."""
        return picture[self.y1 : self.y2, self.x1 : self.x2]


def windows(width: int, height: int, tile: wire.Tile, input_size: tuple[int, int]) -> list[Window]:
    """Return what is to be looked at of a picture: the tiles row by row, then the whole; the whole alone if it fits.

    Tiles are of one size and spread evenly, so that neighbours share at least ``tile.overlap`` of a tile.

    Args:
        width: of the picture; height likewise.
        tile: as it was asked for.
        input_size: (height, width) of the network's input, the size of a tile where none was asked for.

    Raises:
        InvalidRequest: there would be more than :data:`producer.wire.MAX_TILES` of them.
    """
    sides = (tile.size, tile.size) if tile.size is not None else (input_size[1], input_size[0])
    columns, rows = (_count(length, side, tile.overlap) for length, side in zip((width, height), sides, strict=True))
    whole = Window(0, 0, width, height)
    if columns * rows == 1:
        return [whole]
    if columns * rows > wire.MAX_TILES:
        raise InvalidRequest(
            f"A picture of {width} x {height} pixels gives {columns * rows:,} tiles of {sides[0]} x {sides[1]}; at "
            f"most {wire.MAX_TILES} are cut. Choose a larger tile or less overlap."
        )
    spread = [(x, y) for y in _starts(height, sides[1], rows) for x in _starts(width, sides[0], columns)]
    tiles = [Window(x, y, min(x + sides[0], width), min(y + sides[1], height)) for x, y in spread]
    return [*tiles, whole]


def _count(length: int, side: int, overlap: float) -> int:
    """Return how many tiles of ``side`` cover ``length`` with at least that overlap."""
    if length <= side:
        return 1
    step = max(1, side - math.ceil(side * overlap))
    return math.ceil((length - side) / step) + 1


def _starts(length: int, side: int, count: int) -> list[int]:
    """Return where ``count`` tiles begin: the first at the one end, the last ends at the other."""
    return [0] if count == 1 else [number * (length - side) // (count - 1) for number in range(count)]


def merge(seen: Sequence[tuple[Window, Rows]], whole: Window, *, limit: float, agnostic: bool = False) -> Rows:
    """Make one list of what several windows saw.

    Of two boxes of one class from different windows that overlap by more than ``limit``, the better stays, as in
    non-maximum suppression. A box at an inner edge of its window may be a part of an object: it yields to a box that
    agrees with it in what both windows saw, and parts of which none is whole are joined. Boxes of one window
    are left as they are; there the network's own suppression has decided.

    Args:
        seen: windows, and their rows in pixels of the picture.
        whole: the whole picture.
        limit: the model's own, of the overlap of two objects.
        agnostic: classes do not matter.

    Returns:
        Best score first; at most CANDIDATES rows are looked at, at most MAX_DETECTIONS returned.
    """
    rows = np.concatenate([found for _, found in seen])
    origin = np.repeat(np.arange(len(seen)), [len(found) for _, found in seen])
    best = np.argsort(-rows[:, 1], kind="stable")[:CANDIDATES]
    rows, origin = rows[best], origin[best]
    edges = np.array([[one.x1, one.y1, one.x2, one.y2] for one, _ in seen], np.float64)[origin]
    cut = _are_cut(rows[:, 2:6], edges, whole)
    labels = np.zeros(len(rows)) if agnostic else rows[:, 0]
    groups = _Groups(rows[:, 2:6].astype(np.float64), edges, cut, labels, origin, min(limit, MOST_OVERLAP))
    for index in np.argsort(cut, kind="stable"):  # whole ones first, each kind best first
        groups.add(int(index))
    kept = sorted(groups.leaders)[: wire.MAX_DETECTIONS]
    merged = rows[kept]
    for place, index in enumerate(kept):
        if len(parts := groups.members[index]) > 1:
            merged[place, 2:6] = _joined(rows[parts, 2:6], edges[parts])
    return merged


def _are_cut(boxes: Rows, edges: npt.NDArray[np.float64], whole: Window) -> npt.NDArray[np.bool_]:
    """Tell which boxes reach an edge of their window that is not the picture's."""
    margin = CUT_WITHIN * np.tile(edges[:, 2:] - edges[:, :2], 2)
    inner = edges != np.array([whole.x1, whole.y1, whole.x2, whole.y2])
    inward = np.array([1, 1, -1, -1])
    cut: npt.NDArray[np.bool_] = (((boxes - edges) * inward < margin) & inner).any(axis=1)
    return cut


def _joined(boxes: Rows, edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the box around parts of one object: of each what its window saw, not what the network guessed beyond."""
    seen = clipped(boxes, edges)
    seen = np.where(area(seen)[:, None] > 0, seen, boxes)
    return np.concatenate([seen[:, :2].min(axis=0), seen[:, 2:].max(axis=0)])


class _Groups:
    """Rows that are one object, under the first of them that came."""

    def __init__(  # noqa: PLR0913, PLR0917 - columns of one table
        self,
        boxes: npt.NDArray[np.float64],
        edges: npt.NDArray[np.float64],
        cut: npt.NDArray[np.bool_],
        labels: npt.NDArray[np.floating],
        origin: npt.NDArray[np.integer],
        limit: float,
    ) -> None:
        self._boxes, self._edges, self._cut = boxes, edges, cut
        self._labels, self._origin, self._limit = labels, origin, limit
        self._kept = np.zeros(len(boxes), np.intp)  # rows that stand for themselves or for a part, in their order
        self._sides = np.zeros((4, len(boxes)))  # theirs
        self._count = 0
        self._leader = np.arange(len(boxes))
        self.members: dict[int, list[int]] = {}

    @property
    def leaders(self) -> list[int]:
        """The row of each object that stands for it."""
        return list(self.members)

    def add(self, index: int) -> None:
        """Find out whether row ``index`` is one of the objects so far, or a new one."""
        known = self._touching(index)
        leaders = np.unique(self._leader[known[self._same(index, known)]])  # best first
        if len(leaders) and not self._cut[leaders].all():
            return
        parts = [part for leader in leaders for part in self.members.pop(int(leader))]  # it shows that they are one
        lead = int(leaders[0]) if parts else index
        self.members[lead] = [*parts, index]
        self._leader[self.members[lead]] = lead
        self._kept[self._count] = index
        self._sides[:, self._count] = self._boxes[index]
        self._count += 1

    def _touching(self, index: int) -> npt.NDArray[np.intp]:
        """Return the rows so far whose boxes meet that of row ``index``: few of many, found fast."""
        x1, y1, x2, y2 = self._boxes[index]
        left, top, right, bottom = self._sides[:, : self._count]
        found: npt.NDArray[np.intp] = self._kept[: self._count][(left < x2) & (right > x1) & (top < y2) & (bottom > y1)]
        return found

    def _same(self, index: int, known: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
        """Tell which of the rows ``known`` show the object of row ``index``."""
        mine, theirs = self._boxes[index], self._boxes[known]
        both = clipped(self._edges[known], self._edges[index])  # what both windows saw
        agree = iou(clipped(theirs, both), clipped(mine[None], both)) > SAME_SEEN
        parted = self._cut[known] | self._cut[index]
        comparable = (self._labels[known] == self._labels[index]) & (self._origin[known] != self._origin[index])
        told: npt.NDArray[np.bool_] = comparable & ((iou(theirs, mine) > self._limit) | (parted & agree))
        return told
