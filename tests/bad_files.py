"""Files that the worker must refuse, and whole ones to break, made from numbers alone.

They are the same for one version of the libraries.
"""

import functools
import struct
import zlib

import numpy as np

from tests.photos import encode, noise, with_thumbnail

#: Encoded bytes and the error's code.
Hostile = tuple[bytes, str]

INVALID = "invalid_image"
TOO_LARGE = "image_too_large"


def hostile() -> dict[str, Hostile]:
    """Make the files that must be refused: name -> (bytes, code of the error)."""
    invalid = _not_pictures() | _other_formats() | _cut_short() | _broken_png() | _broken_jpeg()
    return {name: (data, INVALID) for name, data in invalid.items()} | {
        name: (data, TOO_LARGE) for name, data in _bombs().items()
    }


@functools.cache
def whole() -> dict[str, bytes]:
    """Make one good file of each accepted format, the ones that :func:`hostile` breaks; 320x240."""
    picture = noise()
    return {
        "jpeg": encode(picture, "JPEG", quality=85),
        "jpeg_progressive": encode(picture, "JPEG", quality=85, progressive=True),
        "png": encode(picture, "PNG"),
        "webp": encode(picture, "WEBP", quality=85),
        "webp_lossless": encode(picture, "WEBP", lossless=True),
        "bmp": encode(picture, "BMP"),
    }


def _not_pictures() -> dict[str, bytes]:
    random = np.random.default_rng(8).bytes(5000)
    return {
        "empty": b"",
        "one_byte": b"\xff",
        "random": random,
        "text": b"This is not a picture.\n" * 20,
        "html": b"<!doctype html><html><body><h1>404 Not Found</h1></body></html>",
        "json": b'{"error": "not found"}',
        "jpeg_magic_only": b"\xff\xd8\xff\xe0",
        "jpeg_magic_then_random": b"\xff\xd8\xff\xe0" + random,
        "png_magic_only": b"\x89PNG\r\n\x1a\n",
        "png_magic_then_random": b"\x89PNG\r\n\x1a\n" + random,
        "webp_magic_then_random": b"RIFF" + struct.pack("<I", 5004) + b"WEBP" + random,
        "bmp_magic_then_random": b"BM" + random,
    }


def _other_formats() -> dict[str, bytes]:
    picture = noise()
    return {
        "gif": encode(picture.quantize(64), "GIF"),
        "tiff": encode(picture, "TIFF"),
        "jpeg2000": encode(picture, "JPEG2000"),
        "jpeg2000_codestream": encode(picture, "JPEG2000", no_jp2=True),
        "ppm": encode(picture, "PPM"),
        "ico": encode(picture.resize((32, 32)), "ICO"),
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><path d="M0 0h9v9z"/></svg>',
    }


def _cut_short() -> dict[str, bytes]:
    return {
        f"{name}_cut_{percent}": data[: len(data) * percent // 100]
        for name, data in whole().items()
        for percent in (10, 50, 90, 99)
    }


def _broken_png() -> dict[str, bytes]:
    data = whole()["png"]
    head, pixels, end = chunk(b"IHDR", ihdr(320, 240)), chunk(b"IDAT", zlib.compress(bytes(240 * 961))), _END
    middle = len(data) // 2
    return {
        "png_cut_in_ihdr": data[:20],
        "png_cut_after_ihdr": data[:33],
        "png_cut_before_last_byte_of_pixels": data[: data.rindex(b"IEND") - 4 - 5],
        "png_ihdr_bad_crc": data[:29] + bytes(4) + data[33:],
        "png_ihdr_bad_colour_type": _MAGIC + chunk(b"IHDR", ihdr(320, 240, colour=5)) + pixels + end,
        "png_ihdr_bad_depth": _MAGIC + chunk(b"IHDR", ihdr(320, 240, depth=3)) + pixels + end,
        "png_ihdr_zero_width": _MAGIC + chunk(b"IHDR", ihdr(0, 240)) + pixels + end,
        "png_ihdr_short": _MAGIC + chunk(b"IHDR", b"\x00" * 5) + pixels + end,
        "png_ihdr_not_first": _MAGIC + pixels + head + end,
        "png_no_idat": _MAGIC + head + end,
        "png_idat_empty": _MAGIC + head + chunk(b"IDAT", b"") + end,
        "png_idat_half": _MAGIC + head + chunk(b"IDAT", zlib.compress(bytes(120 * 961))) + end,
        "png_idat_bad_crc": data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :],
    }


def _broken_jpeg() -> dict[str, bytes]:
    data = with_thumbnail(whole()["jpeg"])
    scan = data.rindex(b"\xff\xda")
    return {
        "jpeg_cut_thumbnail_whole": data[: (scan + len(data)) // 2],
        "jpeg_cut_before_scan_thumbnail_whole": data[:scan],
        "jpeg_no_scan": data[:scan] + b"\xff\xd9",
        "jpeg_zero_width": jpeg_claiming(0, 240),
        "jpeg_jumped_over": jumped_over(),
    }


def jumped_over() -> bytes:
    """Return a JPEG whose picture of 320 x 240 lies where a reader that takes FF00 for a segment jumps to one of 8 x 8.

    A decoder skips the two bytes and finds the large one.
    """
    large, small = whole()["jpeg"][2:-2], encode(noise().resize((8, 8)), "JPEG")[2:]
    return b"\xff\xd8\xff\x00" + struct.pack(">H", len(large) + 2) + large + small


def _bombs() -> dict[str, bytes]:
    """Small files that claim, or really hold, more pixels than a worker can keep."""
    bombs = {}
    for side in (20_000, 65_500):
        bombs[f"bomb_png_{side}"] = png_claiming(side, side)
        bombs[f"bomb_jpeg_{side}"] = jpeg_claiming(side, side)
        bombs[f"bomb_jpeg_progressive_{side}"] = jpeg_claiming(side, side, progressive=True)
        bombs[f"bomb_bmp_{side}"] = bmp_claiming(side, side)
        bombs[f"bomb_bmp_top_down_{side}"] = bmp_claiming(side, -side)
    bombs |= {f"bomb_jpeg_scans_{way}": data for way, data in _many_scans().items()}
    bombs |= {f"bomb_webp_{kind}_16383": _webp_claiming(kind, 16_383, 16_383) for kind in ("vp8", "vp8l", "vp8x")}
    bombs["bomb_png_int_max"] = png_claiming(2**31 - 1, 2**31 - 1)
    bombs["bomb_png_1bit_real"] = _real_bomb(20_000)
    bombs["bomb_bmp_rle_real"] = _bmp_of_nothing(20_000, 20_000)
    bombs["bomb_jpeg_behind_thumbnail"] = with_thumbnail(jpeg_claiming(20_000, 20_000))
    return bombs


_MAGIC = b"\x89PNG\r\n\x1a\n"


def _many_scans() -> dict[str, bytes]:
    """Pictures whose decoding takes minutes: the last scan again and again, plain, hidden, and of a sequential one."""
    jpeg = whole()["jpeg_progressive"]
    scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    hidden = b"\xff\xfe\x00\x04\xff\xd9" + b"junk" + scan
    sequential = whole()["jpeg"]
    at = sequential.index(b"\xff\xda")
    single = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + b"\x00" * 8  # of one component of the three
    return {
        "plain": jpeg[:-2] + scan * 2000 + jpeg[-2:],
        "behind_comments": jpeg[:-2] + hidden * 2000 + jpeg[-2:],
        "sequential": sequential[:at] + single * 2000 + sequential[-2:],
    }


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


_END = chunk(b"IEND", b"")


def ihdr(width: int, height: int, *, depth: int = 8, colour: int = 2) -> bytes:
    return struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)


def png_claiming(width: int, height: int) -> bytes:
    return _MAGIC + chunk(b"IHDR", ihdr(width, height)) + chunk(b"IDAT", zlib.compress(bytes(1000))) + _END


def _real_bomb(side: int) -> bytes:
    """Return a whole black 1-bit PNG: 50 KB on the wire, 1.2 GB as BGR."""
    rows = zlib.compress(bytes((side // 8 + 1) * side))
    return _MAGIC + chunk(b"IHDR", ihdr(side, side, depth=1, colour=0)) + chunk(b"IDAT", rows) + _END


def jpeg_claiming(width: int, height: int, *, progressive: bool = False) -> bytes:
    data = bytearray(whole()["jpeg_progressive" if progressive else "jpeg"])
    frame = data.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def bmp_claiming(width: int, height: int) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 2835, 2835, 0, 0)
    pixels = bytes(1000)
    return struct.pack("<2sIHHI", b"BM", 54 + len(pixels), 0, 0, 54) + info + pixels


def _bmp_of_nothing(width: int, height: int) -> bytes:
    """Return a whole run-length coded BMP that ends before its first pixel: all of them are colour 0."""
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, 2, 2835, 2835, 256, 0)
    return struct.pack("<2sIHHI", b"BM", 54 + 1024 + 2, 0, 0, 54 + 1024) + info + bytes(1024) + b"\x00\x01"


def _webp_claiming(kind: str, width: int, height: int) -> bytes:
    def riff(*chunks: bytes) -> bytes:
        body = b"WEBP" + b"".join(chunks)
        return b"RIFF" + struct.pack("<I", len(body)) + body

    def chunk(name: bytes, data: bytes) -> bytes:
        return name + struct.pack("<I", len(data)) + data

    if kind == "vp8":
        lossy = bytearray(whole()["webp"][20:])
        lossy[6:10] = struct.pack("<HH", width, height)
        return riff(chunk(b"VP8 ", bytes(lossy)))
    if kind == "vp8l":
        lossless = bytearray(whole()["webp_lossless"][20:])
        lossless[1:5] = struct.pack("<I", (width - 1) | (height - 1) << 14)
        return riff(chunk(b"VP8L", bytes(lossless)))
    canvas = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    lossy = bytearray(whole()["webp"][20:])
    lossy[6:10] = struct.pack("<HH", width, height)
    return riff(chunk(b"VP8X", bytes(4) + canvas), chunk(b"VP8 ", bytes(lossy)))
