"""A JPEG's segments, walked without decoding: how large is it, is its end there, and what will decoding it cost?

Stage: under :mod:`worker.decode`. Pure. Pillow would walk them as well, but each fill byte of 30 MB in Python. Memory
follows from the pixels, but time from the scans as well: each of a progressive picture's goes over all of them, and may
be ten bytes long. 400 took 18 s at 64 megapixels, and a file has room for millions; a decoder is C code that no time
limit can end.
"""

import re
from typing import NamedTuple

from producer.errors import ImageTooLarge, InvalidImage

#: Most scans; a picture as programs write it has about ten.
MAX_SCANS = 100

#: Most segments before and between scans; the largest profiles and previews take some hundred.
MAX_SEGMENTS = 10_000

#: What ends the data of a scan: a marker that is neither a stuffed byte, a restart nor a fill byte.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")

_END, _SCAN, _FILL = 0xD9, 0xDA, 0xFF
_ALONE = frozenset((0x01, *range(0xD0, 0xD9)))
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset((0xC2, 0xC6, 0xCA, 0xCE))

#: Markers that may stand before a picture. Others libjpeg refuses, but of FF00 it skips only these two bytes and looks
#: for the next marker there, where we would jump by a length over what then is the picture.
_BEFORE = frozenset((0x01, *range(0xC0, 0xD8), 0xDB, 0xDC, 0xDD, *range(0xE0, 0xF0), 0xFE, _FILL))

#: Of a sample, as the decoder takes them.
_BITS = 8

_TRUNCATED = "The JPEG picture is truncated: its end is missing. Send the whole file."


class Frame(NamedTuple):
    """What the segments before a picture say of it.

    Attributes:
        width: of the picture, pixels.
        height: likewise.
        scan: where its first scan is.
        several: whether others belong to the same picture.
    """

    width: int
    height: int
    scan: int
    several: bool


def is_jpeg(data: bytes) -> bool:
    """Tell a JPEG by its first bytes."""
    return data.startswith(b"\xff\xd8\xff")


def frame(data: bytes) -> Frame:
    """Walk the segments of a JPEG up to its picture; each is one step, whatever is in it.

    Raises:
        InvalidImage: the file ends before the picture, or its header is damaged, or has more segments than
            :data:`MAX_SEGMENTS`, fill bytes counted.
    """
    at, width, height, components, progressive = 2, 0, 0, 0, False
    for _ in range(MAX_SEGMENTS):
        marker = _marker(data, at)
        if marker == _SCAN and width and height:
            return Frame(width, height, at, progressive or data[at + 4 : at + 5] < bytes([components]))
        if marker is None and at + 4 > len(data):
            raise InvalidImage(_TRUNCATED)
        if marker is None or marker not in _BEFORE:
            break
        if marker in _FRAMES and at + 10 <= len(data):
            if data[at + 4] != _BITS:
                raise InvalidImage(f"The JPEG picture has {data[at + 4]} bits a sample; {_BITS} can be decoded.")
            progressive, components = marker in _PROGRESSIVE, data[at + 9]
            height, width = int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
        at = _behind(data, at, marker)
    raise InvalidImage("The JPEG picture's header is damaged.")


def check(data: bytes, found: Frame) -> None:
    """Look at what comes behind the segments that :func:`frame` has ``found`` in ``data``.

    Raises:
        InvalidImage: the file is truncated, or has segments without end.
        ImageTooLarge: it has more scans than :data:`MAX_SCANS`.
    """
    # From the end, where it is: a search holds the GIL. Inside a scan FFD9 cannot be picture data.
    if data.rfind(b"\xff\xd9", found.scan) < 0:
        raise InvalidImage(_TRUNCATED)
    if found.several:
        _count_scans(data, found.scan)


def _count_scans(data: bytes, at: int) -> None:
    """Count as a decoder does: whatever lies between two segments is passed over."""
    scans = 0
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(data, at)
        marker = _marker(data, found.start()) if found else None
        if found is None or marker is None or marker == _END:
            return
        scans += marker == _SCAN
        if scans > MAX_SCANS:
            raise ImageTooLarge(f"The JPEG picture has more than {MAX_SCANS} scans, which take too long to decode.")
        at = _behind(data, found.start(), marker)
    raise InvalidImage("The JPEG picture has too many segments.")


def _marker(data: bytes, at: int) -> int | None:
    """Return the marker at ``at``; None where there is none."""
    return data[at + 1] if at + 4 <= len(data) and data[at] == 0xFF else None


def _behind(data: bytes, at: int, marker: int) -> int:
    """Return where the segment at ``at`` ends; a fill byte is one by itself."""
    if marker == _FILL:
        return at + 1
    return at + 2 + (0 if marker in _ALONE else int.from_bytes(data[at + 2 : at + 4], "big"))
