"""What TensorFlow's metadata tools write into a TFLite file: how pictures are normalised, which file holds the labels.

Stage: at ``fleet-worker models add``, under :mod:`worker.metadata`. The notes are a FlatBuffer inside of the file's own
FlatBuffer; the files they name are an archive behind its end. Both come from anywhere: every offset is looked at before
it is followed, nothing is followed in a circle, and what is too large is not read.

Formats: TensorFlow's ``lite/schema/schema.fbs`` and ``tensorflow_lite_support/metadata/metadata_schema.fbs``
(Apache-2.0); the numbers of fields below are their places there.
"""

import mmap
import struct
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Most members of the archive that are looked at, and most bytes of each.
MAX_MEMBERS = 64
MAX_MEMBER_BYTES = 1024 * 1024

#: Most entries of a list in a FlatBuffer, and most bytes of a text.
MAX_ENTRIES = 100_000
MAX_TEXT_BYTES = 4096

_NAME = "TFLITE_METADATA"

#: Kinds of a file in the notes: labels of an axis, as for scores, and of values, as for classes.
_LABELS = (2, 3)

#: Kinds in unions: a picture as a tensor's content; the options of a step that normalises, and of a threshold.
_PICTURE, _NORMALISES, _THRESHOLD = 2, 1, 3
_RGB = 1


@dataclass(frozen=True, slots=True)
class Notes:
    """What the notes say.

    Attributes:
        fields: of a model.toml: ``colour``, ``mean``, ``scale``, ``min_score``.
        labels_file: name of the file in the archive that holds the labels; empty if none is named.
    """

    fields: dict[str, Any] = field(default_factory=dict)
    labels_file: str = ""


class _Table:
    """One table of a FlatBuffer. Every method raises ``struct.error`` or ``ValueError`` where the bytes are wrong."""

    def __init__(self, data: Any, at: int) -> None:
        self._data, self._at = data, at
        self._index = at - self._number("i", at)
        if self._index < 0:
            raise ValueError("an offset leads out of the file")
        self._size: int = self._number("H", self._index)

    @classmethod
    def root(cls, data: Any) -> "_Table":
        """Return the table that a file begins with."""
        return cls(data, struct.unpack_from("<I", data, 0)[0])

    def whole(self, slot: int, form: str = "B", default: int = 0) -> int:
        """Return a whole number."""
        at = self._place(slot)
        return int(self._number(form, at)) if at else default

    def real(self, slot: int) -> float:
        """Return a float; 0 is what a file leaves out."""
        at = self._place(slot)
        return float(self._number("f", at)) if at else 0.0

    def table(self, slot: int) -> "_Table | None":
        """Return a table."""
        at = self._place(slot)
        return _Table(self._data, self._follow(at)) if at else None

    def tables(self, slot: int) -> list["_Table"]:
        """Return a list of tables."""
        start, count = self._vector(slot, 4)
        return [_Table(self._data, self._follow(start + 4 * number)) for number in range(count)]

    def reals(self, slot: int) -> tuple[float, ...]:
        """Return a list of floats."""
        start, count = self._vector(slot, 4)
        return struct.unpack_from(f"<{count}f", self._data, start)

    def text(self, slot: int) -> str:
        """Return a text."""
        return self.data(slot, MAX_TEXT_BYTES).decode("utf-8", "replace")

    def data(self, slot: int, most: int = MAX_MEMBER_BYTES) -> bytes:
        """Return bytes."""
        start, count = self._vector(slot, 1, most)
        return bytes(self._data[start : start + count])

    def _vector(self, slot: int, width: int, most: int = MAX_ENTRIES) -> tuple[int, int]:
        at = self._place(slot)
        if not at:
            return 0, 0
        start = self._follow(at)
        count: int = self._number("I", start)
        if count > most or start + 4 + width * count > len(self._data):
            raise ValueError("a list is too long")
        return start + 4, count

    def _place(self, slot: int) -> int:
        """Return where a field stands; 0 if the table lacks it."""
        entry = 4 + 2 * slot
        inside: int = self._number("H", self._index + entry) if entry < self._size else 0
        return self._at + inside if inside else 0

    def _follow(self, at: int) -> int:
        return at + int(self._number("I", at))

    def _number(self, form: str, at: int) -> Any:
        return struct.unpack_from(f"<{form}", self._data, at)[0]


def read(path: Path) -> Notes:
    """Return what the notes in a TFLite file say; nothing if there are none or they are damaged."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            found = _metadata(_Table.root(data))
        return _notes(_Table.root(found)) if found else Notes()
    except (OSError, ValueError, struct.error):
        return Notes()


def members(path: Path) -> dict[str, str]:
    """Return the texts in the archive behind the end of a file: name -> content, as far as they are small."""
    found: dict[str, str] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist()[:MAX_MEMBERS]:
                with archive.open(info) as member:
                    data = member.read(MAX_MEMBER_BYTES + 1)
                if len(data) <= MAX_MEMBER_BYTES:
                    found[info.filename] = data.decode("utf-8", "replace")
    except (OSError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error, EOFError):
        return found  # what came before the damage, if the file holds an archive at all
    return found


def _metadata(model: _Table) -> bytes:
    for one in model.tables(6):
        if one.text(0) == _NAME:
            buffers, number = model.tables(4), one.whole(1, "I")
            return buffers[number].data(0) if number < len(buffers) else b""
    return b""


def _notes(notes: _Table) -> Notes:
    graphs = notes.tables(3)
    if not graphs:
        return Notes()
    entries, outputs = graphs[0].tables(2), graphs[0].tables(3)
    fields = _of_picture(entries[0]) if len(entries) == 1 else {}
    least = [score for one in outputs for score in _thresholds(one) if 0 < score < 1]
    fields |= {"min_score": round(least[0], 4)} if least else {}
    files = [file for one in outputs for file in one.tables(6) if file.whole(2) in _LABELS]
    files.sort(key=lambda file: bool(file.text(3)))  # one without a language is for all
    return Notes(fields, files[0].text(0) if files else "")


def _of_picture(entry: _Table) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    content = entry.table(3)
    if content is not None and content.whole(0) == _PICTURE:
        picture = content.table(1)
        if picture is not None and picture.whole(0) == _RGB:
            fields["colour"] = "RGB"
    for unit in entry.tables(4):
        options = unit.table(1) if unit.whole(0) == _NORMALISES else None
        if options is not None:
            mean, scale = (_three(options.reals(slot)) for slot in (0, 1))
            if mean and scale and 0 not in scale:
                fields |= {"mean": mean, "scale": scale}
    return fields


def _thresholds(tensor: _Table) -> list[float]:
    tables = [unit.table(1) for unit in tensor.tables(4) if unit.whole(0) == _THRESHOLD]
    return [one.real(0) for one in tables if one is not None]


def _three(numbers: tuple[float, ...]) -> tuple[float, ...]:
    """Let one number stand for three; none of another count is believed, nor what is no number."""
    three = numbers * 3 if len(numbers) == 1 else numbers
    return tuple(round(one, 4) for one in three) if len(three) == 3 and all(abs(one) < 1e6 for one in three) else ()
