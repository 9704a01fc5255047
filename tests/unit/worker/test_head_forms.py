"""Each head gives, row by row, what a plain numpy decoder makes of the same network's outputs."""

from typing import Any

import numpy as np
import openvino as ov
import pytest

from tests.heads import networks, reference
from worker import heads

F32 = {"INFERENCE_PRECISION_HINT": "f32"}

#: Head and options by the name of the form.
HOW: dict[str, tuple[str, dict[str, Any]]] = {
    "yolov5": ("yolov5", {}),
    "yolov8": ("yolov8", {}),
    "yolov8_tflite": ("yolov8", {"normalised": True}),
    "yolox": ("yolox", {}),
    "yolov10": ("yolov10", {}),
    "nanodet_plus": ("nanodet", {}),
    "picodet": ("nanodet", {}),
    "dfl_maps": ("nanodet", {"bins": 16, "boxes_first": True, "scores": "sigmoid"}),
    "scrfd": ("scrfd", {}),
    "yunet": ("yunet", {}),
    "retinaface": ("retinaface", {}),
    "ssd_raw": ("ssd_raw", {"anchors": {"kind": "grid", "strides": [16, 32, 64, 128]}}),
    "ssd_own_anchors": ("ssd_raw", {"scores": "none"}),
    "ssd": ("ssd", {"first_label": 1}),
    "detr": ("detr", {"scores": "softmax"}),
    "rt_detr": ("detr", {}),
    "boxes_labels": ("boxes_labels", {}),
    "boxes_scores": ("boxes_scores", {"box_format": "yxyx", "normalised": True}),
    "tf_detections": (
        "boxes_scores",
        {"box_format": "yxyx", "normalised": True, "first_label": 1, "suppress": False},
    ),
}


def picture(model: ov.Model, seed: int) -> np.ndarray:
    """Give a blurred random picture in the network's own layout, 0 to 255."""
    shape = tuple(model.input(0).get_shape())
    height, width = networks.SIZE
    coarse = np.random.default_rng(seed).uniform(0, 255, (height // 4, width // 4, 3))
    image = coarse.repeat(4, axis=0).repeat(4, axis=1).astype(np.float32)
    return image[np.newaxis] if shape[-1] == 3 else image.transpose(2, 0, 1)[np.newaxis].copy()


def rows_of(model: ov.Model, head: str, options: dict[str, Any], image: np.ndarray) -> np.ndarray:
    """Give what the graph with the head inside says."""
    graph = ov.Model([heads.find(head)(model, iou=reference.OVERLAP, **options)], model.get_parameters())
    (rows,) = ov.compile_model(graph, "CPU", F32)({0: image}).values()
    return rows.copy()


@pytest.mark.parametrize("form", networks.FORMS)
def test_rows_are_those_of_the_reference(form):
    """Given a network of a family's form, when its head is put behind it, then every row is the reference's."""
    model = networks.FORMS[form]()
    head, options = HOW[form]
    compiled, seen = ov.compile_model(model, "CPU", F32), 0
    graph = None
    for seed in range(3):
        image = picture(model, seed)
        results = compiled({0: image})
        wanted = reference.DECODERS[form]([np.array(results[port]) for port in compiled.outputs])

        if graph is None:
            attached = networks.FORMS[form]()
            output = heads.find(head)(attached, iou=reference.OVERLAP, **options)
            graph = ov.compile_model(ov.Model([output], attached.get_parameters()), "CPU", F32)
        (rows,) = graph({0: image}).values()

        wanted = wanted[:1000]
        table = np.array([[one.label, one.score, *one.box, *one.points] for one in wanted], np.float32)
        assert rows.shape == table.shape, (rows.shape, table.shape)
        assert np.abs(rows[:, 1] - table[:, 1]).max() < 1e-4
        assert np.array_equal(rows[:, 0], table[:, 0])
        assert np.abs(rows[:, 2:] - table[:, 2:]).max() < 0.02
        seen += len(table)
    assert seen > 30
