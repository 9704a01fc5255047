"""What is built of the project, and environments in which it is installed."""

import functools
import importlib.metadata
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement

from tests.e2e.kit import ROOT

#: What a user's shell does not have: it would change what Python writes, and where it looks.
OURS = ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH")


def tracked(*under: str) -> list[str]:
    """Give the files of the project that git knows, or will."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *under]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in names if (ROOT / name).exists()]


def as_user(command: Iterable[object], *, cwd: Path, **more: str) -> "subprocess.CompletedProcess[str]":
    """Run a command in a folder, without what the environment of tests sets for Python."""
    environ = {name: value for name, value in os.environ.items() if name not in OURS} | more
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=cwd, env=environ, capture_output=True, text=True, timeout=100, check=False)


def copy_tree(folder: Path) -> None:
    """Copy the files that git knows."""
    for name in tracked():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name, follow_symlinks=False)


def new_environment(folder: Path, wheel: Path, extras: str) -> Path:
    """Make an environment with the wheel and what it requires with these extras; return its folder of commands.

    What it requires is linked from the environment of the tests, in which the locked versions are: that takes a second,
    and no package that nobody asked for can be imported.
    """
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    (site,) = folder.glob("lib/python*/site-packages")
    words = ["install", "-q", "--no-compile", "--no-deps", "--no-index", "--disable-pip-version-check", wheel]
    done = as_user([sys.executable, "-m", "pip", "--python", python, *words], cwd=folder)
    assert done.returncode == 0, done.stderr
    (info,) = site.glob("detection_fleet-*.dist-info")
    requires = importlib.metadata.Distribution.at(info).requires or []
    for distribution in needed(frozenset(requires), extras):
        _link(distribution, site)
    return folder / "bin"


@functools.cache
def needed(requires: frozenset[str], extras: str) -> list[importlib.metadata.Distribution]:
    """Give the distributions that requirements ask for with these extras, and all that those ask for in turn."""
    todo = [(line, extra) for line in requires for extra in ["", *extras.split(",")]]
    found: dict[str, importlib.metadata.Distribution] = {}
    seen = set()
    while todo:
        line, extra = todo.pop()
        wanted = Requirement(line)
        if (line, extra) in seen or not (wanted.marker is None or wanted.marker.evaluate({"extra": extra})):
            continue
        seen.add((line, extra))
        if wanted.name == "detection-fleet":  # an extra that has another in it
            todo += [(own, inner) for own in requires for inner in wanted.extras]
            continue
        distribution = found[wanted.name] = importlib.metadata.distribution(wanted.name)
        todo += [(own, inner) for own in distribution.requires or [] for inner in ["", *wanted.extras]]
    return list(found.values())


def _link(distribution: importlib.metadata.Distribution, site: Path) -> None:
    for file in distribution.files or []:
        there, here = Path(str(distribution.locate_file(file))), site / file
        if ".." in file.parts or file.suffix == ".pyc" or here.exists() or not there.exists():
            continue  # elsewhere are commands, which begin with the other environment's Python, and manual pages
        here.parent.mkdir(parents=True, exist_ok=True)
        here.symlink_to(there)
        compiled = here.parent / "__pycache__"
        if file.suffix == ".py" and not compiled.exists():  # or each environment would compile all of it anew
            there.with_name(compiled.name).mkdir(exist_ok=True)
            compiled.symlink_to(there.with_name(compiled.name))
