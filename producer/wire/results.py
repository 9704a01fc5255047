"""What a task answers: detections, as plain JSON that a reader does not trust.

Stage: between ``worker.tasks`` and :mod:`producer.client`. Frozen values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from producer.errors import InternalError, UnsupportedVersion
from producer.wire.kinds import is_int, real, text, whole
from producer.wire.names import MAX_DETECTIONS, VERSION

#: A tuple: ``list | tuple`` would be made anew for each list of a result.
_LISTS = (list, tuple)


@dataclass(frozen=True, slots=True)
class Detection:
    """One object found.

    Attributes:
        label: the class's name.
        label_id: the class's number in the model.
        score: 0 to 1.
        box: (x1, y1, x2, y2), pixels of the original upright image, clipped to it.
        keypoints: ((x, y), ...), pixels of the original image; empty when the model has none.
    """

    label: str
    label_id: int
    score: float
    box: tuple[float, float, float, float]
    keypoints: tuple[tuple[float, float], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Give the plain JSON form."""
        return {
            "label": self.label,
            "label_id": self.label_id,
            "score": self.score,
            "box": list(self.box),
            "keypoints": [list(point) for point in self.keypoints],
        }


@dataclass(frozen=True, slots=True)
class Result:
    """What one image gave.

    Attributes:
        model: name of the model; ``model_digest`` is the sha256 of its files (first 16 hex digits).
        width: of the original image as a person sees it (EXIF orientation applied), in pixels.
        height: likewise.
        detections: best score first.
        timings_ms: how long each stage took: queued, fetch, decode, wait, infer, finish.
        worker: name of the worker that did it.
        tiles: how many tiles the picture was cut into; 0 when it was looked at as a whole.
    """

    model: str
    model_digest: str
    width: int
    height: int
    detections: tuple[Detection, ...]
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    worker: str = ""
    tiles: int = 0

    def to_json(self) -> dict[str, Any]:
        """Give the plain JSON form, version included; ``tiles`` only where there are some."""
        return {
            "v": VERSION,
            "model": self.model,
            "model_digest": self.model_digest,
            "width": self.width,
            "height": self.height,
            "detections": [detection.to_json() for detection in self.detections],
            "timings_ms": dict(self.timings_ms),
            "worker": self.worker,
            **({"tiles": self.tiles} if self.tiles else {}),
        }

    @classmethod
    def parse(cls, raw: object) -> "Result":
        """Read a result, trusting nothing.

        Raises:
            UnsupportedVersion: a newer worker wrote it.
            InternalError: it is not a result.
        """
        if not isinstance(raw, Mapping):
            raise InternalError("The stored result is not a detection result.")
        version = raw.get("v")
        if is_int(version) and version > VERSION:
            raise UnsupportedVersion(f"The result has version {version}; this client reads {VERSION}. Upgrade it.")
        try:
            return cls(
                model=text(raw["model"]),
                model_digest=text(raw["model_digest"]),
                width=whole(raw["width"]),
                height=whole(raw["height"]),
                detections=tuple(_detection(one) for one in _items(raw["detections"], MAX_DETECTIONS)),
                timings_ms={text(name): real(value) for name, value in dict(raw.get("timings_ms", {})).items()},
                worker=text(raw.get("worker", "")),
                tiles=whole(raw.get("tiles", 0)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InternalError(f"The stored result is not a detection result: {error!r:.200}") from error


def _detection(raw: Mapping[str, Any]) -> Detection:
    x1, y1, x2, y2 = (real(edge) for edge in _items(raw["box"], 4))
    points = tuple(_point(point) for point in _items(raw.get("keypoints", ()), 1000))
    return Detection(text(raw["label"]), whole(raw["label_id"]), real(raw["score"]), (x1, y1, x2, y2), points)


def _point(raw: object) -> tuple[float, float]:
    x, y = (real(value) for value in _items(raw, 2))
    return x, y


def _items(raw: object, most: int) -> Sequence[Any]:
    if not isinstance(raw, _LISTS) or len(raw) > most:
        raise TypeError(f"expected a list of at most {most}")
    return raw
