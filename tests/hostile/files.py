"""Hostile files: made from a seed, each with what must become of it.

Many are good files that were damaged a little, since those get furthest into the decoders.
"""

import io
import random
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tests import bad_files

#: The first bytes of formats, those that are read and others.
MAGICS = (
    b"\xff\xd8\xff\xe0\x00\x10JFIF\x00",
    b"\xff\xd8\xff\xe1",
    b"\x89PNG\r\n\x1a\n",
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
    b"RIFF\xff\x00\x00\x00WEBPVP8 ",
    b"RIFF\xff\x00\x00\x00WEBPVP8L",
    b"RIFF\xff\x00\x00\x00WEBPVP8X",
    b"BM",
    b"GIF89a",
    b"II*\x00",
    b"MM\x00*",
    b"\x00\x00\x00\x0cjP  \r\n\x87\n",
    b"\xff\x4f\xff\x51",
    b"%PDF-1.7",
    b"<?xml version='1.0'?><svg>",
    b"P6\n100000 100000\n255\n",
    b"8BPS",
    b"\x00\x00\x01\x00",
    b"\x76\x2f\x31\x01",
    b"#?RADIANCE\n",
    b"\x00\x00\x00 ftypavif",
    b"\x80\x04\x95",
)


def claims(side: int = 100_000) -> dict[str, bytes]:
    """Make headers of formats that claim ``side`` x ``side`` pixels and hold next to nothing."""
    return {
        "png": bad_files.png_claiming(side, side),
        "bmp": bad_files.bmp_claiming(side, side),
        "jpeg": bad_files.jpeg_claiming(min(side, 65_500), min(side, 65_500)),
        "webp": b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + struct.pack("<I", side - 1)[:3] * 2 + bytes(8),
        "gif": b"GIF89a" + struct.pack("<HH", side & 0xFFFF, side & 0xFFFF) + b"\xf7\x00\x00" + bytes(768) + b",",
        "tiff": _tiff(side),
        "jpeg2000": b"\x00\x00\x00\x0cjP  \r\n\x87\n" + _box(b"ftyp", b"jp2 \0\0\0\0jp2 ") + _jp2_header(side),
        "jpeg2000_codestream": _codestream(side),
        "ppm": b"P6\n%d %d\n255\n" % (side, side),
        "pgm": b"P5\n%d %d\n255\n" % (side, side),
        "psd": b"8BPS\x00\x01" + bytes(6) + struct.pack(">HIIHH", 3, side, side, 8, 3),
        "hdr": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y %d +X %d\n" % (side, side),
        "sun": struct.pack(">8I", 0x59A66A95, side, side, 24, 0, 1, 0, 0),
    }


def _tiff(side: int) -> bytes:
    tags = [(256, 4, side), (257, 4, side), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (278, 4, side)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in [*tags, (279, 4, 2**31)])
    return struct.pack("<2sHIH", b"II", 42, 8, 8) + entries + bytes(4)


def _box(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", 8 + len(data)) + name + data


def _jp2_header(side: int) -> bytes:
    ihdr = _box(b"ihdr", struct.pack(">IIHBBBB", side, side, 3, 7, 7, 0, 0))
    colour = _box(b"colr", struct.pack(">BBBI", 1, 0, 0, 16))
    return _box(b"jp2h", ihdr + colour) + _box(b"jp2c", _codestream(side))


def _codestream(side: int) -> bytes:
    size = struct.pack(">HIIIIIIIIH", 0, side, side, 0, 0, side, side, 0, 0, 3) + b"\x07\x01\x01" * 3
    return b"\xff\x4f\xff\x51" + struct.pack(">H", 2 + len(size)) + size


def small() -> dict[str, bytes]:
    """Make a small good file of each accepted kind."""
    picture = Image.fromarray(np.random.default_rng(3).integers(0, 255, (36, 48, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds = {
        "jpeg": (picture, "JPEG", {"exif": exif}),
        "jpeg_progressive": (picture, "JPEG", {"progressive": True}),
        "jpeg_cmyk": (picture.convert("CMYK"), "JPEG", {}),
        "jpeg_grey": (picture.convert("L"), "JPEG", {}),
        "png": (picture, "PNG", {}),
        "png_palette": (picture.quantize(16), "PNG", {}),
        "png_alpha": (picture.convert("RGBA"), "PNG", {}),
        "png_bits": (picture.convert("1"), "PNG", {}),
        "apng": (picture, "PNG", {"save_all": True, "append_images": [picture.rotate(90)] * 3}),
        "webp": (picture, "WEBP", {"exif": exif}),
        "webp_lossless": (picture.convert("RGBA"), "WEBP", {"lossless": True}),
        "webp_moving": (picture, "WEBP", {"save_all": True, "append_images": [picture.rotate(90)] * 3}),
        "bmp": (picture, "BMP", {}),
        "bmp_palette": (picture.quantize(16), "BMP", {}),
    }
    made = {}
    for name, (one, form, options) in kinds.items():
        buffer = io.BytesIO()
        one.save(buffer, form, **options)
        made[name] = buffer.getvalue()
    return made


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Change, cut, double, insert or exchange parts of a file, most often near its start."""
    for _ in range(chance.randint(1, 5)):
        at = chance.randrange(max(1, min(chance.choice([40, 300, len(data)]), len(data) or 1)))
        length = chance.randint(1, 16)
        how = chance.randrange(7)
        if how == 0:
            data = data[:at] + chance.randbytes(length) + data[at + length :]
        elif how == 1:
            data = data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :] if data else data
        elif how == 2:
            data = data[:at] + chance.randbytes(length) + data[at:]
        elif how == 3:
            data = data[:at] + data[at + length :]
        elif how == 4 and chance.random() < 0.3:
            data = data[:at]
        elif how == 5:
            data = (
                data[:at] + chance.choice([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"\x80\0\0\0"]) + data[at + 4 :]
            )
        else:
            data = data[: at + length] + data[at:]
    return data


def _with_good_sums(data: bytes) -> bytes:
    """Put right the checksums of a PNG's chunks, so that the damage gets past them."""
    if not data.startswith(b"\x89PNG"):
        return data
    out, at = data[:8], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if at + 12 + length > len(data):
            break
        chunk = data[at + 4 : at + 8 + length]
        out += data[at : at + 4] + chunk + struct.pack(">I", zlib.crc32(chunk))
        at += 12 + length
    return out + data[at:]


def make(seed: int, number: int) -> Iterator[tuple[str, bytes]]:
    """Yield ``number`` hostile files with names; which are really damaged beyond use is the decoder's to say."""
    chance = random.Random(seed)
    fixed = {f"file_{name}": data for name, (data, _) in bad_files.hostile().items()}
    fixed |= {f"claim_{name}": data for name, data in claims().items()}
    yield from list(fixed.items())[:number]
    good = list((small() | bad_files.whole()).items())
    for count in range(number - len(fixed)):
        if count % 8 == 0:
            yield f"noise_{count}", chance.choice(MAGICS) + chance.randbytes(chance.randint(0, 2000))
        else:
            name, data = chance.choice(good)
            bad = damaged(data, chance)
            yield f"damaged_{count}_{name}", _with_good_sums(bad) if count % 3 else bad
