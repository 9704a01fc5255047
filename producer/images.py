"""From what a caller calls an image to the bytes that travel.

Stage: the client's first step. Neighbours: :mod:`producer.blobs` limits the size, :mod:`producer.requests` sends the
bytes. numpy is not imported: an array is recognised by its shape, dtype and ``tobytes``.
"""

import os
import stat
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeAlias, runtime_checkable

from producer.blobs import check_size
from producer.errors import ImageTooLarge, InvalidImage
from producer.wire import MAX_IMAGE_BYTES

#: File names that end so are pictures; all are formats that workers read.
SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp"})


@runtime_checkable
class Array(Protocol):
    """What numpy's arrays have and this module needs."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length along each axis."""
        ...

    @property
    def dtype(self) -> Any:
        """Type of the items; its ``str`` is a name such as ``uint8``."""
        ...

    def tobytes(self) -> bytes:
        """Give the items in C order."""
        ...


#: A path, the bytes of a picture, a file open for reading bytes, or a uint8 array: (H, W, 3) BGR, (H, W, 4) BGRA or
#: (H, W) grey.
ImageSource: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Array


@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded image.

    Attributes:
        data: JPEG, PNG, WebP or BMP, as far as the caller knows.
        name: what logs may call it; never its content.
    """

    data: bytes
    name: str = ""

    def __str__(self) -> str:
        size = f"{len(self.data):,} bytes"
        return f"{self.name}, {size}" if self.name else size


def describe(pictures: Iterable[Picture]) -> str:
    """Describe pictures for logs, events and Flower: names and sizes only."""
    found = list(pictures)
    if len(found) == 1:
        return f"({found[0]})"
    names = ", ".join(picture.name or "bytes" for picture in found[:3])
    return f"([{names}{', …' if len(found) > 3 else ''}], {len(found)} images, {_total(found):,} bytes)"


def read(image: ImageSource) -> Picture:
    """Read ``image`` into memory; blocks while a file is read.

    Raises:
        InvalidImage: there is nothing to read there, or it is not a kind of image.
        ImageTooLarge: it has more than :data:`producer.wire.MAX_IMAGE_BYTES` bytes.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return Picture(check_size(bytes(image)))
    if isinstance(image, str | os.PathLike):
        return _read_path(Path(image))
    if isinstance(image, Array):
        return _read_array(image)
    if callable(getattr(image, "read", None)):
        return _read_file(image)
    raise InvalidImage(
        f"An image is a path, bytes, a file opened with 'rb' or a uint8 array (H, W, 3), not {type(image).__name__}."
    )


def _read_path(path: Path) -> Picture:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InvalidImage(f"{path} is a folder; name the images in it, or run: fleet detect {path}")
        if not stat.S_ISREG(status.st_mode):
            raise InvalidImage(f"{path} is not an ordinary file; open it and send what it holds.")
        if status.st_size > MAX_IMAGE_BYTES:
            raise ImageTooLarge(f"{path} has {status.st_size:,} bytes; at most {MAX_IMAGE_BYTES:,} are accepted.")
        data = path.read_bytes()
    except FileNotFoundError as error:
        where = "" if path.is_absolute() else f", it is relative to {Path.cwd()}"
        raise InvalidImage(f"There is no file {path}; check the path{where}.") from error
    except PermissionError as error:
        raise InvalidImage(f"{path} may not be read by this user; change its permissions.") from error
    except (OSError, ValueError) as error:
        raise InvalidImage(f"{path} cannot be read: {error}") from error
    if not data:
        raise InvalidImage(f"{path} is empty (0 bytes).")
    return Picture(check_size(data), _plain(path.name))


def _read_file(file: BinaryIO) -> Picture:
    try:
        data = file.read(MAX_IMAGE_BYTES + 1)
    except (OSError, ValueError, StopIteration) as error:  # the last ends a file-like object over an iterator
        raise InvalidImage(f"The file cannot be read: {str(error) or repr(error)}") from error
    if not isinstance(data, bytes):
        raise InvalidImage("The file gives text; open it for reading bytes: open(path, 'rb').")
    if len(data) > MAX_IMAGE_BYTES:
        raise ImageTooLarge(f"The file has more than {MAX_IMAGE_BYTES:,} bytes, the most that is accepted.")
    name = getattr(file, "name", "")
    return Picture(check_size(data), _plain(Path(name).name) if isinstance(name, str) else "")


def _read_array(array: Array) -> Picture:
    """Encode ``array`` as BMP: lossless, and as fast as copying it."""
    shape = tuple(int(side) for side in array.shape)
    text = "x".join(map(str, shape))
    if str(array.dtype) != "uint8":
        raise InvalidImage(
            f"The array holds {array.dtype}; pixels are uint8: (array * 255).astype('uint8') for 0 to 1."
        )
    channels = 1 if len(shape) == 2 else shape[2] if len(shape) == 3 else 0
    if channels not in (1, 3, 4) or 0 in shape:
        raise InvalidImage(f"The array is {text or 'a single number'}; an image is (H, W, 3) BGR, (H, W, 4) or (H, W).")
    height, width = shape[:2]
    if height * (width * channels + 3) + 2048 > MAX_IMAGE_BYTES:
        raise ImageTooLarge(f"The array {text} is too large to send unpacked; encode it as JPEG or PNG and send that.")
    return Picture(check_size(_bmp(array.tobytes(), width, height, channels)), f"array {text}")


def _bmp(pixels: bytes, width: int, height: int, channels: int) -> bytes:
    """Put a BMP header before ``pixels``, rows from the top, each padded to a multiple of 4 bytes."""
    row = width * channels
    padding = bytes(-row % 4)
    if padding:
        view = memoryview(pixels)
        pixels = b"".join(part for top in range(0, len(pixels), row) for part in (view[top : top + row], padding))
    palette = b"".join(bytes((grey, grey, grey, 0)) for grey in range(256)) if channels == 1 else b""
    start = 14 + 40 + len(palette)
    colours = 256 if channels == 1 else 0
    # A negative height says that the first row is the top one.
    info = struct.pack("<IiiHHIIiiII", 40, width, -height, 1, 8 * channels, 0, len(pixels), 2835, 2835, colours, 0)
    return b"".join((struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start), info, palette, pixels))


def _plain(name: str) -> str:
    """Make a file's name fit for a log line."""
    return "".join(sign if sign.isprintable() else "?" for sign in name)[:80]


def _total(pictures: Iterable[Picture]) -> int:
    return sum(len(picture.data) for picture in pictures)
