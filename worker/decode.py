"""From encoded bytes to the network's pixels, with limits that are checked before anything is allocated.

Stage: on the decode threads, between fetch and the infer queue. Pure functions of bytes and arrays.
"""

import io
import math
import struct
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image as Header
from PIL import UnidentifiedImageError
from PIL.BmpImagePlugin import BmpImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from producer.errors import ImageTooLarge, InvalidImage
from worker import jpeg
from worker.memory import Room
from worker.resize import Fit, Frame, Pixels, fit, letterbox, reduction

__all__ = ["MAX_SIDE", "Frame", "Limits", "Pixels", "decode", "letterbox"]

#: What is accepted beside JPEG, which is told by its own segments; Pillow reads only headers.
_OTHERS = tuple(str(kind.format) for kind in (PngImageFile, WebPImageFile, BmpImageFile))

#: Largest width or height, pixels. JPEG and WebP can hardly say more, and a strip of that length is no photo.
MAX_SIDE = 30_000

#: Pillow warns at a size of its own; ours is checked on the header, before any pixel.
Header.MAX_IMAGE_PIXELS = None
Header.preinit()  # loads the plugins that it always wants; else the first image would wait for them

#: OpenCV's flags for a picture whose sides are divided: libjpeg then computes fewer pixels from each block.
_FLAGS = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}

cv2.setNumThreads(1)  # the decode threads are the parallelism; OpenCV's own would fight inference for the cores


@dataclass(frozen=True, slots=True)
class Limits:
    """What an image may cost."""

    max_bytes: int
    max_pixels: int
    jpeg_scale: bool = True  # a JPEG much larger than the input is decoded at a smaller scale


def to_input(data: bytes, limits: Limits, how: Fit, room: Room) -> tuple[Pixels, Frame]:
    """Decode ``data`` and resize it as ``how`` says; the pixels in between live no longer than this takes.

    A JPEG that is much larger than the input is decoded at a half or a quarter (:func:`reduction`); whoever
    needs every pixel calls :func:`decode`.

    Raises:
        ImageTooLarge: as :func:`decode` says; InvalidImage likewise.
    """
    kind, width, height = _measure(data, limits)
    by = reduction(width, height, how) if limits.jpeg_scale and kind == "JPEG" else 1
    with room.hold(width * height):
        pixels = _decode(data, kind, width, height, by)
        turned = pixels.shape[:2] != _divided(height, width, by)
        return fit(pixels, how, original=(width, height) if turned else (height, width), reduced_by=by)


def to_picture(data: bytes, limits: Limits, room: Room) -> Pixels:
    """Decode ``data`` and keep the pixels, which the caller counts from then on; see :func:`decode`."""
    kind, width, height = _measure(data, limits)
    with room.hold(width * height):
        return _decode(data, kind, width, height)


def size_of(data: bytes, limits: Limits) -> tuple[int, int]:
    """Return width and height as the header says them, before EXIF turns the picture; raises as :func:`decode` does."""
    return _measure(data, limits)[1:]


def decode(data: bytes, limits: Limits) -> Pixels:
    """Decode a whole JPEG, PNG, WebP or BMP; EXIF orientation is applied, depth and alpha are converted to 8-bit BGR.

    Raises:
        ImageTooLarge: more bytes, pixels or a longer side than allowed, by the header alone.
        InvalidImage: empty, not one of those formats, truncated or damaged.
    """
    return _decode(data, *_measure(data, limits))


def _measure(data: bytes, limits: Limits) -> tuple[str, int, int]:
    if not data:
        raise InvalidImage("The image is empty (0 bytes).")
    if len(data) > limits.max_bytes:
        raise ImageTooLarge(f"The image has {len(data):,} bytes; at most {limits.max_bytes:,} are accepted.")
    found = jpeg.frame(data) if jpeg.is_jpeg(data) else None
    kind, width, height = ("JPEG", found.width, found.height) if found else _ask_pillow(data)
    if width * height > limits.max_pixels or max(width, height) > MAX_SIDE:
        raise ImageTooLarge(
            f"The image is {width} x {height} pixels; at most {limits.max_pixels:,} pixels and {MAX_SIDE:,} a side "
            "are accepted. Make it smaller."
        )
    if found is None:
        _check_whole(kind, data)
    else:
        jpeg.check(data, found)
    return kind, width, height


def _decode(data: bytes, kind: str, width: int, height: int, by: int = 1) -> Pixels:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS[by])
    except cv2.error as error:
        raise InvalidImage(f"The {kind} picture is damaged and cannot be decoded.") from error
    if pixels is None or pixels.size == 0:
        raise InvalidImage(f"The {kind} picture is damaged and cannot be decoded.")
    if sorted(pixels.shape[:2]) != sorted(_divided(height, width, by)):
        raise InvalidImage(f"The {kind} picture's header and content have different sizes.")
    return pixels  # type: ignore[return-value]


def _divided(height: int, width: int, by: int) -> tuple[int, int]:
    """Give the sides as libjpeg rounds them."""
    return math.ceil(height / by), math.ceil(width / by)


def _ask_pillow(data: bytes) -> tuple[str, int, int]:
    """Return format, width and height as the header claims them, without decoding.

    Raises:
        InvalidImage: not an image of an accepted format.
    """
    try:
        with Header.open(io.BytesIO(data), formats=_OTHERS) as header:
            return str(header.format), int(header.width), int(header.height)
    except UnidentifiedImageError:
        raise InvalidImage("The bytes are not an image this fleet knows. Send JPEG, PNG, WebP or BMP.") from None
    except Exception as error:  # Pillow's parsers raise all sorts on hostile headers
        raise InvalidImage("The image's header is damaged.") from error


def _check_whole(kind: str, data: bytes) -> None:
    """Refuse what OpenCV would half-decode and fill with grey: a file whose end is missing.

    Raises:
        InvalidImage: the file is truncated.
    """
    if not {"PNG": _png_whole, "WEBP": _webp_whole, "BMP": _bmp_whole}[kind](data):
        raise InvalidImage(f"The {kind} picture is truncated: its end is missing. Send the whole file.")


def _png_whole(data: bytes) -> bool:
    """Walk the chunks: at least one IDAT, and IEND within the file."""
    at, pixels = 8, False
    while at + 12 <= len(data):
        length, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if name == b"IEND":
            return pixels
        pixels |= name == b"IDAT"
        at += 12 + length
    return False


def _webp_whole(data: bytes) -> bool:
    return len(data) >= 12 and 8 + int.from_bytes(data[4:8], "little") <= len(data)


def _bmp_whole(data: bytes) -> bool:
    """Uncompressed rows are as long as the header says; compressed ones are left to the decoder."""
    if len(data) < 34:
        return False
    (offset,) = struct.unpack_from("<I", data, 10)
    if int.from_bytes(data[14:18], "little") < 40:
        return bool(len(data) > offset)
    width, height, _, depth, compression = struct.unpack_from("<iiHHI", data, 18)
    if compression not in (0, 3):
        return bool(len(data) > offset)
    return bool(len(data) >= offset + (abs(width) * depth + 31) // 32 * 4 * abs(height))
