"""What can be seen of a network before anyone says what it is: its outputs' shapes and names, and a trial run.

Stage: at ``fleet-worker models add``, between :mod:`worker.metadata` and :mod:`worker.recognise`. The trial run shows
what shapes do not: whether scores were put through a sigmoid already, whether boxes are pixels or 0 to 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import openvino as ov

from worker.heads import tensors
from worker.heads.tensors import Tensor
from worker.metadata import Facts

Values = npt.NDArray[np.float64]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Evidence:
    """A network as seen from outside.

    Attributes:
        outputs: in the network's own order.
        runs: each output of each trial run; none where they failed.
        size: (height, width) of its input.
        layout: ``NCHW`` or ``NHWC``.
        facts: what its file says about itself.
        labels: given by the user, else what the file says, else empty.
    """

    outputs: tuple[Tensor, ...]
    runs: tuple[tuple[Values, ...], ...]
    size: tuple[int, int]
    layout: str
    facts: Facts
    labels: tuple[str, ...]

    @property
    def shapes(self) -> str:
        """The outputs as a sentence shows them, with their names."""
        one_by_one = [f"{min(one.names, default='?')} {tensors.told([one])}" for one in self.outputs]
        return ", ".join(one_by_one)

    def run(self, one: Tensor, *, turned: bool = False) -> Values | None:
        """Return what the trial runs gave for an output: rows of its last size, or of the one before it if turned."""
        tables = []
        for values in self.runs:
            found = values[self.outputs.index(one)]
            table = found.reshape(-1, found.shape[-1]) if found.ndim else found.reshape(1, 1)
            tables.append(table.T if turned else table)
        return np.concatenate(tables) if tables else None

    def each(self, one: Tensor) -> list[Values]:
        """Return what each trial run gave for an output, as rows of its last size."""
        index = self.outputs.index(one)
        return [values[index].reshape(-1, values[index].shape[-1]) for values in self.runs if values[index].ndim]

    def cells(self, *strides: int) -> int:
        """Return how many cells grids of these strides have on the input."""
        return sum(tensors.cell_counts(self.size, strides))


def look(model: ov.Model, size: tuple[int, int], layout: str, facts: Facts, labels: tuple[str, ...]) -> Evidence:
    """Look at a network whose input has been given its size."""
    return Evidence(tuple(tensors.outputs(model)), _try(model), size, layout, facts, labels)


def _try(model: ov.Model) -> tuple[tuple[Values, ...], ...]:
    """Run the network in float32 on a picture of coarse noise, of 0 to 1 and of 0 to 255: who knows what it wants."""
    entry = model.input(0)
    shape = tuple(int(side) for side in entry.get_shape())
    coarse = np.random.default_rng(5).uniform(0, 1, [max(1, side // 8) if side > 4 else side for side in shape])
    for axis, side in enumerate(shape):
        if side > 4:
            coarse = np.take(coarse, np.arange(side) * coarse.shape[axis] // side, axis=axis)
    kind = entry.get_element_type().to_dtype()
    runs = []
    try:
        compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        for most in (1, 255):
            results = compiled({0: np.ascontiguousarray((coarse * most).astype(kind))})
            runs.append(tuple(np.array(results[port], np.float64) for port in compiled.outputs))
    except RuntimeError:
        return ()
    return tuple(run for run in runs if all(np.isfinite(values).all() for values in run))


def is_part(values: Values | None) -> bool:
    """Tell whether all values are 0 to 1, as scores are."""
    return values is not None and values.size > 0 and bool((values >= -1e-4).all() and (values <= 1 + 1e-4).all())


def is_unit(boxes: Values | None) -> bool:
    """Tell whether boxes look like parts of the input, not pixels."""
    return boxes is not None and boxes.size > 0 and float(np.nanmax(np.abs(boxes))) <= 2


def are_corners(boxes: Values | None) -> bool:
    """Tell whether boxes ``(n, 4)`` are two corners each, the second below and right of the first."""
    return boxes is not None and boxes.size > 0 and bool((boxes[:, 2:] >= boxes[:, :2] - 1e-6).all())


def are_whole(values: Values | None) -> bool:
    """Tell whether all values are whole and not negative, as classes are."""
    return values is not None and values.size > 0 and bool((values == np.round(values)).all() and (values >= -1).all())


def sums_to_one(values: Values | None) -> bool:
    """Tell whether each row went through a softmax."""
    return values is not None and values.size > 0 and bool((np.abs(values.sum(axis=1) - 1) < 1e-3).all())


def are_rare(values: Values | None) -> bool:
    """Tell whether raw scores say no to nearly everything, as those for a sigmoid do.

    Those for a softmax only have to be lower than the background's.
    """
    return values is not None and values.size > 0 and float((1 / (1 + np.exp(-np.clip(values, -50, 50)))).mean()) < 0.2


def agreed(values: Sequence[T]) -> T | None:
    """Return what all trial runs say; None where they do not agree, or there are none.

    One of the two pictures may be none that the network knows, and what it says of that is not to be believed alone.
    """
    return values[0] if values and all(one == values[0] for one in values) else None


def favoured(values: Values | None) -> int | None:
    """Return the one column whose raw scores stand high above all others, as the background's do; None if none does."""
    if values is None or values.shape[1] < 2:
        return None
    means = values.mean(axis=0)
    best, second = np.argsort(-means)[:2]
    return int(best) if means[best] - means[second] >= 2 else None
