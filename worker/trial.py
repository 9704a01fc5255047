"""A version is tried on a sample picture before it serves.

Stage: inside :mod:`worker.change`, between loading a version and letting requests to it. The picture goes the way of a
request's: decoded, resized, through the version's own infer queue. A model's folder may hold the picture (``models add
--sample PHOTO``), and then something must be found in it; a drawn one shows at least that rows are rows.
"""

from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path

import numpy as np
import numpy.typing as npt

from producer.errors import FleetError
from worker import decode, resize
from worker.batches import Requests
from worker.inference import InferenceError, TensorError
from worker.model_toml import ModelSpec
from worker.models import ModelError

#: Longest wait for the rows of one picture.
ANSWER_WITHIN_S = 60.0

#: Name of the sample in a model's folder, whatever its suffix.
SAMPLE = "sample"

#: How far a score may lie outside of 0 to 1, for what is rounded on its way.
_ROUNDED = 0.01

_LIMITS = decode.Limits(32 * 1024 * 1024, 64_000_000)


def sample_of(folder: Path) -> Path | None:
    """Find the sample picture in a model's folder."""
    return next((path for path in sorted(folder.glob(f"{SAMPLE}.*")) if path.is_file()), None)


def try_on_sample(queue: Requests, spec: ModelSpec, folder: Path) -> int:
    """Run a version on its sample; return how many objects it found there.

    Raises:
        ModelError: it gives no rows, or such as no detector gives, or finds nothing in a sample of its own.
    """
    sample = sample_of(folder)
    pixels = _drawn(spec) if sample is None else _read(sample)
    tensor, _ = resize.fit(pixels, spec.fit)
    try:
        rows = queue.submit(tensor, timeout_s=ANSWER_WITHIN_S).result(ANSWER_WITHIN_S)
    except (InferenceError, TensorError, TimeoutError, FutureTimeoutError) as error:
        raise ModelError(f"It does not answer for a sample picture: {error or 'not in time'}.") from error
    check_rows(rows, spec)
    found = int(np.count_nonzero(rows[:, 1] >= spec.min_score))
    if sample is not None and not found:
        raise ModelError(f"It finds nothing with a score of {spec.min_score:g} in its sample picture {sample.name}.")
    return found


def check_rows(rows: npt.NDArray[np.float32], spec: ModelSpec) -> None:
    """Check that ``(n, 6+)`` rows can be detections.

    Raises:
        ModelError: they cannot; the message says why.
    """
    if not np.isfinite(rows).all():
        raise ModelError("It gives boxes that are no numbers for a sample picture.")
    labels, scores = rows[:, 0], rows[:, 1]
    if len(rows) and (scores.min() < -_ROUNDED or scores.max() > 1 + _ROUNDED):
        raise ModelError(f"It gives scores of {scores.min():.3g} to {scores.max():.3g} for a sample picture.")
    if len(rows) and (labels.min() < 0 or labels.max() >= len(spec.labels)):
        raise ModelError(f"It gives label number {labels.max():.0f} for a sample picture; it has {len(spec.labels)}.")


def _read(sample: Path) -> decode.Pixels:
    try:
        return decode.decode(sample.read_bytes(), _LIMITS)
    except (OSError, FleetError) as error:
        raise ModelError(f"Its sample picture {sample.name} cannot be read: {error}") from error


def _drawn(spec: ModelSpec) -> decode.Pixels:
    """Draw blurred noise, the same each time: smooth places, edges, all brightnesses."""
    height, width = spec.input_size
    coarse = np.random.default_rng(1).integers(0, 256, (-(-height // 8), -(-width // 8), 3), np.uint8)
    return np.ascontiguousarray(coarse.repeat(8, 0).repeat(8, 1)[:height, :width])
