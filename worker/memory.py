"""How much memory a worker may take, and what keeps it there.

Stage: beside :mod:`worker.detector`. Images differ a thousandfold in size, so their number bounds nothing: what is
bounded is the pixels decoded at once (:class:`Room`), the bytes of messages held (:mod:`worker.broker`) and, by the
number of decode threads, the encoded bytes fetched.
"""

import contextlib
import ctypes
import threading
from collections.abc import Iterator

from producer.wire import MAX_HELD_BYTES, MAX_MESSAGE_BYTES

#: Most memory that decoding takes per pixel, the result included: an animated PNG, a progressive CMYK JPEG. Measured
#: for every accepted kind: 6 to 12.1.
BYTES_PER_PIXEL = 12.5

#: Pictures of which tiles are under way, and what each of their pixels takes until the last tile is cut.
TILED_AT_ONCE = 2
BYTES_PER_KEPT_PIXEL = 3

#: An encoded image is in the parser's buffer, in Python's hands, and in Pillow's while its header is read.
COPIES_OF_IMAGE = 3

#: Images that a decode thread asks for in one round trip, and longest one that then waits its turn, beside the one that
#: is decoded. What is longer is fetched in its turn.
IMAGES_AT_ONCE = 4
AHEAD_BYTES = 1024 * 1024

#: A message that is held is there as it came, decoded, and as values.
COPIES_OF_MESSAGE = 4

#: Messages fetched from Redis in one go at most.
MESSAGES_AT_ONCE = 4

#: Blocks from this size on go back to the system as soon as they are free.
LARGE_BLOCK_BYTES = 4 * 1024 * 1024

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


class Room:
    """Lets images be decoded together for as long as their pixels fit, in the order in which they come. Thread-safe."""

    def __init__(self, pixels: int) -> None:
        """Make room for ``pixels`` at once; an image that is larger waits until it is alone."""
        self._size = pixels
        self._used = 0
        self._turn = threading.Lock()  # who waits here comes next, however small those behind
        self._change = threading.Condition()

    @contextlib.contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Wait for room, and take it for the length of the block."""
        with self._turn, self._change:
            self._change.wait_for(lambda: self._used == 0 or self._used + pixels <= self._size)
            self._used += pixels
        try:
            yield
        finally:
            with self._change:
                self._used -= pixels
                self._change.notify_all()


def headroom_bytes(*, max_pixels: int, max_image_bytes: int, decoders: int, models: int = 1) -> int:
    """Return what a worker may take beyond its memory when idle, whatever it is sent."""
    decoding = BYTES_PER_PIXEL * max_pixels
    ahead = (IMAGES_AT_ONCE - 1) * min(AHEAD_BYTES, max_image_bytes) * decoders * models
    fetched = COPIES_OF_IMAGE * max_image_bytes * decoders + ahead
    held = COPIES_OF_MESSAGE * (MAX_HELD_BYTES + MESSAGES_AT_ONCE * MAX_MESSAGE_BYTES)
    tiled = BYTES_PER_KEPT_PIXEL * TILED_AT_ONCE * max_pixels
    return int(decoding + fetched + held + tiled)


def explain(max_pixels: int, max_image_bytes: int, decoders: int, models: int) -> str:
    """Say the bound as a sentence for ``fleet-worker doctor``."""
    most = headroom_bytes(max_pixels=max_pixels, max_image_bytes=max_image_bytes, decoders=decoders, models=models)
    return f"Memory: at most {most / 2**20:,.0f} MiB more than when idle, whatever is sent."


def give_back_large_blocks() -> None:
    """Have the C library give large blocks back to the system at once, where it is glibc.

    By itself it keeps ever larger ones after the first was freed: 2,000 hostile files and messages then left a worker
    with 90 MB that nothing used, and each further thousand with more.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library, which has its own rules
        return
    mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)
    mallopt(_M_TRIM_THRESHOLD, 2 * LARGE_BLOCK_BYTES)
