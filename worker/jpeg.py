"""A JPEG's segments, walked without decoding: is its end there, and what will decoding it cost?

Stage: under :mod:`worker.decode`. Pure. Memory follows from the pixels, but time from the scans as well: each of a
progressive picture's goes over all of them, and may be ten bytes long. 400 took 18 s at 64 megapixels, and a file has
room for millions; a decoder is C code that no time limit can end.
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


class _Start(NamedTuple):
    """Where the first scan is, and whether others belong to the same picture."""

    at: int
    several: bool


def check_header(data: bytes) -> None:
    """Look at the segments before the picture, where there is one: Pillow walks any number of them, each in Python.

    Raises:
        InvalidImage: there are more than :data:`MAX_SEGMENTS`, fill bytes counted: 30 MB of these took 8 s.
    """
    if data.startswith(b"\xff\xd8"):
        _first_scan(data)


def check(data: bytes) -> None:
    """Look at the segments of ``data``.

    Raises:
        InvalidImage: the file is truncated, or has segments without end.
        ImageTooLarge: it has more scans than :data:`MAX_SCANS`.
    """
    start = _first_scan(data)
    # From the end, where it is: a search holds the GIL. Inside a scan FFD9 cannot be picture data.
    if start is None or data.rfind(b"\xff\xd9", start.at) < 0:
        raise InvalidImage("The JPEG picture is truncated: its end is missing. Send the whole file.")
    if start.several:
        _count_scans(data, start.at)


def _first_scan(data: bytes) -> _Start | None:
    at, components, progressive = 2, 0, False
    for _ in range(MAX_SEGMENTS):
        marker = _marker(data, at)
        if marker is None or marker == _END:
            return None
        if marker == _SCAN:
            return _Start(at, progressive or data[at + 4 : at + 5] < bytes([components]))
        if marker in _FRAMES:
            progressive, components = marker in _PROGRESSIVE, data[at + 9] if len(data) > at + 9 else 0
        at = _behind(data, at, marker)
    raise InvalidImage("The JPEG picture's header is damaged.")


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
