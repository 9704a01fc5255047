"""The images of ``map``, taken from the caller's iterable: those of one message, or of a few that go together.

Stage: before the round trip that sends them. Neighbours: :mod:`producer.images` reads each, :mod:`producer.answers`
counts them.

Messages that share a round trip cost the client and Redis less. But ``map`` runs in its caller's thread: while the
iterable makes up its mind, nothing can be sent. So an image waits for the next one only where many in a row came at
once. From a camera, or any slow source, each goes as soon as it is there. Where a fast source suddenly stops, up to
seven messages wait until it goes on; so do the answers of all others, which are handed over by the same thread.
"""

import time
from collections.abc import Iterable

from producer.answers import Group, Window
from producer.errors import FleetError
from producer.images import ImageSource, read

#: Most messages that go together, and bytes of images from which on none is added.
FEW = 8
FEW_BYTES = 1024**2

#: Seconds within which the images of a message are there at once, and messages in a row that were, before any waits.
AT_ONCE_S = 0.001
IN_A_ROW = 8


class Intake:
    """Takes images for one ``map``. Not thread-safe.

    Attributes:
        more: whether there may be more of them.
    """

    def __init__(self, images: Iterable[ImageSource], window: Window) -> None:
        self.more = True
        self._source = enumerate(images)
        self._window = window
        self._in_a_row = 0

    def take(self) -> list[Group]:
        """Take the images of the next job, and of a few more where the source is fast and the window has room."""
        groups = [self._next()]
        size = groups[0].size_bytes
        while self.more and self._is_fast() and len(groups) < FEW and size < FEW_BYTES and self._window.has_room():
            groups.append(self._next())
            size += groups[-1].size_bytes
        return [group for group in groups if group.pictures]

    def _is_fast(self) -> bool:
        return self._in_a_row >= IN_A_ROW

    def _next(self) -> Group:
        began = time.monotonic()
        group = self._read()
        self._in_a_row = self._in_a_row + 1 if time.monotonic() - began < AT_ONCE_S else 0
        return group

    def _read(self) -> Group:
        """Take the images of one job and read them; what cannot be read is answered."""
        group = Group()
        for _ in range(self._window.batch):
            try:
                index, image = next(self._source)
            except StopIteration:
                self.more = False
                break
            self._window.take()
            try:
                group.add(index, image, read(image))
            except FleetError as error:
                self._window.failed(index, image, error)
        return group
