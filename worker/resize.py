"""From a picture's pixels to the network's input, and back from its boxes to the picture.

Stage: on the decode threads, between :mod:`worker.decode` and the infer queue. Pure functions of arrays; a model's
``model.toml`` says which way its network was trained on.
"""

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

#: ``(height, width, 3) uint8``, BGR.
Pixels = npt.NDArray[np.uint8]

#: How a picture comes to the input's size: scaled to fit and padded; pulled to it, proportions lost; scaled to fit and
#: padded only to the next multiple, so that the input's size follows the picture's.
MODES = ("letterbox", "stretch", "multiple")

#: What a JPEG's sides are divided by while it is decoded. An eighth would save little more, and moves boxes
#: (docs/performance.md).
REDUCTIONS = (4, 2)

#: Pixels from which that is done: it moves boxes by a few per cent of their size, which in smaller photos buys little.
LARGE_PIXELS = 2_000_000

#: How pixels are computed when shrinking: averaged, or as OpenCV's default does, which most networks are trained on.
SHRINKING = {"area": cv2.INTER_AREA, "linear": cv2.INTER_LINEAR}


@dataclass(frozen=True, slots=True)
class Fit:
    """How a network wants its pictures.

    Attributes:
        mode: one of :data:`MODES`.
        size: (height, width) of the input, pixels; for ``multiple`` the largest.
        pad: value of the border, 0 to 255.
        centred: the picture stands in the middle of the border, not in its top left corner.
        multiple: both sides of the input are multiples of it, for ``multiple``.
        shrinking: a key of :data:`SHRINKING`.
    """

    size: tuple[int, int]
    mode: str = "letterbox"
    pad: int = 0
    centred: bool = True
    multiple: int = 32
    shrinking: str = "area"


@dataclass(frozen=True, slots=True)
class Frame:
    """How an original image lies in the network's input.

    Attributes:
        width: of the original image, upright, pixels; height likewise.
        scale_x: input pixels per original pixel; scale_y likewise.
        pad_x: columns of border left of the image, input pixels; pad_y: rows above it.
    """

    width: int
    height: int
    scale_x: float
    scale_y: float
    pad_x: int
    pad_y: int

    def to_original(self, points: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Map ``(..., 2)`` x and y from input pixels to pixels of the original, unclipped."""
        pad = np.array([self.pad_x, self.pad_y], np.float32)
        scale = np.array([self.scale_x, self.scale_y], np.float32)
        return (points - pad) / scale


def reduction(width: int, height: int, how: Fit) -> int:
    """Return by how much a JPEG's sides may be divided while it is decoded: 1, 2 or 4.

    What is left is on each axis at least as large as the picture in the input, whichever way EXIF turns it: that is
    known only after decoding. So the two sides must stay apart, too, or nobody could tell whether it was turned.
    """
    for by in REDUCTIONS if width * height >= LARGE_PIXELS else ():
        apart = width == height or math.ceil(width / by) != math.ceil(height / by)
        if apart and all(
            least <= side // by
            for sides in ((height, width), (width, height))
            for least, side in zip(_scaled(sides, how), sides, strict=True)
        ):
            return by
    return 1


def fit(
    image: Pixels, how: Fit, *, original: tuple[int, int] | None = None, reduced_by: int = 1
) -> tuple[Pixels, Frame]:
    """Make the network's input of ``image``.

    Args:
        image: ``(height, width, 3)`` uint8.
        how: what the network wants.
        original: (height, width), upright, of the picture that ``image`` was reduced from while it was decoded.
        reduced_by: how many of its pixels a side are one of ``image``; the last one may be made of fewer.

    Returns:
        ``(1, H, W, 3)`` uint8 contiguous, and how the image lies in it. Enlarging interpolates (INTER_LINEAR).
    """
    height, width = image.shape[:2]
    whole = original or (height, width)
    new_height, new_width = _scaled(whole, how)
    rows, columns = how.size
    if how.mode == "multiple":
        rows, columns = (math.ceil(side / how.multiple) * how.multiple for side in (new_height, new_width))
    pad_x, pad_y = ((columns - new_width) // 2, (rows - new_height) // 2) if how.centred else (0, 0)
    shrinks = new_width * new_height < width * height
    scaled: Any = cv2.resize(
        image, (new_width, new_height), interpolation=SHRINKING[how.shrinking] if shrinks else cv2.INTER_LINEAR
    )
    scale_x, scale_y = new_width / (width * reduced_by), new_height / (height * reduced_by)
    frame = Frame(whole[1], whole[0], scale_x, scale_y, pad_x, pad_y)
    if (rows, columns) == (new_height, new_width):
        return np.ascontiguousarray(scaled)[np.newaxis], frame
    canvas = np.full((1, rows, columns, 3), how.pad, np.uint8)
    canvas[0, pad_y : pad_y + new_height, pad_x : pad_x + new_width] = scaled
    return canvas, frame


def letterbox(image: Pixels, size: tuple[int, int]) -> tuple[Pixels, Frame]:
    """Scale ``image`` to fit ``size`` (height, width) without changing its proportions, and centre it on black."""
    return fit(image, Fit(size))


def _scaled(sides: tuple[int, int], how: Fit) -> tuple[int, int]:
    """Say how large a picture of ``sides`` (height, width) is in the input."""
    return how.size if how.mode == "stretch" else _inside(sides, how.size)


def _inside(sides: tuple[int, int], most: tuple[int, int]) -> tuple[int, int]:
    """Scale ``sides`` (height, width) to fit ``most`` without changing their proportions."""
    scale = min(most[0] / sides[0], most[1] / sides[1])
    height, width = (min(limit, max(1, round(side * scale))) for side, limit in zip(sides, most, strict=True))
    return height, width
