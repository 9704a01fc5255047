"""Detections drawn into a copy of their picture.

Stage: after the results, for ``fleet detect --draw`` only; needs the extra ``draw`` (OpenCV, numpy). Sizes follow the
picture, so that lines and letters are as easy to see at 100 as at 6000 pixels.
"""

import colorsys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import cv2

from producer.errors import InvalidImage
from producer.wire import Detection, Result

Colour: TypeAlias = tuple[int, int, int]

#: (left, top, right, bottom) in whole pixels.
Box: TypeAlias = tuple[int, int, int, int]

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_INK: Colour = (24, 24, 24)
_PAPER: Colour = (255, 255, 255)

#: Fractional bits of coordinates handed to OpenCV: antialiased lines between pixels.
_SHIFT = 4

#: Formats that are written as they were read; others become PNG.
_WRITTEN = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})


@dataclass(frozen=True, slots=True)
class Pen:
    """Sizes that fit one picture.

    Attributes:
        line_px: width of a box's line.
        dot_px: radius of a keypoint.
        scale: OpenCV's font scale.
        stroke_px: width of a letter's stroke.
        margin_px: free space around a label.
    """

    line_px: int
    dot_px: int
    scale: float
    stroke_px: int
    margin_px: int

    @classmethod
    def for_size(cls, width: int, height: int) -> "Pen":
        """Choose sizes for a picture of ``width`` x ``height`` pixels."""
        side = (width * height) ** 0.5
        text_px = max(9.0, side * 0.024)
        return cls(
            line_px=max(1, round(side / 280)),
            dot_px=max(1, round(side / 230)),
            scale=text_px / 22,  # capital letters of this font are 22 px high at scale 1
            stroke_px=max(1, round(text_px / 11)),
            margin_px=max(2, round(text_px * 0.4)),
        )


def colour_of(label_id: int) -> Colour:
    """Return the label's colour, BGR: hues a golden ratio apart, so that neighbours differ most."""
    red, green, blue = colorsys.hsv_to_rgb((0.36 + label_id * 0.618034) % 1.0, 0.82, 0.98)
    return round(255 * blue), round(255 * green), round(255 * red)


def ink_on(colour: Colour) -> Colour:
    """Return black or white, whichever is easier to read on ``colour`` (relative luminance, ITU-R BT.601)."""
    blue, green, red = colour
    return _INK if 0.114 * blue + 0.587 * green + 0.299 * red > 140 else _PAPER


def annotate(image: Any, detections: Sequence[Detection]) -> Any:
    """Draw ``detections`` into ``image``, an (H, W, 3) uint8 BGR array, and return it; the best end up on top."""
    height, width = image.shape[:2]
    pen = Pen.for_size(width, height)
    taken: list[Box] = []
    for one in reversed(detections):
        _draw_box(image, one, pen)
    for one in detections:
        _draw_label(image, one, pen, taken)
    return image


def _draw_box(image: Any, one: Detection, pen: Pen) -> None:
    colour = colour_of(one.label_id)
    corners = [round(edge * 2**_SHIFT) for edge in one.box]
    start, end = (corners[0], corners[1]), (corners[2], corners[3])
    # A thin dark line underneath keeps the box visible on a background of its own colour.
    halo_px = pen.line_px + max(2, pen.line_px // 2)
    cv2.rectangle(image, start, end, _INK, halo_px, cv2.LINE_AA, _SHIFT)
    cv2.rectangle(image, start, end, colour, pen.line_px, cv2.LINE_AA, _SHIFT)
    for x, y in one.keypoints:
        centre = (round(x * 2**_SHIFT), round(y * 2**_SHIFT))
        cv2.circle(image, centre, (pen.dot_px + max(1, pen.dot_px // 3)) << _SHIFT, _INK, -1, cv2.LINE_AA, _SHIFT)
        cv2.circle(image, centre, pen.dot_px << _SHIFT, colour, -1, cv2.LINE_AA, _SHIFT)


def _draw_label(image: Any, one: Detection, pen: Pen, taken: list[Box]) -> None:
    height, width = image.shape[:2]
    text = f"{one.label} {one.score:.2f}"
    scale, stroke_px, margin_px = pen.scale, pen.stroke_px, pen.margin_px
    (text_w, text_h), drop = cv2.getTextSize(text, _FONT, scale, stroke_px)
    if text_w + 2 * margin_px > width:
        shrink = max(0.2, (width - 2 * margin_px) / max(1, text_w))
        scale, stroke_px = scale * shrink, max(1, round(stroke_px * shrink))
        (text_w, text_h), drop = cv2.getTextSize(text, _FONT, scale, stroke_px)
    size = (text_w + 2 * margin_px, text_h + drop + margin_px)
    left, top, right, bottom = place = place_label(one.box, size, (width, height), pen.line_px, taken)
    taken.append(place)
    colour = colour_of(one.label_id)
    cv2.rectangle(image, (left, top), (right - 1, bottom - 1), colour, -1)
    origin = (left + margin_px, bottom - drop - margin_px // 2)
    cv2.putText(image, text, origin, _FONT, scale, ink_on(colour), stroke_px, cv2.LINE_AA)


def place_label(
    box: Sequence[float], size: tuple[int, int], picture: tuple[int, int], line_px: int, taken: Iterable[Box]
) -> Box:
    """Find room for a label of ``size`` at ``box``: above it, below it, or inside; always within the picture."""
    used = list(taken)
    x1, y1, _, y2 = (round(edge) for edge in box)
    (label_w, label_h), (width, height) = size, picture
    half = (line_px + 1) // 2
    left = max(0, min(x1 - half, width - label_w))
    tops = [y1 - half - label_h, y2 + half, y1 + half, y2 - half - label_h]
    fitting = [top for top in tops if 0 <= top <= height - label_h]
    places = [(left, top, left + label_w, top + label_h) for top in fitting]
    free = [place for place in places if not any(_overlap(place, other) for other in used)]
    if free or places:
        return (free or places)[0]
    top = max(0, min(y1, height - label_h))
    return left, top, left + label_w, top + label_h


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


class Album:
    """Writes annotated pictures into a folder, none over another and none over an input."""

    def __init__(self, folder: Path, inputs: Iterable[Path]) -> None:
        """Write into ``folder``, which is made if need be.

        Raises:
            OSError: it cannot be made.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder.resolve()
        self._taken = {path.resolve() for path in inputs}

    def add(self, path: Path, result: Result) -> Path:
        """Draw ``result`` into a copy of the picture at ``path`` and return where it is.

        Raises:
            InvalidImage: OpenCV cannot read the picture, or not write the copy.
        """
        try:
            # Upright as its EXIF says: the frame that boxes are in.
            image = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if image is None:
                raise InvalidImage(f"{path} cannot be opened for drawing.")
            target = self._free_name(path)
            if not cv2.imwrite(str(target), annotate(image, result.detections)):
                raise InvalidImage(f"{target} cannot be written.")
        except cv2.error as error:
            raise InvalidImage(f"{path} cannot be drawn: {str(error).strip():.200}") from error
        return target

    def _free_name(self, path: Path) -> Path:
        suffix = path.suffix if path.suffix.lower() in _WRITTEN else ".png"
        number, target = 1, self._folder / f"{path.stem}{suffix}"
        while target in self._taken:
            number += 1
            target = self._folder / f"{path.stem}-{number}{suffix}"
        self._taken.add(target)
        return target
