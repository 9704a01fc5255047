"""A head in a package of its own, installed as a user would, turns a network into boxes by its name alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_head"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The example, installed from its own folder into one beside Python's."""
    source, target = (tmp_path_factory.mktemp(name) for name in ("source", "target"))
    for path in EXAMPLE.iterdir():
        if path.is_file():
            (source / path.name).write_bytes(path.read_bytes())  # a build leaves files behind
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "--target", str(target), str(source)], check=True)
    return target


def lights() -> ov.Model:
    """A network of the example's form: a cell is a light as far as it is bright, and else the background."""
    entry = op.parameter([1, 3, 64, 96], np.float32)
    weights = np.full((1, 3, 8, 8), 1 / (3 * 64 * 255), np.float32)
    light = op.convolution(entry, weights, [8, 8], [0, 0], [0, 0], [1, 1])
    grid = op.concat([op.subtract(np.float32(1), light), light], 1)
    return ov.Model([op.transpose(grid, np.array([0, 2, 3, 1]))], [entry])


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """The file of such a network."""
    ov.save_model(lights(), tmp_path / "net.xml")
    return tmp_path / "net.xml"


def fleet_worker(*words: object, store: Path, path: Path | None) -> "subprocess.CompletedProcess[str]":
    environ = {**os.environ, "FLEET_MODEL_STORE": str(store), "FLEET_PRECISION": "f32", "FLEET_CACHE_DIR": ""}
    environ["PYTHONPATH"] = str(path or "")
    command = [str(Path(sys.executable).with_name("fleet-worker")), "models", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environ, cwd=store.parent, check=False)


def test_a_head_of_another_package_gives_boxes(installed: Path, network: Path, tmp_path: Path):
    """Given the example's package, when a network is added with its head, then a photo's lights are found."""
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[16:24, 40:48] = 255
    picture[48:56, 8:16] = 200
    cv2.imwrite(str(tmp_path / "photo.png"), picture)
    (tmp_path / "labels.txt").write_text("light\n")
    store = tmp_path / "models"

    added = fleet_worker(
        *("add", network, "--name", "lights", "--head", "fomo", "--labels", tmp_path / "labels.txt"),
        *("--set", "options.side=2.0"),
        store=store,
        path=installed,
    )
    checked = fleet_worker("check", "lights", tmp_path / "photo.png", "--json", store=store, path=installed)

    assert added.returncode == 0, added.stderr
    assert "head fomo: you said so." in added.stdout
    found = [json.loads(line) for line in checked.stdout.splitlines()]
    assert [(one["label"], one["box"]) for one in found] == [
        ("light", [36.0, 12.0, 52.0, 28.0]),
        ("light", [4.0, 44.0, 20.0, 60.0]),
    ]
    assert [one["score"] for one in found] == pytest.approx([1.0, 200 / 255], abs=0.01)


def test_without_the_package_its_head_is_missed_by_name(network: Path, tmp_path: Path):
    """And the network alone looks like a segmenter, which is refused."""
    store = tmp_path / "models"

    missed = fleet_worker("add", network, "--name", "lights", "--head", "fomo", store=store, path=None)
    refused = fleet_worker("add", network, "--name", "lights", store=store, path=None)

    assert "there is no head 'fomo'; there are blazeface" in missed.stderr
    assert "is a segmenter" in refused.stderr
    assert (missed.returncode, refused.returncode) == (1, 1)


def test_a_package_that_cannot_be_imported_is_named(installed: Path, network: Path, tmp_path: Path):
    """Given a head whose module is broken, then the sentence says where the mistake is."""
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in installed.iterdir():
        if path.suffix == ".dist-info":
            (broken / path.name).symlink_to(path)
    (broken / "fleet_head_fomo.py").write_text("import no_such_module\n")

    answer = fleet_worker("add", network, "--name", "x", "--head", "fomo", store=tmp_path / "models", path=broken)

    assert answer.returncode == 1
    assert "the head 'fomo' of 'fleet_head_fomo:attach' cannot be imported: No module named" in answer.stderr
    assert "Traceback" not in answer.stderr
