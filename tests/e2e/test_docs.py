"""What README and the docs tell people to type, typed: every command and every line of Python.

:mod:`tests.e2e.pages` reads the pages; :mod:`tests.e2e.commands` names what is typed for a command in a sentence, and
which test runs what needs more than a fleet at rest. What needs Docker is typed by ``tests/compose``.
"""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import cv2
import openvino as ov
import pytest
import yaml

from tests.conftest import cache
from tests.e2e.commands import BY_HAND, ELSEWHERE, TYPED_HERE
from tests.e2e.kit import ROOT
from tests.e2e.pages import ALL, OUTSIDE, TYPED, blocks, inline_commands, session
from tests.e2e.test_own_head import lights
from tests.integration.producer.test_films import write_film

#: What runs a page, and the file with all it said.
Session = tuple["subprocess.Popen[bytes]", Path]

#: Languages of blocks. Those that are not typed are read: as JSON, as TOML, or by people.
LANGUAGES = {"sh", "python", "json", "toml", "text", ""}


def clone(folder: Path, samples: Path, store: Path) -> None:
    """Make ``folder`` look like a clone, with photos, a film and a network of a user's."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "requirements-dev.lock", "examples", "deploy"):
        (folder / name).symlink_to(ROOT / name)
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "holiday").mkdir()
    photo = cv2.imread(str(samples / "grace_hopper.jpg"))
    for name in ("photo.jpg", "photo.png", "holiday/a.jpg", "holiday/b.jpg"):
        cv2.imwrite(str(folder / name), photo)
    write_film(folder / "film.mp4", 40)
    for name in ("best.onnx", "better.onnx"):
        shutil.copy(store / "centerface" / "centerface.onnx", folder / name)
    shutil.copy(folder / "photo.jpg", folder / "street.jpg")
    (folder / "labels.txt").write_text("car\n")
    ov.save_model(lights(), folder / "net.xml")
    for name in ("centerface", "blazeface_short"):
        shutil.copytree(store / name, folder / "store" / name)


def environ(folder: Path, url: str) -> dict[str, str]:
    """Give what a user's shell has who works in ``folder`` and has told everything where the fleet is."""
    return {
        "PATH": f"{Path(sys.prefix) / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": str(folder / "site"),
        "HOME": str(folder),
        "FLEET_URL": url,
        "FLEET_MODEL_STORE": str(folder / "store"),
        "FLEET_CACHE_DIR": str(cache() / "compiled"),
        "LANG": "C.UTF-8",
    }


@pytest.fixture(scope="module")
def sessions(
    faces: str, samples: Path, store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Path, Session]]:
    """Start the sessions of all pages: they wait more than they work, and together take the time of the longest."""
    started = {}
    for page in TYPED:
        folder = tmp_path_factory.mktemp(page.stem)
        clone(folder, samples, store)
        with (folder / "said").open("wb") as said:
            process = subprocess.Popen(
                ["bash", "-c", session(page, faces)],
                cwd=folder,
                env=environ(folder, faces),
                stdout=said,
                stderr=said,
            )
        started[page] = process, folder / "said"
    yield started
    for process, _ in started.values():
        process.terminate()
        process.wait(30)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", TYPED, ids=lambda page: page.stem)
def test_what_a_page_says_can_be_typed(page: Path, sessions: dict[Path, Session]) -> None:
    """Given a page, when all it says is typed in its order, then every command succeeds."""
    process, said = sessions[page]
    assert process.wait(270) == 0, f"{blocks(page)}\n{said.read_text()[-5000:]}"


@pytest.fixture(scope="module")
def desk(faces: str, samples: Path, store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Give a clone to type single commands in, and the URL of a fleet."""
    folder = tmp_path_factory.mktemp("desk")
    clone(folder, samples, store)
    return folder, faces


@pytest.mark.parametrize("said", TYPED_HERE)
def test_what_a_sentence_says_can_be_typed(said: str, desk: tuple[Path, str]) -> None:
    """Given a command inside a sentence, when it is typed, then it succeeds."""
    folder, url = desk
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", TYPED_HERE[said]],
        cwd=folder,
        env=environ(folder, url),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_command_is_typed_by_a_test_that_is_named() -> None:
    """Given all pages, then each command in a sentence has its row, and each row has a page and tests that exist."""
    said = {command for page in ALL for command in inline_commands(page)}
    assert said == TYPED_HERE.keys() | ELSEWHERE.keys() | BY_HAND.keys()
    assert len(said) == len(TYPED_HERE) + len(ELSEWHERE) + len(BY_HAND)
    assert [path for tests in ELSEWHERE.values() for path in tests if not (ROOT / path).exists()] == []


def test_blocks_are_of_languages_that_are_tested() -> None:
    """Given all pages, then each block is typed, or parsed, or drawn for people; none is of another language."""
    for page in ALL:
        for block in blocks(page):
            assert block.language in LANGUAGES, f"{page}: {block}"
            if block.language == "json":
                json.loads(block.text)
            elif block.language == "toml":
                tomllib.loads(block.text)


def test_every_block_that_is_not_run_names_its_reason() -> None:
    """Given all pages, then blocks with docker or kubectl say that they need it, and no others do."""
    for page in ALL:
        for block in blocks(page):
            if block.language == "sh":
                outside = re.search(OUTSIDE, block.text, re.MULTILINE)
                assert bool(block.needs) == bool(outside), f"{page}: {block.text}"


def test_commands_for_docker_and_clusters_name_what_is_there() -> None:
    """Given the commands that are not run, then the services, files and options in them exist."""
    services = set(yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"])
    for page in ALL:
        for block in blocks(page):
            if not block.needs:
                continue
            assert set(re.findall(r"--scale (\w+)=", block.text)) <= services
            for path in re.findall(r"\bdeploy/[\w./-]+", block.text):
                assert (ROOT / path).exists() or path.endswith("secret.env"), f"{page}: {path}"


def test_settings_in_the_docs_are_settings() -> None:
    """Given all pages, then each FLEET_ variable in them is read by something of the project."""
    sources = [*(ROOT / "worker").glob("*.py"), *(ROOT / "producer").rglob("*.py"), ROOT / "docker-compose.yml"]
    known = "".join(path.read_text() for path in [*sources, *(ROOT / "tests").rglob("conftest.py")])
    for page in ALL:
        for name in set(re.findall(r"\bFLEET_[A-Z_]+[A-Z]\b", page.read_text())):
            read = name in known or f'"{name.removeprefix("FLEET_").lower()}"' in known
            assert read or name.endswith("COMPLETE"), f"{page}: {name}"
