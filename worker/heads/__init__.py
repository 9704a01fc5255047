"""One file per family of detector: each turns a network's own outputs into rows ``(n, 6 + 2 * keypoints)``.

A head is ``attach(model, *, iou, **options) -> Output``: label, score, x1, y1, x2, y2, keypoints, in pixels of the
network's input. It is written in OpenVINO's operations, so that Python touches no tensor of a model family. Another
package brings a head of its own by an entry point of the group ``fleet.heads`` (docs/models.md).
"""

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

import openvino as ov

from worker.heads import (
    blazeface,
    boxes_labels,
    boxes_scores,
    centerface,
    detr,
    nanodet,
    retinaface,
    scrfd,
    ssd,
    ssd_raw,
    yolov5,
    yolov8,
    yolov10,
    yolox,
    yunet,
)

Head = Callable[..., ov.Output]

#: Group of entry points under which other packages bring heads.
GROUP = "fleet.heads"

#: This project's own heads, by their name in ``model.toml``.
HEADS: dict[str, Head] = {
    "blazeface": blazeface.attach,
    "boxes_labels": boxes_labels.attach,
    "boxes_scores": boxes_scores.attach,
    "centerface": centerface.attach,
    "detr": detr.attach,
    "nanodet": nanodet.attach,
    "retinaface": retinaface.attach,
    "scrfd": scrfd.attach,
    "ssd": ssd.attach,
    "ssd_raw": ssd_raw.attach,
    "yolov10": yolov10.attach,
    "yolov5": yolov5.attach,
    "yolov8": yolov8.attach,
    "yolox": yolox.attach,
    "yunet": yunet.attach,
}


def names() -> list[str]:
    """Return the names of all heads, this project's own and those of installed packages."""
    return sorted(set(HEADS) | set(_brought()))


def find(name: str) -> Head:
    """Return the head of that name; one of this project's own goes before one that a package brings.

    Raises:
        ValueError: there is none, or its package cannot be imported.
    """
    if name in HEADS:
        return HEADS[name]
    brought = _brought()
    if name not in brought:
        raise ValueError(f"there is no head {name!r}; there are {', '.join(names())}")
    try:
        head = brought[name].load()
    except Exception as error:
        raise ValueError(f"the head {name!r} of {brought[name].value!r} cannot be imported: {error}") from error
    if not callable(head):
        raise ValueError(f"the head {name!r} of {brought[name].value!r} cannot be called")  # noqa: TRY004 - a mistake of its package
    return head  # type: ignore[no-any-return]


def _brought() -> dict[str, EntryPoint]:
    return {one.name: one for one in entry_points(group=GROUP)}
