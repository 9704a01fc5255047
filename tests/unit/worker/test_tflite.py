"""TFLite files as converters write them: integers throughout, notes of TensorFlow's tools, weights of 16 bits."""

import json
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest

from tests.heads import drawing, networks, reference, tflite
from tests.heads.found import OVERLAP, Found
from tests.reference import iou
from worker import integers, metadata, network, recognise, tflite_notes
from worker.models import ModelError
from worker.settings import Settings

LABELS = ("cat", "dog", "horse", "sheep", "cow")
F32 = Settings(precision="f32")
LEAST = 0.3

Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Write a TFLite file, with an archive behind its end if there are texts for one."""

    def write(data: bytes, texts: dict[str, str] | None = None) -> Path:
        path = tmp_path / "net.tflite"
        path.write_bytes(data)
        if texts:
            with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
                for name, text in texts.items():
                    archive.writestr(name, text)
        return path

    return write


def photo(seed: int) -> np.ndarray:
    """Give a coarse random picture, BGR bytes."""
    height, width = drawing.SIZE
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    return coarse.repeat(4, axis=0).repeat(4, axis=1)[np.newaxis]


def wanted(path: Path, bgr: np.ndarray) -> list[Found]:
    """Decode the float network's own outputs with numpy, from a picture of -1 to 1 in RGB."""
    compiled = ov.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = compiled({0: ((bgr[..., ::-1].astype(np.float32) - 127.5) / 127.5)})
    found = reference.DECODERS["ssd_raw"]([np.array(results[port]) for port in compiled.outputs])
    return [one for one in found if one.score >= LEAST]


def rows_of(path: Path, bgr: np.ndarray, **how: Any) -> np.ndarray:
    spec = recognise.recognise(path, "mine", labels=LABELS, **how).spec
    spec = replace(spec, iou=OVERLAP)
    (rows,) = network.load(spec, path, F32, 1).compiled({0: bgr}).values()
    return rows[rows[:, 1] >= LEAST]


def apart(some: np.ndarray, others: np.ndarray) -> float:
    """Tell how far the loneliest of some rows is from its nearest among others, in whatever order they come."""
    return float(np.abs(some[:, None] - others[None]).max(axis=2).min(axis=1).max())


# ------------------------------------------------------------------------------------------------------- integers


@pytest.mark.parametrize("notes", [b"", tflite.notes()], ids=["bare", "with notes"])
@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_a_network_in_integers_gives_the_boxes_of_the_one_in_floats(
    save: Save, tmp_path: Path, kind: str, notes: bytes
):
    """Given a detector whose picture and outputs are integers, then its boxes are the float one's, decoded by numpy."""
    plain = tmp_path / "plain.tflite"
    plain.write_bytes(tflite.ssd("float32"))
    path = save(tflite.ssd(kind, metadata=notes))
    seen = 0
    for seed in range(3):
        bgr = photo(seed)
        objects = wanted(plain, bgr)

        rows = rows_of(path, bgr)

        assert abs(len(rows) - len(objects)) <= 1
        for row in rows[rows[:, 1] >= LEAST + 0.05]:
            near = max(objects, key=lambda one: iou(one.box, row[2:6]) * (one.label == row[0]))
            assert iou(near.box, row[2:6]) >= 0.9
            assert abs(near.score - row[1]) < 0.05
        seen += len(rows)
    assert seen > 10


@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_ultralytics_exports_in_integers_give_the_boxes_of_those_in_floats(
    save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    """Given YOLOv8 in integers with its notes behind, then boxes are the float one's, decoded by numpy.

    An integer of its boxes is a 256th of the picture, and what is before them counts in 0.04: TensorFlow's own runtime
    gives the very same integers, up to four pixels from the floats.
    """
    plain = tmp_path / "plain.tflite"
    plain.write_bytes(tflite.yolov8("float32"))
    compiled = ov.compile_model(plain, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    said = {"task": "detect", "names": dict(enumerate(LABELS)), "imgsz": list(drawing.SIZE)}
    path = save(tflite.yolov8(kind), {"metadata.json": json.dumps(said)})
    spec = recognise.recognise(path, "mine").spec
    assert (spec.head, spec.options, spec.labels) == ("yolov8", {"normalised": True}, LABELS)
    assert (spec.mean, spec.scale, spec.resize) == ((0.0,) * 3, (255.0,) * 3, "letterbox")
    net = network.load(replace(spec, iou=OVERLAP), path, F32, 1)
    monkeypatch.setattr("tests.heads.found.OVERLAP", 1.0)  # of two that are nearly alike either may be the better one
    for seed in range(3):
        bgr = photo(seed)
        results = compiled({0: bgr[..., ::-1].astype(np.float32) / 255})
        objects = reference.yolov8_tflite([np.array(results[0])])

        (rows,) = net.compiled({0: bgr}).values()

        strong = rows[rows[:, 1] >= 0.5]
        assert len(strong) > 3
        for row in strong:
            fitting = [one for one in objects if one.label == row[0] and abs(one.score - row[1]) < 0.05]
            assert min(np.abs(row[2:6] - one.box).max() for one in fitting) < 4


@pytest.mark.parametrize(
    ("step", "zero", "mean", "scale"),
    [(1 / 127.5, 127, 127.0, 127.5), (1 / 128, 128, 128.0, 128.0), (1 / 255, 0, 0.0, 255.0), (1.0, 0, 0.0, 1.0)],
)
def test_bytes_go_into_a_network_of_integers_as_they_are(save: Save, step, zero, mean, scale):
    """Given a picture of integers that stand for a usual range, then mean and scale make a byte of each byte."""
    found = recognise.recognise(save(tflite.ssd("uint8", step=step, zero=zero)), "mine", labels=LABELS)

    assert found.spec.mean == pytest.approx((mean,) * 3, abs=0.01)
    assert found.spec.scale == pytest.approx((scale,) * 3, rel=1e-4)
    assert any("so each byte goes in as it is." in reason for reason in found.why)


def test_integers_of_an_unusual_range_are_asked_about(save: Save):
    """Given integers for -2 to 3, which are no pixels that anyone knows, then mean and scale are asked for."""
    path = save(tflite.ssd("uint8", step=5 / 255, zero=102))
    with pytest.raises(ModelError) as told:
        recognise.recognise(path, "mine", labels=LABELS)

    assert "the integers of its picture stand for -2 to 3, and nothing says which pixels those are" in str(told.value)
    assert "Say --set mean=[..] and --set scale=[..]" in str(told.value)
    given = {"mean": [102.0] * 3, "scale": [51.0] * 3}
    assert recognise.recognise(path, "mine", labels=LABELS, given=given).spec.mean == (102.0,) * 3


def test_notes_that_contradict_the_integers_are_asked_about(save: Save):
    """Given notes of 0 to 255 and integers for -1 to 1, then one of them is wrong, and nobody guesses which."""
    with pytest.raises(ModelError, match=r"its file says mean \(0\.0, 0\.0, 0\.0\) and scale \(1\.0, 1\.0, 1\.0\)"):
        recognise.recognise(save(tflite.ssd("int8", metadata=tflite.notes(mean=[0], scale=[1]))), "mine", labels=LABELS)


def test_integers_that_stand_for_nothing_are_refused(save: Save):
    """Given an output of bytes without scale and zero point, then a sentence names it."""
    one = tflite.Net()
    entry = one.tensor("picture", [1, *drawing.SIZE, 3], "uint8")
    wide = one.op(
        tflite.RESHAPE,
        [entry, one.tensor("shape", [3], "int32", data=np.array([1, -1, 6]))],
        one.tensor("rows", [1, 7680, 6], "uint8"),
        {0: np.array([1, -1, 6], np.int32)},
    )
    with pytest.raises(
        ModelError, match=r"its output 'rows' is of integers \(u8\), and nothing says what they stand for"
    ):
        recognise.recognise(save(one.dumps(entry, [wide])), "mine")


def test_a_network_in_floats_is_left_as_it_is(save: Save):
    """Given floats, or whole numbers that are labels, then nothing changes."""
    model = ov.Core().read_model(save(tflite.ssd("float32")))
    before = [one.get_friendly_name() for one in model.get_ops()]

    assert integers.widen(model) is None
    assert [one.get_friendly_name() for one in model.get_ops()] == before
    labels = networks.boxes_labels()
    integers.widen(labels)
    assert labels.outputs[1].get_element_type() == ov.Type.i64


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_a_trial_run_out_of_a_network_s_range_is_not_believed_alone(save: Save, kind: str):
    """Given a network for -1 to 1, then what it makes of 0 to 255 decides nothing: scores are for a sigmoid."""
    path = save(tflite.ssd(kind))

    options = recognise.recognise(path, "mine", labels=LABELS).spec.options

    assert (options["scores"], options["background"]) == ("sigmoid", True)
    with pytest.raises(ModelError, match="It is not sure what"):
        recognise.recognise(path, "mine")


# -------------------------------------------------------------------------------------------------------- colours


@pytest.mark.parametrize("kind", ["float16", "float32", "int8"])
def test_rgb_and_bgr_are_not_the_same(save: Save, kind: str):
    """Given a TFLite detector, then RGB of a picture is BGR of the turned one, and not BGR of the picture as it is.

    With OpenVINO's own step for colours both gave the same boxes here, without a word.
    """
    path, bgr = save(tflite.ssd(kind)), photo(1)
    turned = np.ascontiguousarray(bgr[..., ::-1])

    as_rgb, as_bgr, untouched = (
        rows_of(path, picture, given={"colour": colour})
        for colour, picture in (("RGB", bgr), ("BGR", turned), ("BGR", bgr))
    )

    assert len(as_rgb) == len(as_bgr) > 0
    assert apart(as_rgb, as_bgr) < 0.01
    assert apart(as_rgb, untouched) > 1


# ---------------------------------------------------------------------------------------------------------- notes


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_labels_and_normalisation_come_from_the_notes(save: Save, kind: str):
    """Given TensorFlow's metadata, then the labels are those of the file it names, and the rest is as it says."""
    data = tflite.ssd(kind, metadata=tflite.notes(mean=[127.0], scale=[128.0], least=0.4))
    path = save(data, {"another.txt": "a\nb\n", "labelmap.txt": "???\n" + "\n".join(LABELS) + "\n"})

    found = recognise.recognise(path, "mine")

    assert found.spec.labels == LABELS
    assert (found.spec.mean, found.spec.scale) == ((127.0,) * 3, (128.0,) * 3)
    assert (found.spec.colour, found.spec.min_score, found.spec.head) == ("RGB", 0.4, "ssd_raw")
    assert found.spec.options["background"] is True
    assert any("from TensorFlow's metadata in the file" in reason for reason in found.why)


@pytest.mark.parametrize("mean", [[1.0, 2.0], [float("nan")], [float("inf")], []])
def test_numbers_that_are_no_normalisation_are_not_believed(save: Save, mean):
    """Given two numbers, none, or such as are no numbers, then the file says nothing of it."""
    assert tflite_notes.read(save(tflite.ssd("float32", metadata=tflite.notes(mean=mean)))).fields == {"colour": "RGB"}


def test_damaged_notes_say_nothing(save: Save):
    """Given notes of which any byte is another, or that are cut anywhere, then it is an answer, never a crash."""
    whole = tflite.notes(least=0.4)
    random = np.random.default_rng(1)
    for at in range(0, len(whole), 3):
        hostile = bytearray(whole)
        hostile[at] = int(random.integers(0, 256))
        for data in (bytes(hostile), whole[:at]):
            assert isinstance(tflite_notes.read(save(tflite.ssd("float32", metadata=data))), tflite_notes.Notes)


@pytest.mark.parametrize("at", [0, 8, 12, 16, 24, 32])
def test_offsets_out_of_a_file_are_not_followed(save: Save, at: int):
    """Given a file whose first offsets lead anywhere, then nothing is read."""
    for value in (0xFFFFFFFF, 0x7FFFFFFF, 0x80000000):
        data = bytearray(tflite.ssd("float32", metadata=tflite.notes()))
        struct.pack_into("<I", data, at, value)
        assert isinstance(tflite_notes.read(save(bytes(data))), tflite_notes.Notes)
    assert tflite_notes.read(save(b"")) == tflite_notes.Notes()


def test_an_archive_that_would_fill_memory_is_not_read(save: Save):
    """Given a member of 64 MiB of zeros in a few bytes, and too many members, then they are left alone."""
    path = save(tflite.ssd("float32"), {"bomb.txt": "\0" * 2**26, "labels.txt": "\n".join(LABELS)})

    assert set(tflite_notes.members(path)) == {"labels.txt"}
    assert metadata.read(ov.Core().read_model(path), path).labels == LABELS
    many = save(tflite.ssd("float32"), {f"{number}.txt": "x" for number in range(200)})
    assert len(tflite_notes.members(many)) == tflite_notes.MAX_MEMBERS


def test_a_damaged_archive_is_done_without(save: Save):
    """Given an archive whose content is damaged, then the network is used without it."""
    path = save(tflite.ssd("float32"), {"labels.txt": "\n".join(LABELS) * 50})
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x03\x04") + 45
    data[at : at + 20] = bytes(20)
    path.write_bytes(data)

    assert tflite_notes.members(path) == {}
