"""``fleet-worker models``: one command from a file to boxes, and a store that holds whole models only."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import openvino as ov
import pytest
from click.testing import CliRunner, Result

from tests.heads import networks, reference
from tests.heads import refused as refused_networks
from worker import models, settings, store
from worker.cli import main
from worker.models import ModelError

Say = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty store that is not there yet."""
    return tmp_path / "data" / "models"


@pytest.fixture
def say(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Say]:
    """Type ``fleet-worker models ...`` in an empty folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    environ = {"FLEET_MODEL_STORE": str(folder), "FLEET_PRECISION": "f32", "FLEET_CACHE_DIR": ""}

    def run(*words: object) -> Result:
        settings.load.cache_clear()  # a process reads its settings once, and this is a new one for each command
        return CliRunner().invoke(main, ["models", *map(str, words)], env=environ)

    yield run
    settings.load.cache_clear()


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """A network of five classes as somebody exported it."""
    path = tmp_path / "export" / "best.xml"
    path.parent.mkdir()
    ov.save_model(networks.yolov8(), path, compress_to_fp16=False)
    return path


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.txt"
    path.write_text("cat\ndog\nhorse\nsheep\nkühe\n\n", encoding="utf-8")
    return path


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


# --------------------------------------------------------------------------------------------- from a file to boxes


def test_one_command_adds_a_network_and_a_second_shows_its_boxes(say: Say, net, labels, folder, tmp_path):
    """Given an export, when it is added and checked on a photo, then the boxes are the reference's."""
    picture = cv2.resize(np.random.default_rng(1).integers(0, 255, (24, 40, 3), np.uint8), (160, 96))
    cv2.imwrite(str(tmp_path / "photo.png"), picture)

    added = say("add", net, "--name", "zoo", "--labels", labels, "--set", "scale=[1,1,1]", "--set", "iou=0.45")
    checked = say("check", "zoo", tmp_path / "photo.png", "--json", "--min-score", "0.05")

    assert added.exit_code == 0, added.output
    assert "head yolov8: [1,4+C,N] with N = 315 cells" in added.output
    assert "5 labels: from the list given." in added.output
    assert f"It is in {folder / 'zoo'}." in added.output
    found = [json.loads(line) for line in checked.stdout.splitlines()]
    compiled = ov.compile_model(networks.yolov8(), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    planes = picture[..., ::-1].transpose(2, 0, 1)[np.newaxis].astype(np.float32)
    wanted = reference.yolov8([np.array(value) for value in compiled(planes).values()])
    assert len(found) == len(wanted) > 5
    for one, other in zip(found, wanted, strict=True):
        assert one["label"] == ("cat", "dog", "horse", "sheep", "kühe")[other.label]
        box = np.clip(other.box, 0, [160, 96, 160, 96])
        assert one["box"] == pytest.approx(box, abs=0.02)
    assert cv2.imread("photo-zoo.png").shape == picture.shape
    assert "photo-zoo.png" in checked.stderr


def test_the_store_s_folder_holds_network_and_description(say: Say, net, labels, folder):
    """Given a model that was added, then its model.toml has version and digest, and list and show tell them."""
    say("add", net, "--name", "zoo", "--labels", labels)

    spec, path = models.read("zoo", folder)
    assert left_in(folder / "zoo") == ["best.bin", "best.xml", "model.toml"]
    assert (spec.version, spec.digest) == (1, models.digest(net))
    listed, shown = say("list").output, say("show", "zoo").output
    assert f"yolov8, input 160 x 96, 5 labels, version 1, digest {spec.digest}" in listed
    assert "centerface               known, not fetched" in listed
    assert str(path) in shown
    assert 'labels = ["cat", "dog", "horse", "sheep", "kühe"]' in shown
    assert "# head yolov8: [1,4+C,N] with N = 315 cells" in shown


def test_a_second_network_of_a_name_is_a_version_beside_it_unless_told_to_replace(say: Say, net, labels, folder):
    """Then versions count up, each is shown and removed by its number, and the plain name stays the first."""
    say("add", net, "--name", "zoo")

    again = say("add", net, "--name", "zoo", "--labels", labels)
    replaced = say("add", net, "--name", "zoo", "--labels", labels, "--replace")

    assert again.exit_code == 0
    assert "until you say: fleet-worker models swap zoo@2" in again.output
    assert replaced.exit_code == 0
    assert models.read("zoo", folder)[0].version == 3
    assert left_in(folder) == ["zoo", "zoo@2"]
    assert "version 2, digest" in say("show", "zoo@2").output
    assert "zoo@2  " in say("list").output
    assert "There is no version 'zoo@1'" in say("show", "zoo@1").output
    assert "there is zoo@2, zoo@3." in say("show", "zoo@1").output
    assert say("remove", "zoo@3").output == "zoo@3: removed\n"
    assert models.read("zoo", folder)[0].version == 2
    assert say("remove", "zoo").exit_code == 0
    assert left_in(folder) == []


def test_a_model_is_removed_with_its_files(say: Say, net, folder):
    """And a second time there is nothing to remove."""
    say("add", net, "--name", "zoo")

    assert say("remove", "zoo").output == "zoo: removed\n"
    assert left_in(folder) == []
    assert f"There is no model 'zoo' in {folder}" in say("remove", "zoo").output


def test_a_folder_with_one_network_will_do(say: Say, net, folder):
    """As Ultralytics and Geti export them."""
    assert say("add", net.parent, "--name", "zoo").exit_code == 0
    shutil.copy(net, net.parent / "other.xml")
    assert "should hold one network; it holds best.xml, other.xml" in say("add", net.parent, "--name", "b").output


def test_a_network_that_was_changed_behind_the_store_s_back_is_refused(say: Say, net, labels, folder):
    """Results carry a digest; it must be that of the network which was added."""
    say("add", net, "--name", "zoo")
    ov.save_model(networks.yolov8(seed=99), folder / "zoo" / "best.xml", compress_to_fp16=False)
    photo = cv2.imwrite("p.png", np.zeros((8, 8, 3), np.uint8)) and "p.png"

    told = say("check", "zoo", photo)

    assert told.exit_code == 1
    assert "best.xml is not the network that was added" in told.output


# ------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (refused_networks.classifier, "is a classifier: it scores a whole picture and gives no boxes"),
        (refused_networks.segmenter, "is a segmenter"),
        (refused_networks.oriented, "gives oriented boxes"),
        (refused_networks.instance_masks, "gives instance masks"),
        (networks.boxes_scores, "It is not sure what net.xml is"),
    ],
)
def test_what_cannot_be_served_is_refused_and_nothing_is_left(say: Say, tmp_path, folder, make, told):
    """One sentence, exit status 1, and the store as before."""
    ov.save_model(make(), tmp_path / "net.xml")

    answer = say("add", tmp_path / "net.xml", "--name", "zoo")

    assert answer.exit_code == 1
    assert told in answer.output
    assert answer.output.count("\n") == 1
    assert left_in(folder) == []


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("net.pt", "a PyTorch checkpoint holds no graph; export it to ONNX first"),
        ("net.bin", "these are weights; give the .xml beside it"),
        ("net.jpg", "give one of .xml, .pdmodel, .onnx, .tflite, .pb or a SavedModel's folder"),
        ("net.xml", "net.xml is incomplete: its weights net.bin are not beside it"),
        ("net.pdmodel", "its weights net.pdiparams are not beside it"),
        ("net.onnx", "net.onnx cannot be used: "),
    ],
)
def test_a_file_that_is_wrong_or_incomplete_is_refused_with_what_to_do(say: Say, tmp_path, folder, name, told):
    """Before anything is copied."""
    (tmp_path / name).write_bytes(b"something")

    assert told in say("add", tmp_path / name, "--name", "zoo").output
    assert left_in(folder) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--set", "iou=2"], "--set iou=2: iou is a number from 0 to 1, not 2"),
        (["--set", "colour=rgb"], "colour is RGB or BGR, not 'rgb'"),
        (["--set", "color=RGB"], "unknown field 'color'"),
        (["--set", "options.normalize=true"], "normalize"),
        (["--head", "yolov99"], "there is no head 'yolov99'; there are blazeface, boxes_labels"),
        (["--head", "scrfd"], "SCRFD has scores, boxes and landmarks"),
        (["--set", "input_size=[0,160]"], "input_size is [height, width] in pixels, 1 to 16384"),
        (["--name", "../zoo"], "A model's name is 1 to 64 letters"),
        (["--name", ".zoo"], "A model's name is 1 to 64 letters"),
    ],
)
def test_what_the_user_says_is_checked_before_the_model_is_there(say: Say, net, folder, words, told):
    """A model that is listed is one that ran."""
    answer = say("add", net, "--name", "zoo", *words)

    assert answer.exit_code == 1
    assert told in answer.output
    assert "Traceback" not in answer.output
    assert left_in(folder) == []


def test_labels_are_a_line_each_or_json(tmp_path):
    """Blank lines at the end are no labels; a file without any is refused."""
    (tmp_path / "a.json").write_text('["a", "b c"]')
    (tmp_path / "b.txt").write_text("\ufeffa\n\nc\n\n\n", encoding="utf-8")
    (tmp_path / "c.txt").write_text("\n\n")
    (tmp_path / "d.json").write_text('{"a": 1}')
    (tmp_path / "e.txt").write_bytes(b"\xff\xfe\x00")

    assert store.read_labels(tmp_path / "a.json") == ("a", "b c")
    assert store.read_labels(tmp_path / "b.txt") == ("a", "", "c")
    for name in ("c.txt", "d.json", "e.txt"):
        with pytest.raises(ModelError, match="labels"):
            store.read_labels(tmp_path / name)


def test_a_file_beside_the_network_goes_with_it(say: Say, tmp_path, folder):
    """Given anchors in a file of their own, when they are named in the options, then the head finds them."""
    ov.save_model(networks.ssd_raw(), tmp_path / "net.xml")
    np.save(tmp_path / "anchors.npy", np.full((318, 4), 0.5, np.float32))

    answer = say(
        *("add", tmp_path / "net.xml", "--name", "zoo", "--head", "ssd_raw"),
        *("--extra", tmp_path / "anchors.npy", "--set", "options.anchors_file=anchors.npy"),
    )

    assert answer.exit_code == 0, answer.output
    assert "anchors.npy" in left_in(folder / "zoo")
    assert say("list").output.count("ssd_raw") == 1


def test_a_saved_model_s_folder_counts_as_one_network(tmp_path):
    """Its digest covers every file of it."""
    saved = tmp_path / "saved"
    (saved / "variables").mkdir(parents=True)
    (saved / "saved_model.pb").write_bytes(b"graph")
    (saved / "variables" / "variables.index").write_bytes(b"weights")
    first = models.digest(store.find_network(saved))
    (saved / "variables" / "variables.index").write_bytes(b"others")

    assert models.digest(store.find_network(saved)) != first
    assert len(models.files(saved)) == 2
