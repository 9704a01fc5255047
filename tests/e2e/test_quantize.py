"""``fleet-worker models quantize``: a real network in integers, with NNCF, on real photos."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from tests import photos, reference
from tests.heads import tflite
from worker import models, quantized, settings
from worker.cli import main

Say = Callable[..., Result]

#: Pictures of :func:`tests.photos.build` that are there for their size.
LEFT_OUT = ("huge", "png_1x1", "thin", "wide")


@pytest.fixture(scope="module")
def album(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of real photos, most with faces, and a file that is no picture."""
    folder = tmp_path_factory.mktemp("album")
    for name, (data, _) in photos.build(samples).items():
        if name not in LEFT_OUT:
            (folder / name).write_bytes(data)
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def own_store(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with CenterFace and BlazeFace."""
    folder = tmp_path_factory.mktemp("store")
    for name in ("centerface", "blazeface_short"):
        shutil.copytree(store / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def say(own_store: Path) -> Say:
    """Type ``fleet-worker models ...``; networks run in floats of 32 bits unless they are quantised."""
    environ = {"FLEET_MODEL_STORE": str(own_store), "FLEET_PRECISION": "f32", "FLEET_CACHE_DIR": ""}

    def run(*words: object) -> Result:
        settings.load.cache_clear()
        try:
            return CliRunner().invoke(main, ["models", *map(str, words)], env=environ)
        finally:
            settings.load.cache_clear()

    return run


@pytest.fixture(scope="module")
def made(say: Say, album: Path) -> Result:
    """What making CenterFace in integers said."""
    return say("quantize", "centerface", "--images", album, "--rounds", 3, "--seconds", 0.2)


def left_in(folder: Path) -> list[str]:
    """Names in the store, drafts included."""
    return sorted(path.name for path in folder.iterdir())


def test_a_real_network_in_integers_finds_the_same_faces(made: Result, say: Say, own_store: Path, samples: Path):
    """Given CenterFace and photos, when it is quantised, then its integer form is a model that finds the face of a
    photo where the independent decoder finds it, in a third of the bytes.
    """
    assert made.exit_code == 0, made.output
    (spec, path), (before, source) = (models.read(name, own_store) for name in ("centerface-int8", "centerface"))
    photo = samples / "astronaut.png"
    (face,) = reference.centerface_reference(cv2.imread(str(photo)), source, precision="f32")

    checked = say("check", "centerface-int8", photo, "--json", "--out", own_store.parent / "drawn.png")

    (line,) = [line for line in checked.output.splitlines() if line.startswith("{")]
    box = [float(edge) for edge in line.partition('"box": [')[2].partition("]")[0].split(",")]
    assert reference.iou(face["box"], box) > 0.85
    assert (spec.head, spec.input_size, spec.labels) == (before.head, before.input_size, before.labels)
    assert spec.digest == models.digest(path) != models.digest(source)
    assert path.with_suffix(".bin").stat().st_size < source.stat().st_size / 3
    assert before.digest in ("", models.digest(source))


def test_what_was_measured_is_printed_and_kept_with_the_model(made: Result, say: Say, own_store: Path):
    """Given the new model, then drop and speed-up are printed, stand beside it, and are shown with it."""
    report = quantized.read(own_store / "centerface-int8")

    assert report is not None
    assert report.source == "centerface"
    assert report.calibrated > report.compared >= 10
    assert report.boxes >= 10
    assert 0.98 <= report.map_50 <= 1
    assert 0.8 <= report.map_50_95 <= report.map_50
    assert min(report.float_per_s, report.int8_per_s) > 0
    assert report.low <= report.speed_up <= report.high
    for line in report.sentences():
        assert line in made.output
        assert line in say("show", "centerface-int8").output


def test_a_name_that_is_taken_is_refused_before_any_work(made: Result, say: Say, album: Path):
    """Given a model that was quantised, when it is again, then it says --replace at once."""
    again = say("quantize", "centerface", "--images", album)

    assert again.exit_code == 1
    assert "There is a model 'centerface-int8' already. Choose another --as, or say --replace." in again.output


def test_a_network_that_lost_its_eyes_is_refused_with_the_figures(
    say: Say, own_store: Path, samples: Path, tmp_path: Path
):
    """Given calibration on black pictures, so that the integers span nothing, then the faces of the others are lost,
    the sentence says how many, and neither the store nor the model that was to be replaced has changed.
    """
    for number in range(15):  # every third is kept out of calibration
        shutil.copy(samples / "astronaut.png", tmp_path / f"{number:02d}.png")
        if number % 3:
            cv2.imwrite(str(tmp_path / f"{number:02d}.png"), np.zeros((64, 64, 3), np.uint8))
    before, digest = left_in(own_store), models.digest(own_store / "centerface" / "centerface.onnx")

    refused = say(
        *("quantize", "centerface", "--images", tmp_path, "--as", "centerface", "--replace"),
        *("--rounds", 3, "--seconds", 0.05),
    )

    assert refused.exit_code == 1
    assert "a drop of 1.0000" in refused.output
    assert "The drop at IoU 0.5 may be 0.02; the store is as before." in refused.output
    assert left_in(own_store) == before
    assert models.digest(own_store / "centerface" / "centerface.onnx") == digest


def test_a_network_of_another_format_and_layout_can_be_quantised(say: Say, own_store: Path, album: Path):
    """Given BlazeFace, a TFLite file whose channels come last, then its integer form agrees as well."""
    done = say(
        *("quantize", "blazeface_short", "--images", album, "--as", "small"), *("--rounds", 3, "--seconds", 0.05)
    )

    assert done.exit_code == 0, done.output
    report = quantized.read(own_store / "small")
    assert report is not None
    assert report.map_50 >= 0.98
    assert models.read("small", own_store)[0].layout == "NHWC"


def test_a_network_in_integers_is_not_quantised_again(
    say: Say, own_store: Path, album: Path, tmp_path: Path, request: pytest.FixtureRequest
):
    """Given a TFLite file in integers throughout, then a sentence says that it is so already."""
    (tmp_path / "net.tflite").write_bytes(tflite.ssd("int8"))
    (tmp_path / "labels.txt").write_text("a\nb\nc\nd\ne\n")
    added = say("add", tmp_path / "net.tflite", "--name", "whole", "--labels", tmp_path / "labels.txt")
    assert added.exit_code == 0, added.output
    request.addfinalizer(lambda: shutil.rmtree(own_store / "whole"))

    again = say("quantize", "whole", "--images", album)

    assert again.exit_code == 1
    assert "'whole' is in integers already; take the network in floats." in again.output


def test_pictures_are_needed_and_something_on_them(say: Say, samples: Path, tmp_path: Path):
    """Given a folder with one photo, then it says how many are wanted; given photos without faces, that nothing can be
    compared.
    """
    shutil.copy(samples / "china.jpg", tmp_path / "0.jpg")
    few = say("quantize", "centerface", "--images", tmp_path, "--as", "none")
    for number in range(1, 12):
        shutil.copy(samples / "china.jpg", tmp_path / f"{number}.jpg")
    empty = say("quantize", "centerface", "--images", tmp_path, "--as", "none")

    assert (few.exit_code, empty.exit_code) == (1, 1)
    assert "holds 1 pictures (JPEG, PNG, WebP, BMP); at least 12 are wanted" in few.output
    assert "centerface finds nothing in the 4 pictures that were kept out of calibration" in empty.output


def test_without_nncf_a_sentence_names_the_extra(say: Say, album: Path, monkeypatch: pytest.MonkeyPatch):
    """Given a worker without the extra, then the command says what to install."""
    monkeypatch.setitem(sys.modules, "worker.quantize", None)

    done = say("quantize", "centerface", "--images", album)

    assert done.exit_code == 1
    assert 'pip install "detection-fleet[quantize]"' in done.output


def test_a_damaged_report_is_no_report(tmp_path: Path):
    """Given nonsense beside a model, then it is as if nothing stood there."""
    for text in ("", "[]", "{}", '{"source": 1}', "\x00"):
        (tmp_path / quantized.FILE).write_text(text)
        assert quantized.read(tmp_path) is None
