"""What a network could be, and how networks of each family are trained unless their files say otherwise.

Stage: at ``fleet-worker models add``, below :mod:`worker.families` and :mod:`worker.families_boxes`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Names that a list of labels gives to what is no object.
BACKGROUND = frozenset({"background", "__background__", "bg", "???", "unlabeled", "none", "no object"})


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a network could be.

    Attributes:
        head: name of the head.
        why: what speaks for it, a sentence without its full stop.
        is_sure: it can be nothing else.
        classes: how many labels it has, or None where its outputs do not say.
        options: of the head.
        fields: of the model.toml: how networks of this family are trained unless their file says otherwise.
    """

    head: str
    why: str
    is_sure: bool
    classes: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)


def _how(colour: str, mean: Any, scale: Any, resize: str, **more: Any) -> dict[str, Any]:
    """Give fields of a model.toml; one number for mean or scale stands for three."""
    three = [tuple(float(v) for v in (value if isinstance(value, tuple) else (value,) * 3)) for value in (mean, scale)]
    return {"colour": colour, "mean": three[0], "scale": three[1], "resize": resize, "shrinking": "linear", **more}


#: ImageNet's mean and deviation, in the order RGB, and in the order BGR.
IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
IMAGENET_BGR = ((103.53, 116.28, 123.675), (57.375, 57.12, 58.395))
#: As each family's own training code does it.
YOLO = _how("RGB", 0, 255, "letterbox", pad=114, pad_at="centre", min_score=0.25, iou=0.45)
YOLO8 = YOLO | {"iou": 0.7}
YOLOX = _how("BGR", 0, 1, "letterbox", pad=114, pad_at="top_left", min_score=0.25, iou=0.45)
NANODET = _how("BGR", *IMAGENET_BGR, "stretch", min_score=0.35, iou=0.6)
PICODET = _how("RGB", *IMAGENET, "stretch", min_score=0.5, iou=0.6)
SCRFD = _how("RGB", 127.5, 128, "letterbox", pad_at="top_left", min_score=0.5, iou=0.4)
RETINAFACE = _how("BGR", (104, 117, 123), 1, "letterbox", pad_at="top_left", min_score=0.5, iou=0.4)
YUNET = _how("BGR", 0, 1, "letterbox", pad_at="top_left", min_score=0.5, iou=0.3)
DETR = _how("RGB", *IMAGENET, "stretch", min_score=0.5)
RT_DETR = _how("RGB", 0, 255, "stretch", min_score=0.5)
SSD = _how("BGR", 0, 1, "stretch", min_score=0.5)
SSD_RAW = _how("RGB", 127.5, 127.5, "stretch", min_score=0.5, iou=0.6)
PLAIN = _how("RGB", 0, 255, "stretch", min_score=0.5, iou=0.5)
