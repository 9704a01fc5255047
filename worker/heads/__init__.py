"""One file per family of detector: each turns a network's own outputs into rows ``(n, 6 + 2 * keypoints)``.

A head is ``attach(model, *, iou, **options) -> Output``: label, score, x1, y1, x2, y2, keypoints, in pixels of the
network's input. It is written in OpenVINO's operations, so that Python touches no tensor of a model family.
"""

from collections.abc import Callable

import openvino as ov

from worker.heads import blazeface, centerface

#: Head by its name in ``model.toml``.
HEADS: dict[str, Callable[..., ov.Output]] = {
    "blazeface": blazeface.attach,
    "centerface": centerface.attach,
}
