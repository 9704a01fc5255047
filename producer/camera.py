"""A live source: a camera, a stream, or a film that is played as if it were one.

Stage: before :mod:`producer.live`; needs the extra ``draw`` (OpenCV with its FFmpeg).
"""

import os
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import cv2

from producer.errors import InvalidImage
from producer.film import sane_fps
from producer.live import Shot

#: FFmpeg's own waits are endless by default.
_OPEN_TIMEOUT_MS, _READ_TIMEOUT_MS = 10_000, 5_000

#: Pauses before a lost stream is opened again: doubled each time, up to the last.
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.5, 10.0

# RTSP over TCP: over UDP, FFmpeg's default, each lost packet smears the picture.
os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")


class Camera:
    """A source of shots. One thread reads it; :meth:`close` may be called from any."""

    def __init__(self, source: str) -> None:
        """Open ``source``: a URL, the number or path of a device, or a film's path.

        Raises:
            InvalidImage: there is nothing to see there.
        """
        self.source = source
        self.is_film = Path(source).is_file()
        #: How often the source was lost and opened again.
        self.reopened = 0
        self._closed = threading.Event()
        self._capture = self._open()
        seen, self._first = self._capture.read()
        if not seen:
            self._capture.release()
            raise InvalidImage(f"There is nothing to see at {source}: no such device, stream or film.")
        self.height, self.width = self._first.shape[:2]
        self.fps = sane_fps(self._capture.get(cv2.CAP_PROP_FPS))

    def shots(self) -> Generator[Shot, None, None]:
        """Give shots as they are taken; ends with the film, or when the camera is closed."""
        number, pixels = 0, self._first
        started_at = time.monotonic()
        while pixels is not None and not self._closed.is_set():
            now = time.monotonic()
            yield Shot(number, now, now - started_at, pixels)
            number += 1
            # A film is played at its own speed.
            if self.is_film and self._closed.wait(max(0.0, started_at + number / self.fps - time.monotonic())):
                break
            _, pixels = self._capture.read()
            if pixels is None and not self.is_film:
                pixels = self._again()
        self._capture.release()

    def close(self) -> None:
        """Let :meth:`shots` end."""
        self._closed.set()

    def _again(self) -> Any:
        """Open a lost source until it shows something; None when the camera was closed meanwhile."""
        pause_s = _FIRST_PAUSE_S
        while not self._closed.wait(pause_s):
            self._capture.release()
            self._capture = self._open()
            seen, pixels = self._capture.read()
            if seen:
                self.reopened += 1
                return pixels
            pause_s = min(2 * pause_s, _LAST_PAUSE_S)
        return None

    def _open(self) -> Any:
        if self.source.isdecimal():
            return cv2.VideoCapture(int(self.source))
        if self.source.startswith("/dev/"):
            return cv2.VideoCapture(self.source, cv2.CAP_V4L2)
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _READ_TIMEOUT_MS]
        return cv2.VideoCapture(self.source, cv2.CAP_FFMPEG, limits)
