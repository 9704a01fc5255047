"""What kombu decodes messages with, in bounded form: a few bytes must not become gigabytes.

Stage: beside :mod:`worker.broker`; :mod:`worker.app` puts it in place. kombu's own decompress without a limit, and its
msgpack makes an object of 56 bytes of each single byte ``0x90``. Both registries are kombu's public ones.

Mirrors kombu 5.7: the registrations at the end of ``kombu.compression`` and ``kombu.serialization``.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any

import msgpack
from kombu import compression, serialization

from producer.wire import MAX_MESSAGE_BYTES, MAX_MESSAGE_VALUES

#: Most items in one list or object of a msgpack body: memory for a list is taken before its items are read.
MAX_ITEMS = 10_000


def install() -> None:
    """Let kombu use these decoders, in this process."""
    for content_type in compression.encoders():
        encode, _ = compression.get_encoder(content_type)
        compression.register(encode, _DECOMPRESSORS.get(content_type, _refuse), content_type)
    serialization.register(
        "msgpack",
        msgpack.packb,
        unpack,
        content_type="application/x-msgpack",
        content_encoding="binary",
    )


def unpack(data: bytes) -> Any:
    """Read msgpack.

    Raises:
        ValueError: too many values, or a type that JSON does not have; msgpack's own errors are such.
    """
    left = MAX_MESSAGE_VALUES

    def count(found: Any) -> Any:
        nonlocal left
        left -= len(found) + 1
        if left < 0:
            raise ValueError(f"more than {MAX_MESSAGE_VALUES} values")
        return found

    return msgpack.unpackb(
        bytes(data),
        raw=False,
        list_hook=count,
        object_hook=count,
        ext_hook=_no_extension,
        max_array_len=MAX_ITEMS,
        max_map_len=MAX_ITEMS,
    )


def _no_extension(code: int, _: bytes) -> Any:
    raise ValueError(f"extension type {code}")


def _bounded(start: Callable[[], Any]) -> Callable[[bytes], bytes]:
    """Make a decoder of one that takes the most bytes to give."""

    def decompress(data: bytes) -> bytes:
        machine = start()
        text: bytes = machine.decompress(data, MAX_MESSAGE_BYTES + 1)
        if len(text) > MAX_MESSAGE_BYTES:
            raise ValueError(f"more than {MAX_MESSAGE_BYTES} bytes")
        if not machine.eof:
            raise ValueError("truncated")
        return text

    return decompress


def _refuse(_: bytes) -> bytes:
    raise ValueError("this compression is not accepted")


_DECOMPRESSORS = {
    "application/x-gzip": _bounded(zlib.decompressobj),
    "application/x-bz2": _bounded(bz2.BZ2Decompressor),
    "application/x-lzma": _bounded(lambda: lzma.LZMADecompressor(memlimit=64 * 1024 * 1024)),
}
