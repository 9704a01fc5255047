"""Films: frames out of a file, annotated frames into another.

Stage: before and after :mod:`producer.cli_film`; needs the extra ``draw`` (OpenCV with its FFmpeg). Sound is not kept.
"""

import os
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Full, Queue
from typing import Any, Self

import cv2

from producer.errors import InvalidImage
from producer.paths import FILM_SUFFIXES

# OpenCV and FFmpeg would write their own views of a damaged file to standard error; ours is one sentence.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)

#: Coder by the file's ending, of those that OpenCV's own FFmpeg has; a browser plays .webm.
_CODERS = {".webm": "VP80", ".avi": "MJPG"}
_CODER = "mp4v"

#: JPEG quality of frames that are sent: the boxes of CenterFace move by less than a pixel.
_QUALITY = 90

#: Frames read and encoded ahead, so that reading goes on while others are drawn and written.
_AHEAD = 8

#: Films and cameras that do not know their frames per second.
_FPS = 25.0


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One frame.

    Attributes:
        number: from 0.
        time_s: from the film's beginning.
        pixels: (H, W, 3) uint8 BGR, upright.
        jpeg: the same, encoded.
    """

    number: int
    time_s: float
    pixels: Any
    jpeg: bytes


def to_jpeg(pixels: Any) -> bytes:
    """Encode ``pixels``, (H, W, 3) uint8 BGR.

    Raises:
        InvalidImage: OpenCV cannot.
    """
    done, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not done:
        raise InvalidImage("A frame cannot be encoded.")
    return bytes(data)


def sane_fps(fps: float) -> float:
    """Return ``fps`` if a film may have it, else a usual one; cameras and streams often say 0 or 90,000."""
    return fps if 0.5 <= fps <= 240 else _FPS


class Film:
    """A film that is read from its beginning to its end."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            InvalidImage: it is not there, or OpenCV cannot read it.
        """
        if not path.is_file():
            raise InvalidImage(f"There is no file {path}.")
        self._capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        first, self._first = self._capture.read()
        if not first:
            raise InvalidImage(f"{path} cannot be read as a film.")
        self.path = path
        self.height, self.width = self._first.shape[:2]
        self.fps = sane_fps(self._capture.get(cv2.CAP_PROP_FPS))
        #: How many it says it has; 0 when it does not say.
        self.frames = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    @contextmanager
    def reading(self) -> Generator[Generator[Frame, None, None], None, None]:
        """Read and encode in a thread of its own for the length of the block; gives all frames, once."""
        queue: Queue[Frame | None] = Queue(_AHEAD)
        stop = threading.Event()
        thread = threading.Thread(target=self._read, args=(queue, stop), name="film-reader", daemon=True)
        thread.start()
        try:
            yield _until_none(queue)
        finally:
            stop.set()
            thread.join()
            self._capture.release()

    def _read(self, queue: "Queue[Frame | None]", stop: threading.Event) -> None:
        number, pixels = 0, self._first
        while pixels is not None and not stop.is_set():
            time_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            _put(queue, Frame(number, time_s or number / self.fps, pixels, to_jpeg(pixels)), stop)
            number += 1
            _, pixels = self._capture.read()
        _put(queue, None, stop)


def _put(queue: "Queue[Frame | None]", item: Frame | None, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            queue.put(item, timeout=0.1)
        except Full:
            continue
        return


def _until_none(queue: "Queue[Frame | None]") -> Generator[Frame, None, None]:
    while (frame := queue.get()) is not None:
        yield frame


class FilmWriter:
    """Writes frames into a film; its format follows its file's ending."""

    def __init__(self, path: Path, fps: float, width: int, height: int) -> None:
        """Begin the film at ``path``; a file of that name is replaced.

        Raises:
            OSError: it cannot be written there, or not in that format.
        """
        if path.suffix.lower() not in FILM_SUFFIXES:
            raise OSError(f"{path} is no name of a film; films end in {', '.join(sorted(FILM_SUFFIXES))}")
        path.parent.mkdir(parents=True, exist_ok=True)
        coder = cv2.VideoWriter.fourcc(*_CODERS.get(path.suffix.lower(), _CODER))
        self._size = width, height
        self._writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, coder, fps, self._size)
        if not self._writer.isOpened():
            raise OSError(f"{path} cannot be written as a film")

    def write(self, pixels: Any, times: int = 1) -> None:
        """Add a frame, ``times`` times; one of another size is scaled to the film's."""
        if pixels.shape[1::-1] != self._size:
            pixels = cv2.resize(pixels, self._size)
        for _ in range(times):
            self._writer.write(pixels)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the film; without it no player reads the file."""
        self._writer.release()
