"""Each head gives, row by row, what a plain numpy decoder makes of the same network's outputs."""

from typing import Any

import numpy as np
import openvino as ov
import pytest

from tests.heads import drawing, networks, reference
from tests.heads.found import OVERLAP
from tests.reference import iou
from worker import heads, inputs

F32 = {"INFERENCE_PRECISION_HINT": "f32"}

_YXYX = {"box_format": "yxyx", "normalised": True}

#: Head and options by the name of the form.
HOW: dict[str, tuple[str, dict[str, Any]]] = {
    "yolov5": ("yolov5", {}),
    "yolov8": ("yolov8", {}),
    "yolov8_tflite": ("yolov8", {"normalised": True}),
    "yolov8_turned": ("yolov8", {"transposed": True}),
    "yolov6": ("yolov5", {}),
    "yolox": ("yolox", {}),
    "yolov10": ("yolov10", {}),
    "nanodet_plus": ("nanodet", {}),
    "picodet": ("nanodet", {}),
    "nanodet_apart": ("nanodet", {"bins": 11}),
    "dfl_maps": ("nanodet", {"bins": 16, "boxes_first": True, "scores": "sigmoid"}),
    "dfl_turned": ("nanodet", {"bins": 16, "boxes_first": True, "scores": "sigmoid"}),
    "gfl": ("nanodet", {"bins": 11}),
    "scrfd": ("scrfd", {}),
    "yunet": ("yunet", {}),
    "retinaface": ("retinaface", {}),
    "ssd_raw": ("ssd_raw", {"anchors": {"kind": "grid", "strides": [16, 32, 64, 128]}}),
    "efficientdet": (
        "ssd_raw",
        {
            "anchors": {"kind": "efficientdet", "scale": 3.0},
            "box_scale": [1.0] * 4,
            "scores": "none",
            "background": False,
        },
    ),
    "ssd_fpn": ("ssd_raw", {"anchors": {"kind": "pyramid"}}),
    "ssd_last": (
        "ssd_raw",
        {"anchors": {"kind": "grid", "strides": [16, 32, 64, 128]}, "scores": "none", "background": "last"},
    ),
    "ssd_own_anchors": ("ssd_raw", {"scores": "none"}),
    "ssd": ("ssd", {"first_label": 1}),
    "detr": ("detr", {"scores": "softmax"}),
    "rt_detr": ("detr", {}),
    "rt_detr_joined": ("detr", {"scores": "none"}),
    "boxes_labels": ("boxes_labels", {}),
    "boxes_scores": ("boxes_scores", _YXYX),
    "paddle": ("boxes_scores", {}),
    "tf_detections": ("boxes_scores", {**_YXYX, "first_label": 1, "suppress": False}),
}


def drawn(form: str) -> ov.Model:
    """Give the network of a form with one input of fixed size."""
    model = networks.FORMS[form]()
    layout, size = inputs.layout_of(model)
    inputs.settle(model, layout, size)
    return model


def picture(model: ov.Model, seed: int) -> np.ndarray:
    """Give a coarse random picture in the network's own layout, 0 to 255."""
    shape = tuple(model.input(0).get_shape())
    height, width = drawing.SIZE
    coarse = np.random.default_rng(seed).uniform(0, 255, (height // 4, width // 4, 3))
    image = coarse.repeat(4, axis=0).repeat(4, axis=1).astype(np.float32)
    return image[np.newaxis] if shape[-1] == 3 else image.transpose(2, 0, 1)[np.newaxis].copy()


def with_head(form: str, head: str, **options: Any) -> ov.CompiledModel:
    """Compile the network of a form with a head behind it."""
    model = drawn(form)
    rows = heads.find(head)(model, iou=OVERLAP, **options)
    return ov.compile_model(ov.Model([rows], model.get_parameters()), "CPU", F32)


@pytest.mark.parametrize("form", networks.FORMS)
def test_rows_are_those_of_the_reference(form):
    """Given a network of a family's form, when its head is put behind it, then every row is the reference's."""
    head, options = HOW[form]
    model = drawn(form)
    plain, graph, seen = ov.compile_model(model, "CPU", F32), with_head(form, head, **options), 0
    for seed in range(3):
        image = picture(model, seed)
        results = plain({0: image})
        wanted = reference.DECODERS[form]([np.array(results[port]) for port in plain.outputs])

        (rows,) = graph({0: image}).values()

        table = np.array([[one.label, one.score, *one.box, *one.points] for one in wanted], np.float32)
        assert rows.shape == table.shape
        assert np.abs(rows[:, 1] - table[:, 1]).max() < 1e-4
        assert np.array_equal(rows[:, 0], table[:, 0])
        assert np.abs(rows[:, 2:] - table[:, 2:]).max() < 0.02
        seen += len(table)
    assert seen > 30


@pytest.mark.parametrize("form", networks.FORMS)
def test_another_family_s_head_refuses_or_gives_rows(form):
    """Given any network, when any other head is tried, then it is a sentence or rows, never a crash."""
    for head in heads.HEADS:
        try:
            rows = heads.find(head)(drawn(form), iou=0.5)
        except (ValueError, TypeError, RuntimeError):
            continue
        assert rows.get_partial_shape()[1].get_length() >= 6


@pytest.mark.parametrize(
    ("head", "form", "options", "told"),
    [
        ("yolov5", "yolov10", {"normalize": True}, "normalize"),
        ("yolox", "yolov5", {}, r"YOLOX has \[1,315,5\+C\] at this size; this network has \[1,945,10\]"),
        ("nanodet", "nanodet_plus", {"bins": 16}, "with 16 bins the outputs are C and 64 wide"),
        ("nanodet", "nanodet_plus", {"strides": [8, 16]}, "no known set of grids; say options.strides"),
        ("nanodet", "picodet", {"scores": "tanh"}, "scores are one of none, sigmoid, softmax, not 'tanh'"),
        ("ssd_raw", "ssd_raw", {}, "does not bring its anchors; say in options.anchors"),
        ("ssd_raw", "ssd_raw", {"anchors": {"kind": "grid"}}, "these anchors are 330 at 160 x 96; the network has 318"),
        (
            "ssd_raw",
            "ssd_raw",
            {"anchors": {"kind": "cube"}},
            "anchors have a kind, one of grid, pyramid, efficientdet",
        ),
        ("ssd_raw", "ssd_raw", {"anchors": {"kind": "grid", "steps": 4}}, "steps"),
        ("ssd_raw", "ssd_raw", {"order": "hwxy"}, "order is one of yxhw, xywh, not 'hwxy'"),
        ("boxes_scores", "boxes_scores", {"box_format": "xxyy"}, "box_format is one of xyxy, yxyx, cxcywh, xywh"),
        ("boxes_scores", "boxes_scores", {"scores_name": "conf"}, "there is no output 'conf'; there are boxes, scores"),
        ("detr", "scrfd", {}, r"DETR has logits \[1,Q,C\] and boxes \[1,Q,4\]"),
        ("scrfd", "yunet", {}, "SCRFD has scores, boxes and landmarks for 3 grids, 630 rows of each"),
        ("yunet", "scrfd", {}, "YuNet has two scores, boxes and landmarks for 3 grids"),
        ("retinaface", "detr", {}, "RetinaFace has boxes, scores and landmarks of 630 rows"),
    ],
)
def test_a_misfit_is_told_in_a_sentence(head, form, options, told):
    """What the head wants, and what the network has."""
    with pytest.raises((ValueError, TypeError), match=told):
        heads.find(head)(drawn(form), iou=0.5, **options)


def test_a_box_counts_once_unless_it_may_have_several_labels():
    """Given two classes above the threshold in one place, when multi_label is on, then both are told."""
    model = drawn("yolov8")
    image = picture(model, 1)
    one, many, agnostic = (
        next(iter(with_head("yolov8", "yolov8", **how)({0: image}).values()))
        for how in ({}, {"multi_label": True}, {"agnostic": True})
    )

    assert len(agnostic) < len(one) < len(many)
    assert len({tuple(row[2:6]) for row in one.tolist()}) == len(one)
    assert len({tuple(row[2:6]) for row in many.tolist()}) < len(many)
    for index, row in enumerate(agnostic):
        assert all(iou(row[2:6], other[2:6]) <= OVERLAP for other in agnostic[:index])


@pytest.mark.parametrize("suffix", [".npy", ".txt", ".csv"])
def test_anchors_may_come_from_a_file(tmp_path, suffix):
    """Given the anchors that a colleague saved, when the head reads them, then rows are those of the made ones."""
    made = heads.ssd_raw.makers.grid(drawing.SIZE, strides=(16, 32, 64, 128))[:, [1, 0, 3, 2]]
    path = tmp_path / f"anchors{suffix}"
    np.save(path, made) if suffix == ".npy" else np.savetxt(path, made, delimiter="," if suffix == ".csv" else " ")
    image = picture(drawn("ssd_raw"), 1)

    (rows,) = with_head("ssd_raw", "ssd_raw", anchors_file=path)({0: image}).values()

    (wanted,) = with_head("ssd_raw", "ssd_raw", **HOW["ssd_raw"][1])({0: image}).values()
    assert np.allclose(rows, wanted, atol=1e-3)
    with pytest.raises(ValueError, match="cannot be read"):
        heads.find("ssd_raw")(drawn("ssd_raw"), iou=0.5, anchors_file=tmp_path / "none.npy")


def test_published_anchors_are_as_many_as_published():
    """SSD MobileNet at 300 and 320 pixels, its FPN at 320 and 640, EfficientDet Lite0."""
    makers = heads.ssd_raw.makers
    assert [len(makers.grid((side, side))) for side in (300, 320)] == [1917, 2034]
    assert [len(makers.pyramid((side, side))) for side in (320, 640)] == [12804, 51150]
    assert len(makers.efficientdet((320, 320), scale=3.0)) == 19206
