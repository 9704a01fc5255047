"""What the producers of a chaos run send: good photos in many variants, damaged ones, and some that end a worker."""

import random
from collections.abc import Sequence
from pathlib import Path

import cv2

#: Text behind a photo that makes tests.faults.dies_at end the worker that decodes it.
MARK = b"<this photo ends its worker>"

VARIANTS = 40

#: One image in fifty is poison; of a thousand, one ends its worker.
DAMAGED = 0.019
FATAL = 0.001


def variants(samples: Path) -> list[bytes]:
    """Give JPEGs of 200 to 300 pixels that differ in what is found on them."""
    made = []
    for number in range(VARIANTS):
        photo = cv2.imread(str(samples / ("grace_hopper.jpg" if number % 2 else "astronaut.png")))
        height, width = photo.shape[:2]
        left, top = 4 * number, 2 * number
        part = photo[top:height, left:width]
        done, data = cv2.imencode(".jpg", cv2.resize(part, (200 + 2 * number, 300 - 2 * number)))
        assert done
        made.append(data.tobytes())
    return made


def kind_of(seed: int, index: int, *, fatal: float = FATAL) -> str:
    """Say what image ``index`` of the run ``seed`` is: "good", "damaged" or "fatal"."""
    drawn = random.Random(f"{seed}/{index}").random()
    return "fatal" if drawn < fatal else "damaged" if drawn < fatal + DAMAGED else "good"


def picture(photos: Sequence[bytes], seed: int, index: int, *, fatal: float = FATAL) -> bytes:
    """Give the bytes of image ``index``."""
    data = photos[index % len(photos)]
    match kind_of(seed, index, fatal=fatal):
        case "damaged":
            return data[: len(data) // 2]
        case "fatal":
            return data + MARK
        case _:
            return data
