"""The images of ``map``, taken from the caller's iterable: those of one message, or of a few that go together.

Stage: before the round trip that sends them. Neighbours: :mod:`producer.images` reads each, :mod:`producer.answers`
counts them. Which go together is written once, as a conversation with iterable and disk (:mod:`producer.steps`).

Messages that share a round trip cost the client and Redis less. But while the iterable makes up its mind, ``map`` sends
nothing. So an image waits for the next one only where many in a row came at once. From a camera, or any slow source,
each goes as soon as it is there. Where a fast source suddenly stops, up to seven messages wait until it goes on; so do
the answers of all others, which are handed over by the same thread or task. And where a window is full, a fast source
waits until there is room for a few again.
"""

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Generator, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from producer.answers import Group, Window
from producer.errors import FleetError
from producer.images import ImageSource, Picture, read
from producer.steps import drive, drive_async

#: Most messages that go together, and bytes of images from which on none is added.
FEW = 8
FEW_BYTES = 1024**2

#: Seconds within which the images of a message are there at once, and messages in a row that were, before any waits.
AT_ONCE_S = 0.001
IN_A_ROW = 8


#: The reply to :class:`Next` when there are no more images.
END = object()


@dataclass(frozen=True, slots=True)
class Next:
    """Take the next image from the caller's iterable and reply with it, or with :data:`END`."""


@dataclass(frozen=True, slots=True)
class Read:
    """Read ``image`` and reply with what was read, or with the error."""

    image: ImageSource


Taking: TypeAlias = Generator[Next | Read, Any, list[Group]]


class Gathering:
    """Says which images of one ``map`` go together. Not thread-safe.

    Attributes:
        more: whether there may be more of them.
    """

    def __init__(self, window: Window) -> None:
        self.more = True
        self._window = window
        self._was_full = False
        self._few = FEW  # of messages of the size that comes
        self._index = 0
        self._in_a_row = 0

    def goes_on(self) -> bool:
        """Tell whether to take more now.

        A full window has room for one as soon as one is answered, and so all would go by themselves from then on. From
        a fast source none is taken until a few may go together, an eighth of the window at most.
        """
        few = min(self._few, self._window.eighth) if self._was_full and self._is_fast() else 1
        self._was_full = not self._window.has_room(few)
        return self.more and not self._was_full

    def steps(self) -> Taking:
        """Take the images of the next job, and of a few more where the source is fast and the window has room."""
        groups = [(yield from self._next())]
        size = groups[0].size_bytes
        while self.more and self._is_fast() and len(groups) < FEW and size < FEW_BYTES and self._window.has_room():
            groups.append((yield from self._next()))
            size += groups[-1].size_bytes
        if size >= FEW_BYTES or len(groups) == FEW:  # else it was the window, or a pause, that ended it
            self._few = len(groups)
        return [group for group in groups if group.pictures]

    def _is_fast(self) -> bool:
        return self._in_a_row >= IN_A_ROW

    def _next(self) -> Generator[Next | Read, Any, Group]:
        began = time.monotonic()
        group = yield from self._read()
        self._in_a_row = self._in_a_row + 1 if time.monotonic() - began < AT_ONCE_S else 0
        return group

    def _read(self) -> Generator[Next | Read, Any, Group]:
        """Take the images of one job and read them; what cannot be read is answered."""
        group = Group()
        for _ in range(self._window.batch):
            image = yield Next()
            if image is END:
                self.more = False
                break
            index, self._index = self._index, self._index + 1
            self._window.take()
            picture = yield Read(image)
            if isinstance(picture, FleetError):
                self._window.failed(index, image, picture)
            else:
                group.add(index, image, picture)
        return group


class Intake(Gathering):
    """Takes images for one ``map``."""

    def __init__(self, images: Iterable[ImageSource], window: Window) -> None:
        super().__init__(window)
        self._images = iter(images)

    def take(self) -> list[Group]:
        """Take the images of the next jobs, those that are to go together; none where the images are at their end."""
        return drive(self.steps(), self._do)

    def _do(self, wish: Next | Read) -> Any:
        return _read(wish.image) if isinstance(wish, Read) else next(self._images, END)


class AsyncIntake(Gathering):
    """Takes images for one ``map`` of asyncio's, from either kind of iterable, and reads files in a thread."""

    def __init__(self, images: Iterable[ImageSource] | AsyncIterable[ImageSource], window: Window) -> None:
        super().__init__(window)
        self._images = aiter(images if isinstance(images, AsyncIterable) else _lazily(images))

    async def take(self) -> list[Group]:
        """Do what :meth:`Intake.take` does."""
        return await drive_async(self.steps(), self._do)

    async def _do(self, wish: Next | Read) -> Any:
        if isinstance(wish, Next):
            return await anext(self._images, END)
        if isinstance(wish.image, bytes):
            return _read(wish.image)
        return await asyncio.to_thread(_read, wish.image)  # there may be a disk behind it


async def _lazily(images: Iterable[ImageSource]) -> AsyncIterator[ImageSource]:
    for image in images:
        yield image


def _read(image: ImageSource) -> Picture | FleetError:
    try:
        return read(image)
    except FleetError as error:
        return error
