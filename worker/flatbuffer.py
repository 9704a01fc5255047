"""Reads the FlatBuffers that TFLite files are made of: tables of numbered fields, lists, texts.

Stage: under :mod:`worker.tflite_notes` and :mod:`worker.tflite_end`. Files come from anywhere: every offset is looked
at before it is followed, nothing is followed in a circle, and what is too large is not read.
"""

import struct
from typing import Any

#: Most entries of a list, most bytes of a text, and most bytes of data unless more are asked for.
MAX_ENTRIES = 100_000
MAX_TEXT_BYTES = 4096
MAX_BYTES = 1024 * 1024


class Table:
    """One table of a FlatBuffer. Every method raises ``struct.error`` or ``ValueError`` where the bytes are wrong."""

    def __init__(self, data: Any, at: int) -> None:
        self._data, self._at = data, at
        self._index = at - self._number("i", at)
        if self._index < 0:
            raise ValueError("an offset leads out of the file")
        self._size: int = self._number("H", self._index)

    @classmethod
    def root(cls, data: Any) -> "Table":
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

    def table(self, slot: int) -> "Table | None":
        """Return a table."""
        at = self._place(slot)
        return Table(self._data, self._follow(at)) if at else None

    def tables(self, slot: int) -> list["Table"]:
        """Return a list of tables."""
        start, count = self.vector(slot, 4)
        return [Table(self._data, self._follow(start + 4 * number)) for number in range(count)]

    def wholes(self, slot: int, form: str = "i") -> tuple[int, ...]:
        """Return a list of whole numbers."""
        start, count = self.vector(slot, struct.calcsize(f"<{form}"))
        return struct.unpack_from(f"<{count}{form}", self._data, start)

    def reals(self, slot: int) -> tuple[float, ...]:
        """Return a list of floats."""
        start, count = self.vector(slot, 4)
        return struct.unpack_from(f"<{count}f", self._data, start)

    def text(self, slot: int) -> str:
        """Return a text."""
        return self.data(slot, MAX_TEXT_BYTES).decode("utf-8", "replace")

    def data(self, slot: int, most: int = MAX_BYTES) -> bytes:
        """Return bytes."""
        start, count = self.vector(slot, 1, most)
        return bytes(self._data[start : start + count])

    def vector(self, slot: int, width: int, most: int = MAX_ENTRIES) -> tuple[int, int]:
        """Return where a list of entries of ``width`` bytes begins, and how many there are."""
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
