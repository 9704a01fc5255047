"""What TensorFlow's metadata tools write into a TFLite file: how pictures are normalised, which file holds the labels.

Stage: at ``fleet-worker models add``, under :mod:`worker.metadata`. The notes are a FlatBuffer inside of the file's own
FlatBuffer (:mod:`worker.flatbuffer`); the files they name are an archive behind its end, of which only what is small is
read.

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

from worker.flatbuffer import Table

#: Most members of the archive that are looked at, and most bytes of each.
MAX_MEMBERS = 64
MAX_MEMBER_BYTES = 1024 * 1024

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


def read(path: Path) -> Notes:
    """Return what the notes in a TFLite file say; nothing if there are none or they are damaged."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            found = _metadata(Table.root(data))
        return _notes(Table.root(found)) if found else Notes()
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
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error, EOFError):
        return found  # what came before the damage, if the file holds an archive at all
    return found


def _metadata(model: Table) -> bytes:
    for one in model.tables(6):
        if one.text(0) == _NAME:
            buffers, number = model.tables(4), one.whole(1, "I")
            return buffers[number].data(0) if number < len(buffers) else b""
    return b""


def _notes(notes: Table) -> Notes:
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


def _of_picture(entry: Table) -> dict[str, Any]:
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


def _thresholds(tensor: Table) -> list[float]:
    tables = [unit.table(1) for unit in tensor.tables(4) if unit.whole(0) == _THRESHOLD]
    return [one.real(0) for one in tables if one is not None]


def _three(numbers: tuple[float, ...]) -> tuple[float, ...]:
    """Let one number stand for three; none of another count is believed, nor what is no number."""
    three = numbers * 3 if len(numbers) == 1 else numbers
    return tuple(round(one, 4) for one in three) if len(three) == 3 and all(abs(one) < 1e6 for one in three) else ()
