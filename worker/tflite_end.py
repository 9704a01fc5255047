"""Takes ``TFLite_Detection_PostProcess`` off the end of a TFLite detector, for OpenVINO does not know it.

Stage: at ``fleet-worker models add``, before :mod:`worker.recognise`. SSD MobileNet, EfficientDet-Lite and most
networks for small boards end in this operator of TensorFlow's. All it does is what the head ``ssd_raw`` does: it holds
anchors and scales, decodes boxes and suppresses them. So the file is cut before it, and what it holds becomes the
head's options.

Mirrors TensorFlow's ``lite/kernels/detection_postprocess.cc`` (Apache-2.0).
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from worker import trained
from worker.flatbuffer import Table
from worker.trained import Proposal

OPERATOR = "TFLite_Detection_PostProcess"

#: Name of the file in a model's folder that keeps the anchors.
ANCHORS = "anchors.npy"

#: What a network for Google's boards is, once their compiler has been at it: one operator that nobody else can run.
_EDGE_TPU = b"edgetpu-custom-op"

#: Most bytes of the anchors: more than EfficientDet's largest.
MAX_ANCHOR_BYTES = 16 * 1024 * 1024

#: TFLite's kinds of a tensor that anchors come in.
_KINDS = {0: np.float32, 3: np.uint8, 9: np.int8}


@dataclass(frozen=True, slots=True)
class Cut:
    """A network without that end.

    Attributes:
        path: the file, under the name that it had.
        anchors: the file with its anchors.
        proposal: what it is.
    """

    path: Path
    anchors: Path
    proposal: Proposal


def cut(path: Path, folder: Path) -> Cut | None:
    """Write the network at ``path`` without its end, and its anchors, into ``folder``; None if it has no such end.

    Raises:
        ValueError: it has, and cannot be cut there; or it was compiled for one device.
    """
    data = bytearray(path.read_bytes())
    if _EDGE_TPU in data:
        raise ValueError("it was compiled for an Edge TPU; give the file that it was compiled from")
    if OPERATOR.encode() not in data:
        return None
    try:
        anchors, proposal = _take_off(data)
    except (struct.error, LookupError) as error:
        raise ValueError(f"{OPERATOR} at its end cannot be read") from error
    (folder / path.name).write_bytes(data)
    np.save(folder / ANCHORS, anchors)
    return Cut(folder / path.name, folder / ANCHORS, proposal)


def _take_off(data: bytearray) -> tuple[npt.NDArray[np.float32], Proposal]:
    model = Table.root(data)
    graphs, codes = model.tables(2), [one.text(1) for one in model.tables(1)]
    ends = [one for one in graphs[0].tables(3) if codes[one.whole(0, "I")] == OPERATOR]
    operators, count = graphs[0].vector(3, 4)
    outputs, known = graphs[0].vector(2, 4)
    if len(graphs) != 1 or len(ends) != 1 or codes[graphs[0].tables(3)[-1].whole(0, "I")] != OPERATOR or known < 2:
        raise ValueError(f"{OPERATOR} is not at its end only; export it without")
    boxes, scores, anchors = ends[0].wholes(1)
    tensors = graphs[0].tables(0)
    made = _values(model, tensors[anchors])
    struct.pack_into("<I", data, operators - 4, count - 1)
    struct.pack_into("<Iii", data, outputs - 4, 2, boxes, scores)
    return made, _proposal(_options(ends[0].data(5)), tensors[scores].wholes(0)[-1], len(made))


def _values(model: Table, tensor: Table) -> npt.NDArray[np.float32]:
    """Return a constant ``(n, 4)``, which may be of integers."""
    data = model.tables(4)[tensor.whole(2, "I")].data(0, MAX_ANCHOR_BYTES)
    found = np.frombuffer(data, _KINDS[tensor.whole(1, "b")]).astype(np.float32).reshape(-1, 4)
    how = tensor.table(4)
    if how is not None and how.reals(2):
        found = (found - np.float32(how.wholes(3, "q")[0])) * np.float32(how.reals(2)[0])
    return found


def _proposal(said: Mapping[str, float], width: int, rows: int) -> Proposal:
    """Say it as options of ``ssd_raw``: suppression for each class is "regular", the usual is among all of them."""
    is_regular = bool(said.get("use_regular_nms", 0))
    classes = int(said["num_classes"])
    options: dict[str, Any] = {
        "anchors_file": ANCHORS,
        "box_scale": [round(float(said[f"{side}_scale"]), 6) for side in "yxhw"],
        "scores": "none",
        "background": width == classes + 1,
        "agnostic": not is_regular,
        "multi_label": is_regular,
    }
    fields = {**trained.SSD_RAW, "iou": round(float(said["nms_iou_threshold"]), 4)}
    why = f"it ended in {OPERATOR}, whose {rows} anchors, scales and overlap are the head's now"
    return Proposal("ssd_raw", why, True, classes, options, fields)


def _options(data: bytes) -> dict[str, float]:
    """Read the operator's options: a FlexBuffer that is a map of numbers, from its end."""
    form, root = data[-2], len(data) - 2 - data[-1]
    width, values = 1 << (form & 3), root - _number(data, root, data[-1])
    if form >> 2 != _MAP or values < 3 * width:
        raise ValueError(f"the options of {OPERATOR} are no map")
    keys = values - 3 * width - _number(data, values - 3 * width, width)
    key_width, count = (_number(data, values - back * width, width) for back in (2, 1))
    found: dict[str, float] = {}
    for number in range(min(count, 64)):
        key = keys + number * key_width
        start = key - _number(data, key, key_width)
        kind = data[values + count * width + number] >> 2
        name = data[start : data.index(0, start)].decode("ascii", "replace")
        if kind in _FORMS:
            found[name] = struct.unpack_from(f"<{_FORMS[kind][width]}", data, values + number * width)[0]
    return found


#: FlexBuffers' kinds of a value: a map; whole numbers, unsigned ones, floats, truths; with their forms by width.
_MAP = 9
_FORMS = {
    1: {1: "b", 2: "h", 4: "i", 8: "q"},
    2: {1: "B", 2: "H", 4: "I", 8: "Q"},
    3: {2: "e", 4: "f", 8: "d"},
    26: {1: "B", 2: "H", 4: "I", 8: "Q"},
}


def _number(data: bytes, at: int, width: int) -> int:
    if at < 0:
        raise ValueError("an offset leads out of the options")
    return int(struct.unpack_from(f"<{_FORMS[2][width]}", data, at)[0])
