"""TFLite detectors that end in TensorFlow's own suppression, which OpenVINO does not know, are cut there and added."""

import contextlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.heads import drawing, tflite
from tests.reference import iou
from worker import models, network, store, tflite_end
from worker.heads import anchors
from worker.models import ModelError
from worker.settings import Settings

LABELS = ("cat", "dog", "horse", "sheep", "cow")
OPTIONS: dict[str, Any] = {
    "num_classes": 5,
    "y_scale": 10.0,
    "x_scale": 10.0,
    "h_scale": 5.0,
    "w_scale": 5.0,
    "nms_iou_threshold": 0.45,
    "detections_per_class": 100,
}

#: What TensorFlow's own runtime (LiteRT 2.3) gives for the float network and the picture below: label, score, x1, y1,
#: x2, y2. Its usual suppression is among all classes; the "regular" one gives another tenth row.
SHARED = [
    [1, 0.64, 141.54, 18.65, 152.8, 28.7],
    [0, 0.58, -16.96, -38.19, 61.58, 84.6],
    [0, 0.58, 1.5, 34.74, 20.89, 42.41],
    [0, 0.57, 75.33, -5.95, 172.9, 116.29],
    [1, 0.52, 69.57, 48.09, 85.22, 64.38],
    [4, 0.52, 5.71, -26.5, 59.4, 22.24],
    [1, 0.48, 27.45, 22.54, 49.74, 28.57],
    [0, 0.48, 14.02, 37.55, 32.77, 47.66],
    [0, 0.46, 27.74, 46.52, 147.41, 119.08],
]
USUAL, REGULAR = [3, 0.43, 136.78, 51.84, 152.44, 68.79], [3, 0.45, 27.45, 22.54, 49.74, 28.57]


def detector(kind: str, *, metadata: bytes = b"", **options: Any) -> bytes:
    made = anchors.grid(drawing.SIZE, strides=(16, 32, 64, 128))[:, [1, 0, 3, 2]]
    return tflite.ssd(kind, metadata=metadata, end={"anchors": made, "options": OPTIONS | options})


def add(path: Path, folder: Path, **wish: Any) -> store.Added:
    settings = Settings(model_store=folder / "models", precision="f32")
    return store.add(path, store.Wish("mine", **{"labels": LABELS, **wish}), settings)


def rows_of(added: store.Added) -> np.ndarray:
    """Run a model of the store on the picture of :data:`SHARED`."""
    spec, path = models.read("mine", added.folder.parent)
    height, width = drawing.SIZE
    coarse = np.random.default_rng(0).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    (rows,) = (
        network.load(spec, path, Settings(precision="f32"), 1)
        .compiled({0: coarse.repeat(4, axis=0).repeat(4, axis=1)[np.newaxis]})
        .values()
    )
    return rows


@pytest.mark.parametrize(("is_regular", "tenth"), [(False, USUAL), (True, REGULAR)])
def test_its_boxes_are_those_of_tensorflow_s_own_runtime(tmp_path: Path, is_regular: bool, tenth: list[float]):
    """Given a detector with its suppression inside, then its best ten rows are the runtime's, to the hundredth."""
    path = tmp_path / "net.tflite"
    path.write_bytes(detector("float32", use_regular_nms=is_regular))

    added = add(path, tmp_path)

    rows = rows_of(added)[:10]
    assert np.abs(rows - np.array([*SHARED, tenth])).max() < 0.01
    assert added.why[0] == (
        "head ssd_raw: it ended in TFLite_Detection_PostProcess, whose 318 anchors, scales and overlap are the head's "
        "now."
    )
    assert added.spec.iou == 0.45
    assert sorted(one.name for one in added.folder.iterdir()) == ["anchors.npy", "model.toml", "net.tflite"]


@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_in_integers_as_well(tmp_path: Path, kind: str):
    """Given the same in integers, its anchors too, then boxes differ by its rounding only."""
    path = tmp_path / "net.tflite"
    path.write_bytes(detector(kind, metadata=tflite.notes(), use_regular_nms=False))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labelmap.txt", "\n".join(LABELS))

    added = add(path, tmp_path, labels=())

    assert added.spec.labels == LABELS
    for label, score, *box in SHARED:
        fitting = [row for row in rows_of(added)[:12] if row[0] == label and abs(row[1] - score) < 0.03]
        assert max(iou(box, row[2:6].tolist()) for row in fitting) >= 0.9


def test_what_the_user_says_goes_before_what_its_end_says(tmp_path: Path):
    """Given an overlap and options on the command line, then they are taken."""
    path = tmp_path / "net.tflite"
    path.write_bytes(detector("float32"))

    added = add(path, tmp_path, given={"iou": 0.6, "options": {"agnostic": False}})

    assert (added.spec.iou, added.spec.options["agnostic"]) == (0.6, False)
    assert added.spec.options["anchors_file"] == tflite_end.ANCHORS
    with pytest.raises(ModelError, match="does not fit its 9 labels"):
        add(path, tmp_path, labels=tuple("abcdefghi"))


def test_one_without_that_end_is_left_as_it_is(tmp_path: Path):
    """Given raw boxes and scores, then there is nothing to cut."""
    path = tmp_path / "net.tflite"
    path.write_bytes(tflite.ssd("float32"))

    assert tflite_end.cut(path, tmp_path) is None


def test_a_damaged_end_is_a_sentence(tmp_path: Path):
    """Given such a file of which some bytes are others, or that is cut short, then it is used or refused, no more."""
    whole, path, inside = detector("uint8"), tmp_path / "net.tflite", tmp_path / "inside"
    inside.mkdir()
    random = np.random.default_rng(2)
    heads = [at for at in range(0, len(whole), 4) if at < 400 or at > len(whole) - 6000]
    for at in random.choice(heads, 400):
        hostile = bytearray(whole)
        hostile[at : at + 4] = random.bytes(4)
        for data in (bytes(hostile), whole[:at]):
            path.write_bytes(data)
            with contextlib.suppress(ValueError):
                tflite_end.cut(path, inside)
    path.write_bytes(whole.replace(b"num_classes", b"num_glasses"))
    with pytest.raises(
        ModelError, match=r"net\.tflite cannot be used: TFLite_Detection_PostProcess at its end cannot be"
    ):
        add(path, tmp_path)


def test_a_file_for_an_edge_tpu_is_refused_by_name(tmp_path: Path):
    """Given a network that a board's compiler has been at, then one is told to give the file before it."""
    one = tflite.Net()
    entry, found = one.tensor("picture", [1, *drawing.SIZE, 3], "uint8"), one.tensor("found", [1, 10, 4], "uint8")
    one.end("edgetpu-custom-op", [entry], [found], b"code")
    path = tmp_path / "net_edgetpu.tflite"
    path.write_bytes(one.dumps(entry, [found]))

    with pytest.raises(ModelError, match="it was compiled for an Edge TPU; give the file that it was compiled from"):
        add(path, tmp_path)
