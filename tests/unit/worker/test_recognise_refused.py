"""``models add`` refuses what is no detector by its name, and what it does not know with what it saw."""

import json
import zipfile
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op

from tests.heads import drawing, networks, tflite
from tests.heads import refused as refused_networks
from tests.unit.worker.recognising import LABELS, Save, refused
from worker import recognise


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (refused_networks.classifier, "is a classifier: it scores a whole picture and gives no boxes"),
        (refused_networks.segmenter, "is a segmenter: it gives a class to each place of a picture and no boxes"),
        (refused_networks.instance_masks, "gives instance masks"),
        (refused_networks.instance_masks_v5, "gives instance masks"),
        (refused_networks.masks_finished, "gives instance masks"),
        (refused_networks.oriented, "gives oriented boxes"),
        (refused_networks.oriented_finished, "gives oriented boxes"),
        (refused_networks.pose, "is a network for poses"),
        (lambda: refused_networks.pose(5), "is a network for poses"),
        (refused_networks.pose_finished, "is a network for poses"),
    ],
)
@pytest.mark.parametrize("head", [None, "yolov8"])
def test_what_is_no_detector_of_upright_boxes_is_refused_by_name(save: Save, model, told, head):
    """Even if a head is given: no head of ours makes boxes of it."""
    said = refused(save(model()), head=head)

    assert f"net.xml {told} (outputs " in said
    assert said.endswith("The fleet serves detectors with upright boxes.")


def test_what_may_be_a_network_for_poses_is_asked_about(save: Save):
    """Given 56 values of 0 to 1 for each box, then they may be 52 classes or 17 points: only labels or a head tell."""
    path = save(refused_networks.pose(is_unit=True))

    said = refused(path)

    assert "--head yolov8" in said
    assert "of 52 classes, unless it is a network for poses, with 17 points each" in said
    assert recognise.recognise(path, "mine", head="yolov8").spec.head == "yolov8"
    labels = tuple(f"kind {number}" for number in range(52))
    assert recognise.recognise(save(networks.yolov8(classes=52)), "mine", labels=labels).spec.labels == labels


def test_a_last_value_that_may_be_an_angle_is_asked_about(save: Save):
    """Given a last row unlike the scores before it, then it is no sure guess."""
    assert refused(save(refused_networks.oriented_upright())).startswith("It is not sure what net.xml is: ")


@pytest.mark.parametrize(
    ("task", "told"),
    [
        ("classification", "is a classifier"),
        ("segmentation", "is a segmenter"),
        ("instance_segmentation", "gives instance masks"),
        ("rotated_detection", "gives oriented boxes"),
        ("keypoint_detection", "is a network for poses"),
        ("anomaly_classification", "finds anomalies"),
    ],
)
def test_what_a_file_says_of_its_task_is_believed(save: Save, task, told):
    """Its outputs may look like a detector's."""
    said = refused(save(networks.yolov8(), task_type=task, otx_version="2.4"))

    assert told in said
    assert f"(task {task!r} in the model_info of Geti or OTX)" in said


@pytest.mark.parametrize(
    ("task", "told"),
    [
        ("obb", "gives oriented boxes"),
        ("pose", "is a network for poses"),
        ("segment", "gives instance masks"),
        ("classify", "is a classifier"),
    ],
)
def test_ultralytics_task_is_believed_in_a_tflite_file_as_well(tmp_path: Path, task, told):
    """Given the notes that its export packs behind the file, then what is no detector is refused by name."""
    path = tmp_path / "net.tflite"
    path.write_bytes(tflite.ssd("float32"))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("metadata.json", json.dumps({"task": task, "names": {"0": "a"}}))

    said = refused(path)

    assert said.startswith(f"net.tflite {told}")
    assert f"(task {task!r} in Ultralytics' metadata)" in said


def test_outputs_of_no_family_are_shown(save: Save):
    """With the way out: a generic head, or one of one's own."""
    one = drawing.Drawing(40)
    one.add(one.rows(3, 8), "threes")
    one.add(one.rows(9, 16), "nines")

    said = refused(save(one.model()))

    assert "outputs of no family that is known: threes [1,240,3], nines [1,60,9]" in said
    assert "--head boxes_scores" in said
    assert "docs/models.md" in said


def test_rows_that_only_look_like_a_family_s_are_not_taken_for_it(save: Save):
    """Seven columns in another order than DetectionOutput's would give boxes that are wrong without a word."""
    assert "outputs of no family that is known: output [75,7]" in refused(save(refused_networks.seven()))


@pytest.mark.parametrize(
    "model",
    [
        refused_networks.raw_yolov5,
        refused_networks.yolov5_face,
        refused_networks.raw_yolov8,
        refused_networks.corners_yolov8,
        refused_networks.corners_yolov6,
    ],
)
@pytest.mark.parametrize("labels", [(), LABELS, tuple("abcdefghijk")])
def test_a_family_s_shape_with_other_values_in_it_is_not_taken_for_it(save: Save, model, labels):
    """Given raw scores, landmarks or corners where that family has scores and centres, then it is refused."""
    assert "outputs of no family that is known" in refused(save(model()), labels=labels)


def test_keypoints_of_0_to_1_are_not_taken_for_scores(save: Save):
    """Given a network for poses, all of it 0 to 1, that says nothing of itself, then it is asked about."""
    assert "It is not sure what net.xml is" in refused(save(refused_networks.pose(5, is_unit=True)))


def test_an_input_that_is_no_picture_is_told(save: Save, tmp_path):
    """One channel, two pictures, or no size at all."""
    grey = op.parameter([1, 1, 96, 160], np.float32)
    assert "its input [1,1,96,160] is no picture of three channels" in refused(save(ov.Model([op.relu(grey)], [grey])))
    pair = [op.parameter([1, 3, 96, 160], np.float32, name=name) for name in ("left", "right")]
    assert "this network has left, right" in refused(save(ov.Model([op.add(*pair)], pair)))
    free = op.parameter([1, 3, -1, -1], np.float32)
    path = save(ov.Model([op.relu(free)], [free]))
    assert "say which: --set input_size=[480,640]" in refused(path)
    assert "is a segmenter" in refused(path, given={"input_size": [96, 160]})


@pytest.mark.parametrize("suffix", [".xml", ".onnx", ".tflite"])
def test_a_file_that_is_no_network_is_told(tmp_path, suffix):
    """In a sentence."""
    (tmp_path / f"net{suffix}").write_bytes(b"garbage" * 99)

    assert f"net{suffix} cannot be used: " in refused(tmp_path / f"net{suffix}")
