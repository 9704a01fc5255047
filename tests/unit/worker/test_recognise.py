"""``models add`` says what a network is and why, asks where it is not sure, and refuses what is no detector."""

import json
import zipfile
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op

from tests.heads import drawing, networks
from tests.unit.worker.recognising import LABELS, Save, refused
from tests.unit.worker.test_head_forms import HOW
from worker import metadata, network, recognise
from worker.settings import Settings

FACES = {"scrfd", "yunet", "retinaface"}

#: Forms that their shapes and a trial run alone do not settle: they are asked for, or settled by labels.
UNSURE = {"yolov6", "yolov8_turned", "rt_detr_joined", "dfl_maps", "dfl_turned", "ssd_raw", "efficientdet", "rt_detr"}
#: Forms whose boxes could be written in several ways, which nobody can see: always asked for.
NEVER_SURE = {"boxes_scores", "paddle"}


# --------------------------------------------------------------------------------------------------- every form


@pytest.mark.parametrize("form", [form for form in networks.FORMS if form not in NEVER_SURE])
def test_a_form_is_recognised_with_its_options(save: Save, form):
    """Given a network of a family's form and its labels, then head and options are those that decode it."""
    labels = () if form in FACES else LABELS

    found = recognise.recognise(save(networks.FORMS[form]()), "mine", labels=labels)

    head, options = HOW[form]
    defaults = {"boxes_name", "scores_name", "classes_name", "background", "scores"}
    assert found.spec.head == head
    assert {key: value for key, value in found.spec.options.items() if key not in defaults - set(options)} == options
    assert found.spec.labels == (labels or ("face",))
    assert found.spec.input_size == drawing.SIZE
    assert found.why[0].startswith(f"head {head}: ")
    network.build(found.spec, save(networks.FORMS[form]()), ov.Core())


@pytest.mark.parametrize("form", networks.FORMS)
def test_without_labels_it_is_right_or_asks(save: Save, form):
    """Given no labels, then what is not certain is asked for by naming the heads it could be."""
    path = save(networks.FORMS[form]())
    head, _ = HOW[form]

    if form in UNSURE | NEVER_SURE:
        told = refused(path)
        assert told.startswith("It is not sure what net.xml is: ")
        assert f"--head {head}" in told
    else:
        assert recognise.recognise(path, "mine").spec.head == head


@pytest.mark.parametrize("form", sorted(NEVER_SURE))
def test_a_head_that_is_given_is_believed(save: Save, form):
    """And what can be seen of its options is filled in."""
    found = recognise.recognise(save(networks.FORMS[form]()), "mine", labels=LABELS, head="boxes_scores")

    assert found.spec.head == "boxes_scores"
    assert found.spec.options == ({"normalised": True} if form == "boxes_scores" else {})


@pytest.mark.parametrize("form", ["yolov8", "yolov5", "nanodet_plus", "ssd_raw"])
def test_labels_that_are_too_few_or_too_many_are_refused(save: Save, form):
    """The wrong list would give the wrong names."""
    assert "does not fit its 9 labels" in refused(save(networks.FORMS[form]()), labels=tuple("abcdefghi"))


@pytest.mark.parametrize(("columns", "order"), [([0, 1, 2, 3], None), ([1, 0, 3, 2], "xywh")])
def test_the_order_of_a_network_s_own_anchors_is_seen(save: Save, columns, order):
    """Given anchors row by row, then the coordinate that changes more often is x; in a heap of them nobody knows."""
    model = networks.ssd_own_anchors()
    anchors = model.outputs[2].get_node().input_value(0).get_node().get_data()
    one = drawing.Drawing(1)
    one.entry = model.get_parameters()[0]
    for port, name in zip(model.outputs[:2], ("boxes", "scores"), strict=True):
        one.add(port.get_node().input_value(0), name)
    one.add(op.constant(anchors[:, columns].copy()), "anchors")
    assert recognise.recognise(save(one.model()), "mine", labels=LABELS).spec.options.get("order") == order
    one.outputs.pop()
    one.add(op.constant(np.random.default_rng(1).permutation(anchors)), "anchors")
    assert "--head ssd_raw" in refused(save(one.model()), labels=LABELS)


def test_a_background_among_the_labels_is_no_label(save: Save):
    """TensorFlow's lists begin with it."""
    path = save(networks.ssd_raw())

    found = recognise.recognise(path, "mine", labels=("???", *LABELS))

    assert found.spec.labels == LABELS
    assert found.spec.options["background"] is True


def test_a_background_among_the_labels_is_no_label_where_classes_are_not_counted(save: Save):
    """Given outputs that do not say how many classes there are, counted from 1, then the list's first is dropped."""
    found = recognise.recognise(save(networks.tf_detections()), "mine", labels=("???", *LABELS))

    assert found.spec.labels == LABELS
    assert found.spec.options["first_label"] == 1


@pytest.mark.parametrize("behind", ["f16", "reshape"])
def test_what_stands_behind_a_detection_output_does_not_hide_its_background(save: Save, behind):
    """Given a change of type or shape behind it, then the background is seen all the same: names are not one off."""
    model = networks.ssd()
    rows = model.output(0).get_node().input_value(0)
    last = op.convert(op.convert(rows, "f16"), "f32") if behind == "f16" else op.reshape(rows, [1, 1, -1, 7], False)

    found = recognise.recognise(save(ov.Model([last], model.get_parameters())), "mine", labels=LABELS)

    assert (found.spec.head, found.spec.options) == ("ssd", {"first_label": 1})


def test_rows_of_seven_that_do_not_tell_their_background_are_asked_about(save: Save):
    """Given something between DetectionOutput and the end, then nobody guesses what class 0 is."""
    model = networks.ssd()
    rows = model.output(0).get_node().input_value(0)

    said = refused(save(ov.Model([op.relu(rows)], model.get_parameters())), labels=LABELS)

    assert "--head ssd" in said
    assert "options.first_label=1" in said


def test_one_class_without_labels_is_one_label(save: Save):
    """Given raw boxes and one score each, then the one class is no background; rows like YOLOv8's are seen as well."""
    asked = refused(save(networks.efficientdet(classes=1)))
    assert "1 scores after sigmoid" in asked
    assert "no background" in asked
    assert "--head yolov8" in refused(save(networks.yolov8_turned(classes=1)))
    assert recognise.recognise(save(networks.yolov8_turned(classes=1)), "mine", labels=("cat",)).spec.head == "yolov8"


def test_anchors_of_16_bits_are_seen_as_constant(save: Save, tmp_path):
    """Given a network whose weights were compressed, then its anchors are its own as before."""
    path = tmp_path / "small.xml"
    ov.save_model(networks.ssd_own_anchors(), path, compress_to_fp16=True)

    found = recognise.recognise(path, "mine", labels=LABELS)

    assert found.spec.head == "ssd_raw"
    network.build(found.spec, path, ov.Core())


@pytest.mark.parametrize("model", ["centerface", "blazeface_short", "blazeface_back", "blazeface_full"])
def test_known_networks_are_recognised(store: Path, model):
    """ONNX and TFLite, with what their own descriptions say."""
    path = next(path for path in (store / model).iterdir() if path.suffix != ".toml")

    spec = recognise.recognise(path, model).spec

    assert spec.head == model.partition("_")[0]
    assert spec.options == ({} if spec.head == "centerface" else {"variant": model.partition("_")[2]})
    assert (spec.colour, spec.labels) == ("RGB", ("face",))
    assert spec.input_size == {"centerface": (480, 640), "short": (128, 128), "back": (256, 256)}.get(
        model.rpartition("_")[2], (192, 192)
    )


# ------------------------------------------------------------------------------------- what files say of themselves


OTX = {
    "model_type": "ssd",
    "task_type": "detection",
    "labels": "cat big_dog horse sheep cow",
    "mean_values": "123.675 116.28 103.53",
    "scale_values": "58.395 57.12 57.375",
    "resize_type": "fit_to_window",
    "pad_value": "114",
    "reverse_input_channels": "False",
    "confidence_threshold": "0.35",
    "otx_version": "2.4.0",
}


def test_an_otx_model_brings_its_labels_and_preprocessing(save: Save):
    """Given model_info as OTX and Geti write it, then nothing is left to the family's habits but the rest."""
    found = recognise.recognise(save(networks.boxes_labels(), **OTX), "mine")

    spec = found.spec
    assert (spec.head, spec.labels) == ("boxes_labels", ("cat", "big dog", "horse", "sheep", "cow"))
    assert (spec.colour, spec.mean, spec.scale) == ("RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
    assert (spec.resize, spec.pad, spec.pad_at, spec.min_score) == ("letterbox", 114, "top_left", 0.35)
    assert any("from the model_info of Geti or OTX" in reason for reason in found.why)


def test_geti_s_label_names_may_have_blanks(save: Save):
    """Its own JSON says them as they are."""
    info = json.dumps({"label_names": ["a cat", "big_dog"], "label_ids": ["1", "2"]})

    spec = recognise.recognise(save(networks.boxes_labels(), **OTX, label_info=info), "mine").spec

    assert spec.labels == ("a cat", "big_dog")


def test_ultralytics_ir_is_read_with_the_file_beside_it(save: Save):
    """Given model_info and metadata.yaml as its export writes them, then labels, task and letterbox are known."""
    path = save(networks.yolov8(), model_type="YOLO", reverse_input_channels=True, pad_value=114, labels="a b c d e")
    assert recognise.recognise(path, "mine").spec.labels == tuple("abcde")
    lines = ["description: a model", "task: detect", "imgsz:", "- 96", "- 160", "names:"]
    lines += [f"  {number}: '{label}'" for number, label in enumerate(LABELS)]
    (path.parent / "metadata.yaml").write_text("\n".join(lines) + "\n")

    spec = recognise.recognise(path, "mine").spec

    assert spec.labels == LABELS
    assert (spec.resize, spec.pad, spec.pad_at, spec.scale) == ("letterbox", 114, "centre", (255.0,) * 3)
    (path.parent / "metadata.yaml").write_text("\n".join(lines).replace("task: detect", "task: obb"))
    assert "gives oriented boxes (task 'obb' in Ultralytics' metadata)" in refused(path)


def test_the_archive_behind_a_tflite_file_is_read(store: Path, tmp_path):
    """Given a list of labels packed behind the end of the file, as TensorFlow's tools do, then they are its labels."""
    source = next((store / "blazeface_short").glob("*.tflite"))
    path = tmp_path / "net.tflite"
    path.write_bytes(source.read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "a face\n")

    assert metadata.read(ov.Core().read_model(source), path).labels == ("a face",)
    assert recognise.recognise(path, "mine").spec.labels == ("a face",)


def test_what_the_user_says_is_not_told_as_a_default(save: Save):
    """Given a head of which nothing is known, then only what was left out is said to be a default."""
    found = recognise.recognise(save(networks.ssd()), "mine", labels=LABELS, head="theirs", given={"scale": [255] * 3})

    assert found.spec.scale == (255, 255, 255)
    assert "colour, mean, resize: nothing is known, so the defaults; check with a photo." in found.why


def test_what_the_user_says_goes_before_what_the_file_says(save: Save):
    """Given colour and an option on the command line, then they are taken and the rest stays."""
    given = {"colour": "BGR", "input_size": [96, 160], "options": {"normalised": True}}

    found = recognise.recognise(save(networks.boxes_labels(), **OTX), "mine", given=given)

    assert (found.spec.colour, found.spec.options, found.spec.pad) == ("BGR", {"normalised": True}, 114)


def test_inputs_beside_the_picture_get_their_values(save: Save):
    """Given PaddleDetection's scale_factor, then the graph has one input, and boxes in pixels of it."""
    path = save(networks.paddle())
    spec = recognise.recognise(path, "mine", labels=LABELS, head="boxes_scores").spec

    compiled = network.load(spec, path, Settings(precision="f32"), 1).compiled

    assert [tuple(one.shape) for one in compiled.inputs] == [(1, *drawing.SIZE, 3)]
