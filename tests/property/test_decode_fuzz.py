"""Whatever bytes arrive: pixels of the size that the header claims, or an error of the fleet; never anything else."""

import functools
import io

import numpy as np
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from producer.errors import BY_CODE, FleetError
from tests import bad_files
from worker import decode
from worker.decode import Limits

#: Small, so that a header that lies costs little.
LIMITS = Limits(max_bytes=1_000_000, max_pixels=1_000_000)

fuzz = settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])


@functools.cache
def good() -> dict[str, bytes]:
    """Make a small file of each kind: formats, depths, palette, alpha, turned, with a thumbnail."""
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 255, (18, 24, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds = {
        "png_palette": (noise.quantize(16), "PNG", {}),
        "png_alpha": (noise.convert("RGBA"), "PNG", {}),
        "png_grey": (noise.convert("L"), "PNG", {}),
        "png_bit": (noise.convert("1"), "PNG", {}),
        "jpeg": (noise, "JPEG", {"exif": exif}),
        "jpeg_grey": (noise.convert("L"), "JPEG", {"progressive": True}),
        "jpeg_cmyk": (noise.convert("CMYK"), "JPEG", {}),
        "webp": (noise, "WEBP", {"exif": exif}),
        "webp_alpha": (noise.convert("RGBA"), "WEBP", {"lossless": True}),
        "bmp": (noise, "BMP", {}),
        "bmp_palette": (noise.quantize(16), "BMP", {}),
    }
    files = dict(bad_files.whole())
    for name, (picture, form, options) in kinds.items():
        buffer = io.BytesIO()
        picture.save(buffer, form, **options)
        files[f"small_{name}"] = buffer.getvalue()
    return files


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Take a good file and change, cut, double, insert or exchange parts of it; most often near its start."""
    data = draw(st.sampled_from(sorted(good())).map(good().__getitem__))
    for _ in range(draw(st.integers(1, 4))):
        near = draw(st.sampled_from([40, 700, len(data) + 1]))
        at = draw(st.integers(0, max(0, min(near, len(data)) - 1)))
        how = draw(st.sampled_from(["set", "flip", "insert", "remove", "cut", "double", "splice"]))
        length = draw(st.integers(1, 16))
        if how == "set":
            new = draw(st.binary(min_size=1, max_size=8))
            data = data[:at] + new + data[at + len(new) :]
        elif how == "flip":
            data = data[:at] + bytes([data[at] ^ (1 << draw(st.integers(0, 7)))]) + data[at + 1 :] if data else data
        elif how == "insert":
            data = data[:at] + draw(st.binary(min_size=1, max_size=16)) + data[at:]
        elif how == "remove":
            data = data[:at] + data[at + length :]
        elif how == "cut":
            data = data[:at]
        elif how == "double":
            data = data[: at + length] + data[at:]
        else:
            other = draw(st.sampled_from(sorted(good())).map(good().__getitem__))
            data = data[:at] + other[draw(st.integers(0, len(other) - 1)) :]
    return data


def decoded(data: bytes) -> decode.Pixels | FleetError:
    """Decode, and give whatever comes of it."""
    try:
        return decode.decode(data, LIMITS)
    except FleetError as error:
        return error


def check(data: bytes) -> None:
    """Decode, and look at whatever comes."""
    found = decoded(data)
    if isinstance(found, FleetError):
        event(found.code)
        assert BY_CODE[found.code] is type(found)
        assert found.message.endswith(".")
        assert len(found.message) < 300
    else:
        width, height = decode.size_of(data, LIMITS)
        assert (found.dtype, found.shape[2]) == (np.uint8, 3)
        assert sorted(found.shape[:2]) == sorted((height, width))
        assert found.shape[0] * found.shape[1] <= LIMITS.max_pixels


@fuzz
@given(data=st.binary(max_size=300))
@example(data=b"")
@example(data=b"\x00fleet:cancelled")
def test_arbitrary_bytes_are_decoded_or_refused(data):
    """Noise, mostly."""
    check(data)


@fuzz
@given(
    start=st.sampled_from(
        [b"\xff\xd8\xff\xe0", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x50\x00\x00\x00WEBPVP8", b"BM"]
    ),
    data=st.binary(max_size=300),
)
def test_arbitrary_bytes_behind_a_format_s_first_bytes_are_decoded_or_refused(start, data):
    """Noise that a decoder takes for its own."""
    check(start + data)


@fuzz
@given(data=mutated())
def test_damaged_files_are_decoded_or_refused(data):
    """What disks, networks and people who mean harm make of good files."""
    check(data)


@fuzz
@given(name=st.sampled_from(sorted(good())), part=st.floats(0, 0.999))
def test_files_cut_anywhere_are_refused_unless_only_trailing_bytes_are_missing(name, part):
    """A grey lower half is never taken for a picture: what is accepted has the whole file's pixels."""
    data = good()[name]
    found = decoded(data[: int(len(data) * part)])

    assert isinstance(found, FleetError) or np.array_equal(found, decode.decode(data, LIMITS))
