"""What works with which extra, in environments that have nothing else; and what is said where one is missing."""

import importlib.metadata
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import cache
from tests.e2e.packages import as_user, new_environment
from tests.e2e.test_packaging import EXTRAS

#: Gives the commands of an environment with some extras, "worker,draw".
Having = Callable[[str], Path]

#: Nobody listens there.
NOWHERE = "redis://127.0.0.1:1/0"

#: Asks every command of a group, and those below it, for its help; prints the names of those that have it.
ASK_ALL = """
import importlib, sys
from click.testing import CliRunner
main = importlib.import_module(sys.argv[1]).main
def ask(command, words):
    done = CliRunner().invoke(main, [*words, "--help"])
    if done.exit_code:
        assert "detection-fleet[local]" in done.output, (words, done.output)
    else:
        print(" ".join(words))
    for name, below in getattr(command, "commands", {}).items():
        ask(below, [*words, name])
ask(main, [])
"""


@pytest.fixture(scope="module")
def having(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Having:
    """Make an environment for some extras, once."""
    made: dict[str, Path] = {}

    def give(extras: str) -> Path:
        if extras not in made:
            made[extras] = new_environment(tmp_path_factory.mktemp("environment"), wheel, extras)
        return made[extras]

    return give


@pytest.fixture
def folder(tmp_path: Path, samples: Path, store: Path) -> Path:
    """Give a folder with a photo and a film, far from the checkout; the models are where the cache has them."""
    assert store == cache() / "models"
    (tmp_path / "photo.jpg").write_bytes((samples / "grace_hopper.jpg").read_bytes())
    (tmp_path / "film.mp4").write_bytes(b"no film")
    return tmp_path


def test_pip_installs_the_client_alone_and_every_command_has_its_help(wheel: Path, folder: Path) -> None:
    """Given a fresh environment, when pip installs the wheel, then `fleet` works, and nothing heavy came along."""
    assert as_user([sys.executable, "-m", "venv", folder / "fresh"], cwd=folder).returncode == 0
    versions = {one.name: one.version for one in importlib.metadata.distributions() if one.name != "detection-fleet"}
    (folder / "tested").write_text("".join(f"{name}=={version}\n" for name, version in versions.items()))
    python = folder / "fresh" / "bin" / "python"
    done = as_user([python, "-m", "pip", "install", "-q", "-c", folder / "tested", wheel], cwd=folder)
    assert done.returncode == 0, done.stderr
    assert as_user([python, "-m", "pip", "check"], cwd=folder).returncode == 0
    listed = as_user([python, "-m", "pip", "list", "--format", "freeze"], cwd=folder).stdout.lower()
    assert [heavy for heavy in ("openvino", "opencv", "numpy", "pillow", "matplotlib") if heavy in listed] == []
    done = as_user([python, "-c", ASK_ALL, "producer.cli"], cwd=folder)
    assert {"detect", "watch", "status", "top", "autoscale", "dead replay"} <= set(done.stdout.splitlines()), (
        done.stderr
    )
    assert as_user([python.with_name("fleet"), "--help"], cwd=folder).returncode == 0


def test_a_users_type_checker_knows_our_types(having: Having, folder: Path) -> None:
    """Given the wheel, when a program of its user is checked, then what is wrong is found, and nothing else."""
    program = (
        "from producer import Client\nfor face in Client('').detect('a.jpg').detections:\n    print(face.score + 1)\n"
    )
    (folder / "right.py").write_text(program)
    (folder / "wrong.py").write_text(program.replace("'a.jpg'", "1.5").replace("score + 1", "score + ''"))
    check = [sys.executable, "-m", "mypy", "--strict", "--python-executable", having("") / "python"]
    done = as_user([*check, "right.py", "wrong.py"], cwd=folder)
    assert [line.partition(":")[0] for line in done.stdout.splitlines() if ": error:" in line] == ["wrong.py"] * 2


@pytest.mark.parametrize("extras", ["worker", "local"])
def test_every_command_of_the_worker_has_its_help(having: Having, folder: Path, extras: str) -> None:
    """Given what a worker needs and no more, then every command of fleet-worker has its help, and doctor its plan."""
    commands = having(extras)
    done = as_user([commands / "python", "-c", ASK_ALL, "worker.cli"], cwd=folder)
    told = {"run", "local", "doctor", "health", "samples", "timeline", "models add", "models swap", "models quantize"}
    assert told <= set(done.stdout.splitlines()), done.stderr
    done = as_user([commands / "fleet-worker", "doctor"], cwd=folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("has", "line", "extra"),
    [
        ("", "fleet detect photo.jpg --draw drawn", "draw"),
        ("", "fleet detect film.mp4", "draw"),
        ("", "fleet watch film.mp4", "draw"),
        ("", "fleet detect --local photo.jpg", "local"),
        ("", "fleet-worker --help", "local"),
        ("", "fleet-worker models add --help", "local"),
        ("worker", "fleet-worker local", "local"),
        ("worker", "fleet-worker bench --help", "local"),
        ("worker", "fleet-worker timeline photo.jpg", "timeline"),
        ("worker,timeline", "fleet-worker timeline photo.jpg", "local"),
        ("worker", "fleet-worker models quantize centerface --images .", "quantize"),
        ("worker", "fleet-worker run -l INFO", "otel"),
    ],
)
def test_what_needs_an_extra_names_it(having: Having, folder: Path, has: str, line: str, extra: str) -> None:
    """Given an environment without an extra, when a command needs it, then it says in a sentence what to install."""
    name, *words = line.split()
    settings = {"FLEET_URL": NOWHERE, "FLEET_MODEL_STORE": str(cache() / "models"), "FLEET_CACHE_DIR": str(folder)}
    if extra == "otel":
        settings["FLEET_TRACES"] = f"file:{folder / 'spans'}"
    done = as_user([having(has) / name, *words], cwd=folder, **settings)
    assert done.returncode != 0
    assert f'pip install "detection-fleet[{extra}]"' in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("extra", sorted({*EXTRAS, "flower"}))
def test_each_extra_brings_all_that_it_is_for(having: Having, folder: Path, extra: str) -> None:
    """Given an extra, and the worker's where it is for workers, then what it is for can be loaded."""
    names = [name.removesuffix(".py").replace("/", ".") for name in sorted(EXTRAS.get(extra, ()))]
    for_worker = any(name.startswith("worker.") for name in names)
    python = having(f"worker,{extra}" if for_worker and extra != "local" else extra) / "python"
    load = (
        ["-c", f"import {', '.join(names)}"] if names else ["-m", "celery", "-A", "worker.monitor", "flower", "--help"]
    )
    done = as_user([python, *load], cwd=folder, FLEET_URL=NOWHERE)
    assert done.returncode == 0, done.stderr
