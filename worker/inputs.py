"""What goes into a network: its one picture, and the small inputs that some exports want beside it.

Stage: before :mod:`worker.network` builds its graph, and before :mod:`worker.recognise` looks at a network.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as op

from worker.heads import tensors

#: Inputs that tell a network the picture's size, so that it scales its boxes. Here boxes stay in pixels of the input.
_SIZES: dict[str, Callable[[tuple[int, int]], list[float]]] = {
    "scale_factor": lambda size: [1.0, 1.0],
    "im_shape": lambda size: [size[0], size[1]],
    "orig_target_sizes": lambda size: [size[1], size[0]],
    "image_info": lambda size: [size[0], size[1], 1.0],
}


def layout_of(model: ov.Model, given: str | None = None) -> tuple[str, tuple[int, int]]:
    """Return layout and (height, width) of the network's picture; -1 for what is not fixed.

    Raises:
        ValueError: it takes no picture of three channels, or other inputs too that nobody knows.
    """
    shape = tensors.sizes(_picture(model).get_output_partial_shape(0))
    if len(shape) == 4 and shape[1] == 3 and given != "NHWC":
        return "NCHW", (shape[2], shape[3])
    if len(shape) == 4 and shape[3] == 3 and given != "NCHW":
        return "NHWC", (shape[1], shape[2])
    if given in ("NCHW", "NHWC"):
        return given, (-1, -1)
    shown = ",".join("?" if size < 0 else str(size) for size in shape)
    raise ValueError(f'its input [{shown}] is no picture of three channels; say --set layout="NCHW" if it is one')


def settle(model: ov.Model, layout: str, size: tuple[int, int], *, pictures: int = 1) -> None:
    """Give the picture its size, and the small inputs beside it their values; the picture alone is left.

    With more than one of ``pictures`` the network is asked to take them at once.

    Raises:
        ValueError: there are other inputs.
        RuntimeError: the network cannot have this size.
    """
    picture = _picture(model)
    parameter: Any
    for parameter in model.get_parameters():
        if parameter is picture or parameter.get_friendly_name() == picture.get_friendly_name():
            continue
        value = np.array([_SIZES[_known(parameter)](size)] * pictures)
        kind = parameter.get_element_type().to_dtype()
        parameter.output(0).replace(op.constant(value.astype(kind)).output(0))
        model.remove_parameter(parameter)
    height, width = size
    model.reshape([1, 3, height, width] if layout == "NCHW" else [1, height, width, 3])
    if pictures > 1:
        _free_of_one(model, picture, pictures)
        shape = picture.get_partial_shape()
        shape[0] = ov.Dimension(pictures)
        picture.set_partial_shape(shape)
        model.validate_nodes_and_infer_types()


def _free_of_one(model: ov.Model, picture: Any, pictures: int) -> None:
    """Where an export reshapes to a first size of 1, for the one picture it was made for, make that ``pictures``."""
    behind = {picture.get_friendly_name()}
    for node in model.get_ordered_ops():
        sources = [one.get_node() for one in node.input_values()]
        if not any(one.get_friendly_name() in behind for one in sources):
            continue
        behind.add(node.get_friendly_name())
        if node.get_type_name() != "Reshape" or sources[1].get_type_name() != "Constant":
            continue
        target = sources[1].get_data().copy().reshape(-1)
        if sources[0].get_friendly_name() in behind and len(target) > 1 and target[0] == 1:
            target[0] = pictures
            node.input(1).replace_source_output(op.constant(target).output(0))


def _picture(model: ov.Model) -> Any:
    left = [one for one in model.get_parameters() if not _known(one)]
    if len(left) != 1:
        names = ", ".join(one.get_friendly_name() for one in left) or "none"
        raise ValueError(f"a detector has one picture as its input; this network has {names}")
    return left[0]


def _known(parameter: Any) -> str:
    names = {parameter.get_friendly_name(), *parameter.output(0).get_names()}
    return next((name for name in _SIZES if name in names), "")
