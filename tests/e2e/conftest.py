"""What the tests of the package share: the distributions, as they are built for a release."""

import re
import sys
from pathlib import Path

import pytest

from tests.e2e.packages import as_user, copy_tree


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with an sdist, and the wheel that was made from it: as `python -m build` does, without a word."""
    source, dist = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    copy_tree(source)
    done = as_user([sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, source], cwd=dist)
    assert done.returncode == 0, done.stdout + done.stderr
    said = [
        line for line in (done.stdout + done.stderr).splitlines() if re.search("warning|deprecat", line, re.IGNORECASE)
    ]
    assert said == []
    return dist


@pytest.fixture(scope="session")
def wheel(built: Path) -> Path:
    """Give the wheel."""
    (made,) = built.glob("*.whl")
    return made
