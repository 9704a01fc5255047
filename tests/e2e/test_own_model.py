"""A network that a user adds is served by a worker and answers through the fleet."""

from pathlib import Path

import cv2
import numpy as np
import openvino as ov
import pytest

from producer import Client
from tests.conftest import StartWorker
from tests.heads import networks, reference
from tests.heads.found import OVERLAP
from worker import store
from worker.settings import Settings

LABELS = ("cat", "dog", "horse", "sheep", "cow")


@pytest.mark.parametrize(("form", "decoder"), [("yolov8", reference.yolov8), ("nanodet_plus", reference.nanodet_plus)])
def test_an_added_model_answers_by_its_name(own_server, start_worker: StartWorker, tmp_path: Path, form, decoder):
    """Given a file and its labels, when it is added and a worker serves it, then boxes are the reference's."""
    ov.save_model(networks.FORMS[form](), tmp_path / "net.xml", compress_to_fp16=False)
    given = {"mean": [0, 0, 0], "scale": [1, 1, 1], "colour": "BGR", "resize": "stretch", "iou": OVERLAP}
    settings = Settings(model_store=tmp_path / "models", precision="f32")
    added = store.add(tmp_path / "net.xml", store.Wish("zoo", LABELS, given=given), settings)
    start_worker(own_server, served="zoo", model_store=tmp_path / "models", precision="f32", cache_dir="")
    picture = cv2.resize(np.random.default_rng(2).integers(0, 255, (24, 40, 3), np.uint8), (160, 96))

    with Client(own_server) as client:
        result = client.detect(picture, model="zoo", min_score=0.1)

    planes = picture.transpose(2, 0, 1)[np.newaxis].astype(np.float32)
    compiled = ov.compile_model(networks.FORMS[form](), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    wanted = [one for one in decoder([np.array(value) for value in compiled(planes).values()]) if one.score >= 0.1]
    assert result.model_digest == added.spec.digest
    assert [one.label for one in result.detections] == [LABELS[one.label] for one in wanted]
    for got, one in zip(result.detections, wanted, strict=True):
        assert got.box == pytest.approx(np.clip(one.box, 0, [160, 96, 160, 96]), abs=0.05)
    assert len(wanted) > 5
