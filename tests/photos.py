"""Pictures of every kind that the worker must read; :mod:`tests.bad_files` has those that it must refuse.

They are made from the sample photos of :mod:`worker.assets`, and are the same for one version of the libraries.
"""

import io
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

#: Encoded bytes and the (width, height) of the picture as a person sees it.
Photo = tuple[bytes, tuple[int, int]]

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
        "crowd": encode(crowd(folder), "JPEG", quality=92),
        "portrait_astronaut": encode(astronaut.crop((80, 0, 380, 500)), "JPEG", quality=90),
        "portrait_grace_hopper": encode(grace.crop((100, 0, 437, 600)), "PNG"),
        "thin": encode(china.resize((40, 2000)), "JPEG"),
        "wide": encode(china.resize((2000, 40)), "JPEG"),
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
        "png_grey": encode(grey, "PNG"),
        "png_alpha": encode(clear, "PNG"),
        "png_grey_alpha": encode(grey_clear, "PNG"),
        "png_palette": encode(palette, "PNG"),
        "png_palette_clear": encode(palette, "PNG", transparency=0),
        "png_1bit": encode(photo.convert("1"), "PNG"),
        "png_16bit": cv2.imencode(".png", deep)[1].tobytes(),
        "png_16bit_grey": cv2.imencode(".png", deep[..., 1])[1].tobytes(),
        "png_1x1": encode(Image.new("RGB", (1, 1), (200, 150, 100)), "PNG"),
    }


def _jpeg(photo: Image.Image) -> dict[str, bytes]:
    plain = encode(photo, "JPEG", quality=90)
    return {
        "jpeg_grey": encode(photo.convert("L"), "JPEG", quality=90),
        "jpeg_progressive": encode(photo, "JPEG", quality=90, progressive=True),
        "jpeg_cmyk": encode(photo.convert("CMYK"), "JPEG", quality=90),
        "jpeg_restarts": encode(photo, "JPEG", quality=90, restart_marker_blocks=7),
        "jpeg_thumbnail": with_thumbnail(plain),
        "jpeg_then_video": plain + b"\x00\x00\x00\x18ftypmp42" * 40,  # phones append a clip to a "live" photo
        "jpeg_mpo": encode(photo, "MPO", save_all=True, append_images=[photo.resize((64, 64))]),
    }


def _webp_and_bmp(photo: Image.Image) -> dict[str, bytes]:
    clear = photo.copy()
    clear.putalpha(photo.convert("L"))
    return {
        "webp": encode(photo, "WEBP", quality=90),
        "webp_alpha": encode(clear, "WEBP", quality=90),
        "webp_lossless": encode(photo, "WEBP", lossless=True),
        "bmp": encode(photo, "BMP"),
        "bmp_palette": encode(photo.quantize(256), "BMP"),
        "bmp_grey": encode(photo.convert("L"), "BMP"),
    }


def _exif(upright: Image.Image) -> dict[str, bytes]:
    others = {f"exif_6_{form.lower()}": _stored_as(upright, 6, form) for form in ("PNG", "WEBP")}
    return turned(upright) | others


def turned(upright: Image.Image) -> dict[str, bytes]:
    return {f"exif_{orientation}": _stored_as(upright, orientation, "JPEG") for orientation in _STORED_AS}


def _stored_as(upright: Image.Image, orientation: int, form: str) -> bytes:
    how = _STORED_AS[orientation]
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    return encode(upright if how is None else upright.transpose(how), form, exif=exif, quality=92)


def _huge(photo: Image.Image) -> bytes:
    """Return a JPEG of 24 million pixels, larger than most cameras give."""
    return encode(photo.crop((0, 0, 510, 340)).resize((6000, 4000), Image.Resampling.BILINEAR), "JPEG", quality=85)


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


def noise() -> Image.Image:
    ys, xs = np.mgrid[0:240, 0:320]
    smooth = np.stack([xs * 255 / 319, ys * 255 / 239, (xs + ys) * 255 / 558], axis=-1)
    grain = np.random.default_rng(7).normal(0, 12, smooth.shape)
    return Image.fromarray(np.uint8(np.clip(smooth + grain, 0, 255)))


def encode(picture: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def with_thumbnail(jpeg: bytes) -> bytes:
    """Return ``jpeg`` with an EXIF block that holds a whole small JPEG of its own."""
    thumbnail = encode(noise().resize((80, 60)), "JPEG")
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
