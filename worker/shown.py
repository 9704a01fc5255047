"""Results as people read them in logs, events and Flower: a sentence, where Celery would print the head of the JSON.

Stage: beside the tasks, which return these. They are plain dictionaries and lists to everyone who stores or sends them.
Celery makes the text of every result with ``celery.utils.saferepr`` (5.7), which prints containers itself, item by
item, and only numbers by their own ``str``. So these count as numbers there, which is also cheaper.
"""

from collections.abc import Mapping, Sequence
from numbers import Number
from typing import Any

#: Detections that are told; the rest are counted.
TOLD = 3


class ShownResult(dict[str, Any]):
    """A result of ``fleet.detect``."""

    def __str__(self) -> str:
        """Tell its detections."""
        found = self["detections"]
        told = [_tell(one) for one in found[:TOLD]] + ([f"{len(found) - TOLD} more"] if len(found) > TOLD else [])
        return f"{len(found)} on {self['width']} x {self['height']}" + (f": {', '.join(told)}" if told else "")


class ShownResults(list[Mapping[str, Any]]):
    """A result of ``fleet.detect_many``."""

    def __str__(self) -> str:
        """Tell how many detections each image has, or which error."""
        told = ", ".join(_count(one) for one in self[: 10 * TOLD])
        return f"{len(self)} images: {told}" + (", ..." if len(self) > 10 * TOLD else "")


Number.register(ShownResult)
Number.register(ShownResults)


def _tell(detection: Mapping[str, Any]) -> str:
    box: Sequence[float] = detection["box"]
    return f"{detection['label']} {detection['score']:.2f} at {' '.join(f'{side:.0f}' for side in box)}"


def _count(item: Mapping[str, Any]) -> str:
    return str(item["error"]["code"]) if "error" in item else str(len(item["detections"]))
