"""The wheel: complete, nothing too much, and at home outside the checkout."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.conftest import cache
from tests.e2e.kit import ROOT
from tests.e2e.packages import as_user, copy_tree, new_environment, tracked

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

#: Modules that need an extra, by the extra; all others of their package do with the base, or with ``worker``.
EXTRAS = {
    "draw": {"producer/draw.py", "producer/film.py", "producer/camera.py"},
    "local": {"worker/valkey.py"},
    "otel": {"producer/tracing.py", "worker/tracing.py"},
    "quantize": {"worker/quantize.py"},
    "timeline": {"worker/timeline_picture.py"},
}


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the commands of an environment with the wheel and what a fleet on one machine needs, and nothing else."""
    return new_environment(tmp_path_factory.mktemp("installed"), wheel, "local,draw")


def run(commands: Path, name: str, *words: object, cwd: Path, **more: str) -> "subprocess.CompletedProcess[str]":
    """Run an installed command in a folder that is not the checkout."""
    return as_user([commands / name, *words], cwd=cwd, FLEET_CACHE_DIR=str(cache() / "compiled"), **more)


def test_the_wheel_from_the_sdist_is_that_from_the_tree(built: Path, wheel: Path, tmp_path: Path) -> None:
    """Given both ways to a wheel, then each file is in both, with the same content; the sdist has what it needs."""
    source, dist = tmp_path / "source", tmp_path / "dist"
    copy_tree(source)
    words = ["wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", dist, source]
    done = as_user([sys.executable, "-m", "pip", *words], cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (from_tree,) = dist.glob("*.whl")
    assert from_tree.name == wheel.name
    assert contents(from_tree) == contents(wheel)
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", *tracked("producer", "worker")} <= names


def contents(wheel: Path) -> dict[str, int]:
    """Give the name and checksum of each file in a wheel."""
    return {file.filename: file.CRC for file in zipfile.ZipFile(wheel).infolist()}


def test_the_wheel_has_every_module_and_nothing_else(wheel: Path) -> None:
    """Given the wheel, then it has all modules, the types' marks and the licence, and no other package."""
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in tracked("producer", "worker") if name.endswith((".py", "py.typed"))} <= names
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"producer", "worker"}
    assert {"producer/py.typed", "worker/py.typed", "worker/celeryconfig.py"} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_version_stands_in_one_place(wheel: Path, installed: Path, tmp_path: Path) -> None:
    """Given the version in pyproject.toml, then the wheel, both commands and the changelog have it, no module has."""
    version = PROJECT["version"]
    assert wheel.name == f"detection_fleet-{version}-py3-none-any.whl"
    for name in ("fleet", "fleet-worker"):
        assert run(installed, name, "--version", cwd=tmp_path).stdout.strip() == f"{name}, version {version}"
    assert re.search(r"^## ([\d.]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE).group(1) == version  # type: ignore[union-attr]
    assert [name for name in tracked("producer", "worker") if version in (ROOT / name).read_text()] == []


def test_the_installed_fleet_works_in_any_folder(installed: Path, store: Path, samples: Path, tmp_path: Path) -> None:
    """Given a folder with a foreign celeryconfig.py, when the wheel's fleet runs there, then it finds the face."""
    (tmp_path / "celeryconfig.py").write_text("worker_pool = 'solo'\nraise SystemExit('a foreign configuration')\n")
    words = ["detect", "--local", samples / "grace_hopper.jpg", "--draw", "drawn"]
    done = run(installed, "fleet", *words, cwd=tmp_path, FLEET_MODEL_STORE=str(store))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\t")[1] == "face"
    assert (tmp_path / "drawn" / "grace_hopper.jpg").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("name", "shell", "wanted"),
    [
        ("fleet", "bash", "detect"),
        ("fleet", "zsh", "watch"),
        ("fleet", "fish", "detect"),
        ("fleet-worker", "bash", "doctor"),
    ],
)
def test_shells_complete_both_commands(installed: Path, tmp_path: Path, name: str, shell: str, wanted: str) -> None:
    """Given a shell, then each command completes a word for it."""
    typed, variable = wanted[:3], f"_{name.upper().replace('-', '_')}_COMPLETE"
    # bash and zsh give the words and the number of the one to complete; fish gives the word itself.
    words = {"COMP_WORDS": f"{name} {typed}", "COMP_CWORD": typed if shell == "fish" else "1"}
    done = run(installed, name, cwd=tmp_path, **words, **{variable: f"{shell}_complete"})
    assert wanted in re.split(r"[,\s]", done.stdout), done.stdout + done.stderr


def test_what_is_imported_is_declared() -> None:
    """Given all modules, then each package they import is a requirement of theirs: of the base, or of their extra."""
    distributions = importlib.metadata.packages_distributions()
    for name in tracked("producer", "worker"):
        if not name.endswith(".py"):
            continue
        allowed = requirements("") | {"billiard"}  # Celery's own
        if name.startswith("worker"):
            allowed |= requirements("worker")
        for extra, names in EXTRAS.items():
            allowed |= requirements(extra) if name in names else set()
        if name.startswith("worker/bench"):
            allowed |= requirements("local") | requirements("bench")
        for package in imports(name):
            owners = {owner.lower().replace("_", "-") for owner in distributions[package]}
            assert owners & allowed, f"{name} imports {package}, which is in {owners}"


def requirements(extra: str) -> set[str]:
    """Give the names of what the base, or an extra, requires."""
    listed = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    return {re.split(r"[\[<>=;]", line)[0].lower() for line in listed}


def imports(name: str) -> set[str]:
    """Give the packages from elsewhere that a module imports."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / name).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return {full.split(".")[0] for full in found} - set(sys.stdlib_module_names) - {"producer", "worker"}
