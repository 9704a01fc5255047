"""Importing the client is light, and imports point one way."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import producer

#: Every module, the lowest first.
LADDER = [
    "errors",
    "address",
    "wire",
    "blobs",
    "envelope",
    "dead",
    "images",
    "ids",
    "clock",
    "results",
    "steps",
    "requests",
    "waiting",
    "dispatch",
    "reading",
    "link",
    "aiolink",
    "job",
    "answers",
    "client",
    "aio",
    "__init__",
    "paths",
    "local",
    "draw",
    "cli",
]
FOLDER = Path(producer.__file__).parent


def test_every_module_is_on_the_ladder() -> None:
    """Given the folder, then the ladder names each file."""
    assert sorted(path.stem for path in FOLDER.glob("*.py")) == sorted(LADDER)


@pytest.mark.parametrize("name", LADDER)
def test_a_module_imports_only_from_below_and_only_at_its_top(name: str) -> None:
    """Given a module, then what it imports of ours stands lower, and no function imports."""
    tree = ast.parse((FOLDER / f"{name}.py").read_text())
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    every = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert len(top) == len(every)
    modules = {node.module or "" for node in top if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
    assert not {module for module in modules if module.split(".")[0] == "worker"}
    ours = {module.split(".")[1] for module in modules if module.startswith("producer.")}
    assert all(LADDER.index(other) < LADDER.index(name) for other in ours)


def test_importing_the_client_loads_nothing_heavy() -> None:
    """Given a fresh interpreter, when it imports producer and its command line, then no heavy package is loaded."""
    heavy = {"openvino", "cv2", "numpy", "celery", "kombu"}
    code = f"import sys, producer, producer.cli; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
