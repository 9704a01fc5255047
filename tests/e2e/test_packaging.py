"""The wheel: complete, nothing too much, and at home outside the checkout."""

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.conftest import cache
from tests.e2e.kit import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

#: Modules that need an extra, by the extra; all others of their package do with the base, or with ``worker``.
EXTRAS = {
    "draw": {"producer/draw.py", "producer/film.py", "producer/camera.py"},
    "local": {"worker/valkey.py"},
    "otel": {"producer/tracing.py", "worker/tracing.py"},
    "quantize": {"worker/quantize.py"},
    "timeline": {"worker/timeline_picture.py"},
}


def tracked(*under: str) -> list[str]:
    """Give the files of the project that git knows, or will."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *under]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in names if (ROOT / name).exists()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a wheel, built from a copy of the files that git knows."""
    source, dist = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name, follow_symlinks=False)
    words = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "-v", "-w", str(dist), str(source)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *words], capture_output=True, text=True, cwd=dist, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Deprecat" not in done.stdout, done.stdout
    (made,) = dist.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder in which the wheel is installed; what it depends on comes from the environment of the tests."""
    folder = tmp_path_factory.mktemp("installed")
    words = ["install", "-q", "--no-deps", "--no-index", "--target", str(folder), str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True, timeout=100)
    return folder


def run(installed: Path, name: str, *words: object, cwd: Path, **more: str) -> "subprocess.CompletedProcess[str]":
    """Run an installed command in a folder that is not the checkout."""
    environ = {**os.environ, "FLEET_CACHE_DIR": str(cache() / "compiled"), **more}
    path = os.pathsep.join([more.get("PYTHONPATH", ""), str(installed)]).strip(os.pathsep)
    return subprocess.run(
        [str(installed / "bin" / name), *map(str, words)],
        env=environ | {"PYTHONPATH": path},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


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


def test_without_the_extra_the_worker_says_what_to_install(installed: Path, tmp_path: Path) -> None:
    """Given an environment with the client's packages only, then fleet works and fleet-worker names the extra."""
    lacking = "import sys\nfor name in ('openvino', 'cv2', 'numpy', 'PIL', 'platformdirs'): sys.modules[name] = None\n"
    (tmp_path / "sitecustomize.py").write_text(lacking)
    there = {"PYTHONPATH": str(tmp_path)}
    assert "Usage: fleet " in run(installed, "fleet", "--help", cwd=tmp_path, **there).stdout
    done = run(installed, "fleet-worker", "doctor", cwd=tmp_path, **there)
    assert done.returncode == 1
    assert "detection-fleet[local]" in done.stderr
    assert "Traceback" not in done.stderr


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
