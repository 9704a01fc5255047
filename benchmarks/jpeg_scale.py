"""How much faster a large JPEG becomes the input when it is decoded at a smaller scale.

Stage: beside the bench, for docs/performance.md: ``python -m benchmarks.jpeg_scale``. Every photo is enlarged to 12
megapixels, with a camera's grain; both ways take turns, and ratios are the median of the turns' own.
"""

import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace

import click
import cv2
import numpy as np

from worker import decode
from worker.bench.__main__ import samples
from worker.memory import Room
from worker.resize import Fit, reduction

#: Standard deviation of the grain; without any a JPEG is small and quick to read.
GRAIN = 4.0

LIMITS = decode.Limits(1 << 30, 1 << 30)
WHOLE = replace(LIMITS, jpeg_scale=False)


@click.command()
@click.option("--megapixels", type=float, default=12.0, show_default=True)
@click.option("--rounds", type=click.IntRange(3), default=9, show_default=True)
def main(*, megapixels: float, rounds: int) -> None:
    """Print CPU milliseconds from bytes to input, whole and reduced, and their ratio."""
    for how in (Fit((480, 640)), Fit((640, 640), shrinking="linear"), Fit((128, 128))):
        ratios = []
        for name, data, (height, width) in _photos(megapixels):
            pairs = [(_ms(data, WHOLE, how), _ms(data, LIMITS, how)) for _ in range(rounds)]
            whole, reduced = (statistics.median(column) for column in zip(*pairs, strict=True))
            ratio = statistics.median(one / other for one, other in pairs)
            ratios.append(ratio)
            by = reduction(width, height, how)
            click.echo(
                f"{name:14} {width} x {height} -> {how.size[1]} x {how.size[0]} {how.shrinking:6} 1/{by}: "
                f"{whole:6.1f} ms whole, {reduced:6.1f} ms reduced, {ratio:.2f} times"
            )
        click.echo(f"least of these: {min(ratios):.2f} times")


def _photos(megapixels: float) -> Iterator[tuple[str, bytes, tuple[int, int]]]:
    for path in samples():
        picture = cv2.imread(str(path))
        times = math.sqrt(megapixels * 1e6 / (picture.shape[0] * picture.shape[1]))
        large = cv2.resize(picture, None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC)
        grain = np.random.default_rng(1).normal(0, GRAIN, large.shape)
        noisy = np.uint8(np.clip(large + grain, 0, 255))
        yield path.stem, cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes(), noisy.shape[:2]


def _ms(data: bytes, limits: decode.Limits, how: Fit) -> float:
    began = time.process_time()
    decode.to_input(data, limits, how, Room(1))
    return (time.process_time() - began) * 1000


if __name__ == "__main__":
    main()
