"""Big pictures with small faces at known places, made of the sample photos."""

from pathlib import Path

import cv2
import numpy as np

from producer.wire import Result
from tests.reference import centerface_reference, iou


class Scene:
    """A picture of 2560 x 1920 pixels to paste faces into; where they are, is told by the independent decoder."""

    def __init__(self, samples: Path, store: Path) -> None:
        model = store / "centerface" / "centerface.onnx"
        self._photos = [cv2.imread(str(samples / name)) for name in ("astronaut.png", "grace_hopper.jpg")]
        self._faces = [centerface_reference(photo, model, precision="f32")[0]["box"] for photo in self._photos]
        ground = cv2.imread(str(samples / "china.jpg"))
        self.pixels = cv2.resize(ground, (2560, 1920), interpolation=cv2.INTER_CUBIC)
        self.places: list[tuple[float, ...]] = []

    def put(self, which: int, left: int, top: int, width: float) -> None:
        """Paste a photo so that its face is ``width`` wide."""
        photo, face = self._photos[which], self._faces[which]
        scale = width / (face[2] - face[0])
        small = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        height, wide = small.shape[:2]
        self.pixels[top : top + height, left : left + wide] = small
        there = np.array([wide / photo.shape[1], height / photo.shape[0]] * 2)
        self.places.append(tuple(np.array(face) * there + np.array([left, top] * 2)))

    def found(self, answer: Result) -> list[float]:
        """Return for each place the best overlap of a detection, and assert that there is no other detection."""
        table = np.array([[iou(place, one.box) for one in answer.detections] for place in self.places])
        assert (table.max(axis=0, initial=0.0) > 0.5).all(), answer.detections
        assert len(answer.detections) <= len(self.places), answer.detections
        return table.max(axis=1, initial=0.0).tolist()

    def png(self) -> bytes:
        """Encode it without loss."""
        return cv2.imencode(".png", self.pixels)[1].tobytes()


def small_faces(samples: Path, store: Path) -> Scene:
    """Put 24 faces of 22 to 40 pixels all over the picture, edges of tiles included."""
    made, random = Scene(samples, store), np.random.default_rng(3)
    for number in range(24):
        left, top = (number % 6) * 400 + random.integers(60, 260), (number // 6) * 450 + random.integers(60, 260)
        made.put(number % 2, int(left), int(top), random.uniform(22, 40))
    return made
