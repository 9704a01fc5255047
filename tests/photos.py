"""Pictures of every kind that the worker must read, and files that it must refuse.

Good pictures are made from the sample photos of :mod:`worker.assets`, bad files from numbers alone.
Everything is deterministic for one version of the libraries.
"""

import functools
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

#: Encoded bytes and the (width, height) of the picture as a person sees it.
Photo = tuple[bytes, tuple[int, int]]

#: Encoded bytes and the error's code.
Hostile = tuple[bytes, str]

INVALID = "invalid_image"
TOO_LARGE = "image_too_large"

#: Files that :func:`build` needs.
SAMPLES = ("astronaut.png", "grace_hopper.jpg", "china.jpg", "flower.jpg")

#: Faces in the picture ``crowd``.
CROWD = 17

#: How the stored pixels of each EXIF orientation come from the upright picture.
_STORED_AS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}

_ORIENTATION = 0x0112


# ----------------------------------------------------------------------------------------------- good pictures


def build(folder: Path) -> dict[str, Photo]:
    """Make the good pictures.

    Args:
        folder: holds :data:`SAMPLES`.

    Returns:
        Name -> (encoded bytes, upright (width, height)). ``china`` and ``flower`` show no face to CenterFace;
        ``exif_N``, ``exif_6_png`` and ``exif_6_webp`` all show grace_hopper.jpg upright.
    """
    astronaut, grace, china = (_open(folder / name) for name in SAMPLES[:3])
    photos = {name.partition(".")[0]: _as_it_is(folder / name) for name in SAMPLES}
    pictures = {
        "crowd": _encode(crowd(folder), "JPEG", quality=92),
        "portrait_astronaut": _encode(astronaut.crop((80, 0, 380, 500)), "JPEG", quality=90),
        "portrait_grace_hopper": _encode(grace.crop((100, 0, 437, 600)), "PNG"),
        "thin": _encode(china.resize((40, 2000)), "JPEG"),
        "wide": _encode(china.resize((2000, 40)), "JPEG"),
        "huge": _huge(astronaut),
        **_png(astronaut),
        **_jpeg(astronaut),
        **_webp_and_bmp(astronaut),
    }
    photos |= {name: (data, _size(data)) for name, data in pictures.items()}
    return photos | {name: (data, grace.size) for name, data in _exif(grace).items()}


def crowd(folder: Path) -> Image.Image:
    """Paint 17 faces, 40 to 125 px wide, into a 1280x853 scene: two people, mirrored and lit in turns."""
    scene = _open(folder / "china.jpg").resize((1280, 853), Image.Resampling.BICUBIC)
    heads = [
        _open(folder / "astronaut.png").crop((130, 0, 320, 225)),
        _open(folder / "grace_hopper.jpg").crop((130, 20, 400, 380)),
    ]
    rows = [(7, 105, 215), (6, 160, 345), (4, 260, 560)]  # faces, height of a head, top
    number = 0
    for faces, height, top in rows:
        for place in range(faces):
            head = heads[number % 2]
            head = head.resize((round(head.width * height / head.height), height), Image.Resampling.LANCZOS)
            if number % 3 == 1:
                head = head.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            light = (1.0, 0.8, 1.15)[number % 3]
            head = head.point([min(255, round(value * light)) for value in range(256)] * 3)
            left = round((place + 0.5) * scene.width / faces - head.width / 2)
            scene.paste(head, (left, top + 12 * (number % 2)), _soft_oval(head.size))
            number += 1
    return scene


def _soft_oval(size: tuple[int, int]) -> Image.Image:
    """Return a mask that is full in the middle and fades to nothing before the edge."""
    ys, xs = np.mgrid[-1 : 1 : size[1] * 1j, -1 : 1 : size[0] * 1j]
    return Image.fromarray(np.uint8(np.clip((1 - np.hypot(xs, ys)) / 0.08, 0, 1) * 255))


def _png(photo: Image.Image) -> dict[str, bytes]:
    grey = photo.convert("L")
    alpha = Image.fromarray(np.uint8(np.mgrid[0 : photo.height, 0 : photo.width][1] % 256))
    clear = photo.copy()
    clear.putalpha(alpha)
    grey_clear = grey.copy()
    grey_clear.putalpha(alpha)
    palette = photo.quantize(256)
    deep = np.asarray(photo)[..., ::-1].astype(np.uint16) * 257
    return {
        "png_grey": _encode(grey, "PNG"),
        "png_alpha": _encode(clear, "PNG"),
        "png_grey_alpha": _encode(grey_clear, "PNG"),
        "png_palette": _encode(palette, "PNG"),
        "png_palette_clear": _encode(palette, "PNG", transparency=0),
        "png_1bit": _encode(photo.convert("1"), "PNG"),
        "png_16bit": cv2.imencode(".png", deep)[1].tobytes(),
        "png_16bit_grey": cv2.imencode(".png", deep[..., 1])[1].tobytes(),
        "png_1x1": _encode(Image.new("RGB", (1, 1), (200, 150, 100)), "PNG"),
    }


def _jpeg(photo: Image.Image) -> dict[str, bytes]:
    plain = _encode(photo, "JPEG", quality=90)
    return {
        "jpeg_grey": _encode(photo.convert("L"), "JPEG", quality=90),
        "jpeg_progressive": _encode(photo, "JPEG", quality=90, progressive=True),
        "jpeg_cmyk": _encode(photo.convert("CMYK"), "JPEG", quality=90),
        "jpeg_restarts": _encode(photo, "JPEG", quality=90, restart_marker_blocks=7),
        "jpeg_thumbnail": _with_thumbnail(plain),
        "jpeg_then_video": plain + b"\x00\x00\x00\x18ftypmp42" * 40,  # phones append a clip to a "live" photo
        "jpeg_mpo": _encode(photo, "MPO", save_all=True, append_images=[photo.resize((64, 64))]),
    }


def _webp_and_bmp(photo: Image.Image) -> dict[str, bytes]:
    clear = photo.copy()
    clear.putalpha(photo.convert("L"))
    return {
        "webp": _encode(photo, "WEBP", quality=90),
        "webp_alpha": _encode(clear, "WEBP", quality=90),
        "webp_lossless": _encode(photo, "WEBP", lossless=True),
        "bmp": _encode(photo, "BMP"),
        "bmp_palette": _encode(photo.quantize(256), "BMP"),
        "bmp_grey": _encode(photo.convert("L"), "BMP"),
    }


def _exif(upright: Image.Image) -> dict[str, bytes]:
    others = {f"exif_6_{form.lower()}": _stored_as(upright, 6, form) for form in ("PNG", "WEBP")}
    return _turned(upright) | others


def _turned(upright: Image.Image) -> dict[str, bytes]:
    return {f"exif_{orientation}": _stored_as(upright, orientation, "JPEG") for orientation in _STORED_AS}


def _stored_as(upright: Image.Image, orientation: int, form: str) -> bytes:
    how = _STORED_AS[orientation]
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    return _encode(upright if how is None else upright.transpose(how), form, exif=exif, quality=92)


def _huge(photo: Image.Image) -> bytes:
    """Return a JPEG of 24 million pixels, larger than most cameras give."""
    return _encode(photo.crop((0, 0, 510, 340)).resize((6000, 4000), Image.Resampling.BILINEAR), "JPEG", quality=85)


# ------------------------------------------------------------------------------------------------- hostile files


def hostile() -> dict[str, Hostile]:
    """Make the files that must be refused: name -> (bytes, code of the error)."""
    invalid = _not_pictures() | _other_formats() | _cut_short() | _broken_png() | _broken_jpeg()
    return {name: (data, INVALID) for name, data in invalid.items()} | {
        name: (data, TOO_LARGE) for name, data in _bombs().items()
    }


@functools.cache
def whole() -> dict[str, bytes]:
    """Make one good file of each accepted format, the ones that :func:`hostile` breaks; 320x240."""
    picture = _noise()
    return {
        "jpeg": _encode(picture, "JPEG", quality=85),
        "jpeg_progressive": _encode(picture, "JPEG", quality=85, progressive=True),
        "png": _encode(picture, "PNG"),
        "webp": _encode(picture, "WEBP", quality=85),
        "webp_lossless": _encode(picture, "WEBP", lossless=True),
        "bmp": _encode(picture, "BMP"),
    }


def _noise() -> Image.Image:
    ys, xs = np.mgrid[0:240, 0:320]
    smooth = np.stack([xs * 255 / 319, ys * 255 / 239, (xs + ys) * 255 / 558], axis=-1)
    grain = np.random.default_rng(7).normal(0, 12, smooth.shape)
    return Image.fromarray(np.uint8(np.clip(smooth + grain, 0, 255)))


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
    picture = _noise()
    return {
        "gif": _encode(picture.quantize(64), "GIF"),
        "tiff": _encode(picture, "TIFF"),
        "jpeg2000": _encode(picture, "JPEG2000"),
        "jpeg2000_codestream": _encode(picture, "JPEG2000", no_jp2=True),
        "ppm": _encode(picture, "PPM"),
        "ico": _encode(picture.resize((32, 32)), "ICO"),
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
    head, pixels, end = _chunk(b"IHDR", _ihdr(320, 240)), _chunk(b"IDAT", zlib.compress(bytes(240 * 961))), _END
    middle = len(data) // 2
    return {
        "png_cut_in_ihdr": data[:20],
        "png_cut_after_ihdr": data[:33],
        "png_cut_before_last_byte_of_pixels": data[: data.rindex(b"IEND") - 4 - 5],
        "png_ihdr_bad_crc": data[:29] + bytes(4) + data[33:],
        "png_ihdr_bad_colour_type": _MAGIC + _chunk(b"IHDR", _ihdr(320, 240, colour=5)) + pixels + end,
        "png_ihdr_bad_depth": _MAGIC + _chunk(b"IHDR", _ihdr(320, 240, depth=3)) + pixels + end,
        "png_ihdr_zero_width": _MAGIC + _chunk(b"IHDR", _ihdr(0, 240)) + pixels + end,
        "png_ihdr_short": _MAGIC + _chunk(b"IHDR", b"\x00" * 5) + pixels + end,
        "png_ihdr_not_first": _MAGIC + pixels + head + end,
        "png_no_idat": _MAGIC + head + end,
        "png_idat_empty": _MAGIC + head + _chunk(b"IDAT", b"") + end,
        "png_idat_half": _MAGIC + head + _chunk(b"IDAT", zlib.compress(bytes(120 * 961))) + end,
        "png_idat_bad_crc": data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :],
    }


def _broken_jpeg() -> dict[str, bytes]:
    data = _with_thumbnail(whole()["jpeg"])
    scan = data.rindex(b"\xff\xda")
    return {
        "jpeg_cut_thumbnail_whole": data[: (scan + len(data)) // 2],
        "jpeg_cut_before_scan_thumbnail_whole": data[:scan],
        "jpeg_no_scan": data[:scan] + b"\xff\xd9",
        "jpeg_zero_width": _jpeg_claiming(0, 240),
        "jpeg_jumped_over": jumped_over(),
    }


def jumped_over() -> bytes:
    """Return a JPEG whose picture of 320 x 240 lies where a reader that takes FF00 for a segment jumps to one of 8 x 8.

    A decoder skips the two bytes and finds the large one.
    """
    large, small = whole()["jpeg"][2:-2], _encode(_noise().resize((8, 8)), "JPEG")[2:]
    return b"\xff\xd8\xff\x00" + struct.pack(">H", len(large) + 2) + large + small


def _bombs() -> dict[str, bytes]:
    """Small files that claim, or really hold, more pixels than a worker can keep."""
    bombs = {}
    for side in (20_000, 65_500):
        bombs[f"bomb_png_{side}"] = _png_claiming(side, side)
        bombs[f"bomb_jpeg_{side}"] = _jpeg_claiming(side, side)
        bombs[f"bomb_jpeg_progressive_{side}"] = _jpeg_claiming(side, side, progressive=True)
        bombs[f"bomb_bmp_{side}"] = _bmp_claiming(side, side)
        bombs[f"bomb_bmp_top_down_{side}"] = _bmp_claiming(side, -side)
    bombs |= {f"bomb_jpeg_scans_{way}": data for way, data in _many_scans().items()}
    bombs |= {f"bomb_webp_{kind}_16383": _webp_claiming(kind, 16_383, 16_383) for kind in ("vp8", "vp8l", "vp8x")}
    bombs["bomb_png_int_max"] = _png_claiming(2**31 - 1, 2**31 - 1)
    bombs["bomb_png_1bit_real"] = _real_bomb(20_000)
    bombs["bomb_bmp_rle_real"] = _bmp_of_nothing(20_000, 20_000)
    bombs["bomb_jpeg_behind_thumbnail"] = _with_thumbnail(_jpeg_claiming(20_000, 20_000))
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


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


_END = _chunk(b"IEND", b"")


def _ihdr(width: int, height: int, *, depth: int = 8, colour: int = 2) -> bytes:
    return struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)


def _png_claiming(width: int, height: int) -> bytes:
    return _MAGIC + _chunk(b"IHDR", _ihdr(width, height)) + _chunk(b"IDAT", zlib.compress(bytes(1000))) + _END


def _real_bomb(side: int) -> bytes:
    """Return a whole black 1-bit PNG: 50 KB on the wire, 1.2 GB as BGR."""
    rows = zlib.compress(bytes((side // 8 + 1) * side))
    return _MAGIC + _chunk(b"IHDR", _ihdr(side, side, depth=1, colour=0)) + _chunk(b"IDAT", rows) + _END


def _jpeg_claiming(width: int, height: int, *, progressive: bool = False) -> bytes:
    data = bytearray(whole()["jpeg_progressive" if progressive else "jpeg"])
    frame = data.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def _bmp_claiming(width: int, height: int) -> bytes:
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


# -------------------------------------------------------------------------------------------------------- helpers


def _open(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        upright = picture.convert("RGB")
    upright.info.clear()  # a colour profile of RGB does not belong into the grey pictures made from this one
    return upright


def _as_it_is(path: Path) -> Photo:
    data = path.read_bytes()
    return data, _size(data)


def _size(data: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(data)) as picture:
        return picture.size


def _encode(picture: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def _with_thumbnail(jpeg: bytes) -> bytes:
    """Return ``jpeg`` with an EXIF block that holds a whole small JPEG of its own."""
    thumbnail = _encode(_noise().resize((80, 60)), "JPEG")
    first, second = 8, 8 + 2 + 12 + 4
    start = second + 2 + 3 * 12 + 4
    tiff = struct.pack("<2sHI", b"II", 42, first)
    tiff += struct.pack("<HHHIII", 1, _ORIENTATION, 3, 1, 1, second)
    tiff += struct.pack("<H", 3)
    tiff += struct.pack("<HHII", 0x0103, 3, 1, 6)  # compressed as JPEG
    tiff += struct.pack("<HHII", 0x0201, 4, 1, start) + struct.pack("<HHII", 0x0202, 4, 1, len(thumbnail))
    tiff += struct.pack("<I", 0) + thumbnail
    block = b"Exif\x00\x00" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]
