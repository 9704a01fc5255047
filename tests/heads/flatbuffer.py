"""Writes the FlatBuffers that TFLite files are made of: tables of numbered fields, vectors, texts.

Parents are written before their children, so that every offset points forward, as the format wants it.
"""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

#: A table: number of the field -> value. Numbers are :class:`Scalar` or numpy arrays; the rest speaks for itself.
Table = dict[int, Any]


@dataclass(frozen=True, slots=True)
class Scalar:
    """One number, as ``struct`` writes it."""

    form: str
    value: float

    def pack(self) -> bytes:
        """Give its bytes."""
        return struct.pack(f"<{self.form}", self.value)


def dumps(root: Table, identifier: bytes) -> bytes:
    """Give the file whose root is this table."""
    data = bytearray(8)
    data[4:8] = identifier
    struct.pack_into("<I", data, 0, _table(data, root))
    return bytes(data)


def _pad(data: bytearray, to: int, ahead: int = 0) -> None:
    data.extend(bytes(-(len(data) + ahead) % to))


def _table(data: bytearray, table: Table) -> int:
    """Write a table behind its own index, then its children; return where it stands."""
    places, size = {}, 4
    for slot, value in table.items():
        width = len(value.pack()) if isinstance(value, Scalar) else 4
        size += -size % width
        places[slot] = size
        size += width
    slots = max(table, default=-1) + 1
    _pad(data, 2)
    index = len(data)
    data.extend(struct.pack("<HH", 4 + 2 * slots, size))
    data.extend(b"".join(struct.pack("<H", places.get(slot, 0)) for slot in range(slots)))
    _pad(data, 8)
    here = len(data)
    data.extend(struct.pack("<i", here - index) + bytes(size - 4))
    for slot, value in table.items():
        at = here + places[slot]
        if isinstance(value, Scalar):
            data[at : at + len(value.pack())] = value.pack()
        else:
            struct.pack_into("<I", data, at, _child(data, value) - at)
    return here


def _child(data: bytearray, value: Any) -> int:
    if isinstance(value, dict):
        return _table(data, value)
    if isinstance(value, str):
        return _vector(data, value.encode() + b"\0", len(value.encode()), 1)
    if isinstance(value, bytes):
        return _vector(data, value, len(value), 16)
    if isinstance(value, np.ndarray):
        return _vector(data, value.tobytes(), value.size, value.itemsize)
    start = _vector(data, bytes(4 * len(value)), len(value), 4)
    for number, child in enumerate(value):
        at = start + 4 + 4 * number
        struct.pack_into("<I", data, at, _child(data, child) - at)
    return start


def _vector(data: bytearray, content: bytes, length: int, width: int) -> int:
    _pad(data, max(4, width), ahead=4)
    start = len(data)
    data.extend(struct.pack("<I", length) + content)
    return start


def options(values: dict[str, float]) -> bytes:
    """Give a FlexBuffer that is a map of whole numbers, truths and floats, four bytes each."""
    data, places = bytearray(), []
    names = sorted(values)
    for name in names:
        places.append(len(data))
        data.extend(name.encode() + b"\0")
    _pad(data, 4)
    data.extend(struct.pack("<I", len(names)))
    keys = len(data)
    for place in places:
        data.extend(struct.pack("<I", len(data) - place))
    data.extend(struct.pack("<III", len(data) - keys, 4, len(names)))
    start = len(data)
    for name in names:
        data.extend(struct.pack("<f" if isinstance(values[name], float) else "<I", values[name]))
    kinds = {float: 3, bool: 26, int: 1}
    data.extend(bytes(kinds[type(values[name])] << 2 | 2 for name in names))
    data.extend(bytes(-len(data) % 4))
    data.extend(struct.pack("<IBB", len(data) - start, 9 << 2 | 2, 4))
    return bytes(data)
