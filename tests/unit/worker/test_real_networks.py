"""A published YOLOv8 export goes from its file to the boxes of an independent decoder, with one call and no option."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import openvino as ov
import pytest

from producer.wire import Options
from tests.conftest import cache
from tests.heads import reference as decoders
from tests.reference import match
from worker import assets, network, recognise, resize
from worker.assets import Asset
from worker.detector import to_detections
from worker.settings import Settings

#: NudeNet's detector of faces and bodies: YOLOv8n at 320 pixels, 18 classes, with Ultralytics' own notes in the file.
YOLOV8 = Asset(
    "nudenet==3.4.2",
    "nudenet/320n.onnx",
    "c15d8273adad2d0a92f014cc69ab2d6c311a06777a55545f2c4eb46f51911f0f",
    "NudeNet by notAI-tech, trained with Ultralytics (AGPL-3.0); fetched for this test only.",
)


@pytest.fixture(scope="module")
def yolov8() -> Path:
    """The file, kept from one run to the next."""
    path = cache() / "networks" / YOLOV8.file_name
    if not assets._is_whole(path, YOLOV8.sha256):
        assets._fetch_wheel(YOLOV8.requirement, {path: YOLOV8})
    return path


def expected(path: Path, bgr: np.ndarray, least: float) -> list[decoders.Found]:
    """Find what the network finds as its training code does: grey letterbox, RGB of 0 to 1, suppression per class."""
    height, width = bgr.shape[:2]
    scale = 320 / max(height, width)
    tall, long = round(height * scale), round(width * scale)
    top, left = (320 - tall) // 2, (320 - long) // 2
    canvas = np.full((320, 320, 3), 114, np.uint8)
    canvas[top : top + tall, left : left + long] = cv2.resize(bgr, (long, tall), interpolation=cv2.INTER_LINEAR)
    model = ov.Core().read_model(path)
    model.reshape([1, 3, 320, 320])
    compiled = ov.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    planes = np.ascontiguousarray(canvas[..., ::-1].transpose(2, 0, 1)[np.newaxis], np.float32) / 255
    found = []
    for one in decoders.yolov8([np.array(value) for value in compiled(planes).values()]):
        if one.score >= least:
            x1, y1, x2, y2 = one.box
            box = [(x1 - left) / scale, (y1 - top) / scale, (x2 - left) / scale, (y2 - top) / scale]
            found.append(one._replace(box=list(np.clip(box, 0, [width, height, width, height]))))
    return found


@pytest.mark.parametrize("photo", ["astronaut", "grace_hopper", "crowd", "china"])
def test_a_published_yolov8_gives_its_reference_s_boxes(yolov8: Path, decoded, photo):
    """Given the file alone, when it is recognised and run, then number, labels and boxes are those of the reference."""
    found = recognise.recognise(yolov8, "bodies")
    spec = found.spec
    assert (spec.head, len(spec.labels), spec.pad, spec.resize) == ("yolov8", 18, 114, "letterbox")
    spec = replace(spec, iou=decoders.OVERLAP)
    net = network.load(spec, yolov8, Settings(precision="f32"), 2)
    tensor, frame = resize.fit(decoded(photo), spec.fit)
    (rows,) = net.compiled({0: tensor}).values()

    got = to_detections(rows, frame, spec, Options())

    wanted = expected(yolov8, decoded(photo), 0.25)
    partners = match([one.box for one in wanted], got, 0.98)
    assert [got[index].label_id for index in partners] == [one.label for one in wanted]
    assert (photo == "china") == (not wanted)
