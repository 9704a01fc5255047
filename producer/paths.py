"""From what was typed after ``fleet detect`` to image paths.

Stage: the command line's first step. Neighbour: :mod:`producer.cli`.
"""

import glob
from collections.abc import Iterable
from pathlib import Path

from producer.images import SUFFIXES

#: File names that end so are films.
FILM_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"})


def is_film(path: Path) -> bool:
    """Tell whether ``path`` names a film, by its ending."""
    return path.suffix.lower() in FILM_SUFFIXES


def expand(words: Iterable[str]) -> list[Path]:
    """Return the files that ``words`` name, each once: files as they are, folders' pictures sorted, quoted globs.

    A word that names nothing stays in the list, so that it gets its own error.
    """
    found = (path for word in words for path in _expand(word))
    return list(dict.fromkeys(found))


def _expand(word: str) -> list[Path]:
    path = Path(word)
    if path.is_dir():
        return _pictures(path)
    if path.exists() or not glob.has_magic(word):
        return [path]
    matches = [Path(match) for match in sorted(glob.glob(word, recursive=True))]  # noqa: PTH207 - takes absolute ones
    files = [file for match in matches for file in (_pictures(match) if match.is_dir() else [match])]
    return files or [path]


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
