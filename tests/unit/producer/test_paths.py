"""What was typed, as files."""

import os
from pathlib import Path

import pytest

from producer.paths import expand


def test_files_folders_and_globs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a tree, then folders give their pictures sorted, globs their matches, and nothing comes twice."""
    for name in ("b.jpg", "a.PNG", "notes.txt", "deep/er/c.webp", "x[1].jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    assert [str(path) for path in expand(["."])] == ["a.PNG", "b.jpg", f"deep{os.sep}er{os.sep}c.webp", "x[1].jpg"]
    assert [str(path) for path in expand(["b.jpg", "*.jpg"])] == ["b.jpg", "x[1].jpg"]
    assert [str(path) for path in expand(["x[1].jpg", "notes.txt"])] == ["x[1].jpg", "notes.txt"]
    assert [str(path) for path in expand(["missing.jpg", "no*.such"])] == ["missing.jpg", "no*.such"]
    assert [str(path) for path in expand(["**/*.webp"])] == [f"deep{os.sep}er{os.sep}c.webp"]
