"""A network for several pictures at once, seen as one for each of them, so that every head fits behind it.

Stage: at start, inside :mod:`worker.network`, where ``FLEET_BATCH`` asks for more than one picture an inference.
"""

import numpy as np
import openvino as ov
from openvino import opset13 as op

from worker.heads import tensors


def one_by_one(model: ov.Model, pictures: int, single: ov.Model) -> list[ov.Model]:
    """Return a network for each picture, with the outputs' names, over the one graph of ``model``.

    Args:
        model: takes ``pictures`` at once.
        pictures: how many.
        single: the same network for one picture.

    Raises:
        ValueError: an output is not one for each picture, as where suppression inside puts all boxes into one list.
    """
    shapes = [_shape(one) for one in model.outputs if _is_of_picture(one)]
    wanted = [_shape(one) for one in single.outputs if _is_of_picture(one)]
    if shapes != [(pictures, *shape[1:]) for shape in wanted] or any(shape[0] != 1 for shape in wanted):
        told = tensors.told(tensors.outputs(model))
        raise ValueError(f"it cannot take {pictures} pictures at once: its outputs are then {told}. Set FLEET_BATCH=1")
    sources = [(one.get_names(), one.get_node().input_value(0), _is_of_picture(one)) for one in model.outputs]
    for names, source, _ in sources:
        if names:
            source.set_names(set())  # each picture's part has them
    views = []
    for number in range(pictures):
        results = []
        for names, source, is_parted in sources:
            ends = (np.array([edge]) for edge in (number, number + 1))
            part = op.slice(source, *ends, np.array([1]), np.array([0])) if is_parted else source.get_node()
            result = op.result(part)
            result.output(0).set_names(names)
            results.append(result)
        views.append(ov.Model(results, model.get_parameters()))
    return views


def _is_of_picture(output: ov.Output) -> bool:
    return tensors.behind(output.get_node().input_value(0), "Constant") is None


def _shape(output: ov.Output) -> tuple[int, ...]:
    return tensors.sizes(output.get_partial_shape())
