"""Every kind of picture comes out upright, whole and in BGR; whatever else is sent costs nothing and says why."""

import hashlib
import io
import json
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from producer.errors import FleetError, ImageTooLarge, InvalidImage
from tests import bad_files, reference
from tests.unit.worker.conftest import LIMITS
from worker import decode

ROOT = Path(decode.__file__).parents[1]

#: Good pictures in which every pixel survives, and how Pillow's pixels become what is expected.
LOSSLESS = {
    **dict.fromkeys(["astronaut", "webp_lossless", "bmp", "bmp_palette", "bmp_grey", "exif_6_png"], "RGB"),
    **dict.fromkeys(["png_grey", "png_palette", "png_1bit", "png_1x1", "portrait_grace_hopper"], "RGB"),
    **dict.fromkeys(["png_alpha", "png_grey_alpha", "png_palette_clear"], "RGBA"),
}

EXIF = [*(f"exif_{orientation}" for orientation in range(1, 9)), "exif_6_webp"]


@pytest.fixture(scope="session")
def hostile() -> dict[str, bad_files.Hostile]:
    """Every file that must be refused."""
    return bad_files.hostile() | _two_headed()


def _two_headed() -> dict[str, bad_files.Hostile]:
    """Make files with two headers, one modest and one huge: whichever a parser believes, nothing large may happen."""
    jpeg = bad_files.whole()["jpeg"]
    at = jpeg.index(b"\xff\xc0")
    end = at + 2 + struct.unpack(">H", jpeg[at + 2 : at + 4])[0]
    small, huge = (jpeg[at : at + 5] + struct.pack(">HH", side, side) + jpeg[at + 9 : end] for side in (16, 60_000))
    heads = [bad_files.chunk(b"IHDR", bad_files.ihdr(side, side)) for side in (16, 7_000)]
    png = bad_files.whole()["png"]
    return {
        "jpeg_small_then_huge": (jpeg[:at] + small + huge + jpeg[end:], bad_files.TOO_LARGE),
        "jpeg_huge_then_small": (jpeg[:at] + huge + small + jpeg[end:], bad_files.INVALID),
        "png_small_then_huge": (png[:8] + heads[0] + heads[1] + png[33:], bad_files.INVALID),
        "png_huge_then_small": (png[:8] + heads[1] + heads[0] + png[33:], bad_files.INVALID),
    }


def encoded(picture: Image.Image, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form)
    return buffer.getvalue()


# ------------------------------------------------------------------------------------------------ good pictures


def test_every_good_picture_has_the_size_a_person_sees(pictures):
    """Forty kinds of file: every depth, palette, alpha, orientation, progressive, with thumbnails and clips behind."""
    sizes = {}
    for name, (data, _) in pictures.items():
        pixels = decode.decode(data, LIMITS)
        assert (pixels.dtype, pixels.ndim, pixels.shape[2]) == (np.uint8, 3, 3), name
        sizes[name] = (pixels.shape[1], pixels.shape[0])

    assert sizes == {name: size for name, (_, size) in pictures.items()}


@pytest.mark.parametrize("name", LOSSLESS)
def test_a_lossless_picture_keeps_every_pixel(pictures, name):
    """In BGR; alpha is dropped, not blended."""
    data = pictures[name][0]
    with Image.open(io.BytesIO(data)) as picture:
        wanted = np.asarray(ImageOps.exif_transpose(picture).convert(LOSSLESS[name]))[..., 2::-1]

    assert np.array_equal(decode.decode(data, LIMITS), wanted)


@pytest.mark.parametrize(("name", "channels"), [("png_16bit", (0, 1, 2)), ("png_16bit_grey", (1, 1, 1))])
def test_sixteen_bits_become_the_upper_eight(pictures, decoded, name, channels):
    """The 16-bit files hold the astronaut's 8 bits twice."""
    assert np.array_equal(decode.decode(pictures[name][0], LIMITS), decoded("astronaut")[..., channels])


@pytest.mark.parametrize("name", EXIF)
def test_a_picture_taken_with_the_camera_turned_comes_out_upright(decoded, name):
    """Orientations 1 to 8, in JPEG and WebP: the eyes are where they are in the upright photo."""
    off = np.abs(decoded(name).astype(int) - decoded("grace_hopper")).mean()

    assert off < 4


@pytest.mark.parametrize("name", ["jpeg_progressive", "jpeg_restarts", "jpeg_cmyk", "jpeg_mpo", "webp", "webp_alpha"])
def test_a_lossy_picture_looks_like_the_photo(decoded, name):
    """Colours in the right order, first picture of several."""
    off = np.abs(decoded(name).astype(int) - decoded("astronaut")).mean()

    assert off < 8


@pytest.mark.parametrize("filler", [b"\xff", b"\xff\xe1\x00\x08Exif\x00\x00"], ids=["fill bytes", "empty profiles"])
def test_a_jpeg_with_millions_of_segments_before_the_picture_takes_no_time(filler):
    """Given 30 MB between a picture's first bytes and its header, then it is refused at once, not after 8 s of CPU."""
    whole = bad_files.whole()["jpeg_progressive"]
    data = whole[:2] + filler * (30_000_000 // len(filler)) + whole[2:]
    began = time.process_time()
    with pytest.raises(InvalidImage):
        decode.decode(data, LIMITS)
    assert time.process_time() - began < 2


def test_scans_as_programs_write_them_are_read(pictures):
    """A progressive picture with a second one behind it, each with all its scans, and one with a hundred comments."""
    jpeg = bad_files.whole()["jpeg_progressive"]
    commented = jpeg[:2] + b"\xff\xfe\x00\x04\xff\xda" * 100 + jpeg[2:]
    behind = jpeg + pictures["jpeg_progressive"][0] + b"\xff\xda" * 500

    assert [decode.decode(data, LIMITS).shape for data in (commented, behind)] == [(240, 320, 3)] * 2


def test_a_picture_where_a_header_s_reader_would_jump_over_it_is_not_let_in():
    """OpenCV finds the large picture there, so a limit that goes by the small one's header would be none."""
    data = bad_files.jumped_over()
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert found.shape == (240, 320, 3)
    with pytest.raises(InvalidImage, match="header is damaged"):
        decode.decode(data, LIMITS)


def test_threads_that_decode_at_once_do_not_disturb_each_other(pictures):
    """OpenCV, Pillow and their first use in a process are shared by all decode threads."""
    names = [name for name in pictures if name != "huge"]

    def digest(name):
        return hashlib.sha256(decode.decode(pictures[name][0], LIMITS).tobytes()).digest()

    alone = [digest(name) for name in names]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(digest, names * 3)) == alone * 3


# ------------------------------------------------------------------------------------------------ hostile files


def test_every_hostile_file_is_refused_with_its_code_and_a_sentence(hostile):
    """Not pictures, other formats, cut short, damaged, bombs, two-headed."""
    codes = {}
    for name, (data, _) in hostile.items():
        with pytest.raises(FleetError) as caught:
            decode.decode(data, LIMITS)
        codes[name] = caught.value.code
        assert caught.value.message.endswith("."), name
        assert "\n" not in caught.value.message, name

    assert codes == {name: code for name, (_, code) in hostile.items()}
    assert len(codes) > 70


def test_no_hostile_file_costs_memory_or_time(hostile, tmp_path):
    """Up to 4 billion pixels are claimed, some are really there: under 50 MB and 0.1 s of CPU each."""
    for name, (data, _) in hostile.items():
        (tmp_path / name).write_bytes(data)

    command = [sys.executable, "-c", _MEASURE, str(tmp_path), str(LIMITS.max_bytes), str(LIMITS.max_pixels)]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert child.returncode == 0, child.stderr
    costs = json.loads(child.stdout)
    assert costs.keys() == hostile.keys()
    assert max(mb for mb, _ in costs.values()) < 50, costs
    assert max(seconds for _, seconds in costs.values()) < 0.1, costs


#: The peak of a process's memory never falls, so what each file adds to it is what it took beyond all before it.
_MEASURE = """
import json, pathlib, resource, sys, time
from producer.errors import FleetError
from worker import decode

folder, limits = pathlib.Path(sys.argv[1]), decode.Limits(int(sys.argv[2]), int(sys.argv[3]))
files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}

def cost(data):
    peak, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    try:
        decode.decode(data, limits)
    except FleetError:
        pass
    else:
        raise SystemExit("accepted")
    spent = time.process_time() - began
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024, spent

print(json.dumps({name: cost(data) for name, data in files.items()}))
"""


def test_a_limit_is_the_largest_that_is_accepted(pictures):
    """Bytes and pixels, on both sides of the limit."""
    data, (width, height) = pictures["astronaut"]
    pixels = width * height

    assert decode.decode(data, decode.Limits(len(data), pixels)).shape == (height, width, 3)
    with pytest.raises(ImageTooLarge, match=f"has {len(data):,} bytes; at most {len(data) - 1:,} are accepted"):
        decode.decode(data, decode.Limits(len(data) - 1, pixels))
    with pytest.raises(ImageTooLarge, match=f"is 512 x 512 pixels; at most {pixels - 1:,} pixels"):
        decode.decode(data, decode.Limits(len(data), pixels - 1))


def test_a_strip_longer_than_any_photo_is_refused():
    """Few pixels, but a side that OpenCV could not resize."""
    assert decode.decode(encoded(Image.new("L", (decode.MAX_SIDE, 1))), LIMITS).shape == (1, decode.MAX_SIDE, 3)
    for size in ((decode.MAX_SIDE + 1, 1), (1, decode.MAX_SIDE + 1)):
        with pytest.raises(ImageTooLarge, match="30,000 a side"):
            decode.decode(encoded(Image.new("L", size)), LIMITS)


def test_an_empty_file_is_told_as_such():
    """The most common accident has its own sentence."""
    with pytest.raises(InvalidImage, match=r"empty \(0 bytes\)"):
        decode.decode(b"", LIMITS)


# --------------------------------------------------------------------------------------------------- letterbox

sides = st.integers(1, 3000)
inputs = st.tuples(st.integers(32, 640), st.integers(32, 640))


@settings(deadline=None)
@given(width=sides, height=sides, size=inputs)
@example(width=1, height=1, size=(480, 640))
@example(width=40, height=2000, size=(480, 640))
@example(width=2000, height=40, size=(128, 128))
@example(width=decode.MAX_SIDE, height=1, size=(480, 640))
@example(width=640, height=480, size=(480, 640))
def test_a_letterboxed_image_s_corners_map_back_to_the_original_s(width, height, size):
    """And it lies inside of the input, as large as it can be, centred, its proportions kept to the pixel."""
    canvas, frame = decode.letterbox(np.full((height, width, 3), 255, np.uint8), size)

    rows, columns = size
    assert (canvas.shape, canvas.dtype, canvas.flags.c_contiguous) == ((1, rows, columns, 3), np.uint8, True)
    assert (frame.width, frame.height) == (width, height)
    ys, xs = np.nonzero(canvas[0, :, :, 0])
    left, top, right, bottom = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
    assert (canvas[0, top:bottom, left:right] == 255).all()
    assert len(xs) == (right - left) * (bottom - top)
    assert abs(left - (columns - right)) <= 1
    assert abs(top - (rows - bottom)) <= 1
    assert (right - left, bottom - top) >= (1, 1)
    assert right - left == columns or bottom - top == rows
    scale = min(columns / width, rows / height)
    assert abs(right - left - max(1, width * scale)) <= 0.5
    assert abs(bottom - top - max(1, height * scale)) <= 0.5
    corners = frame.to_original(np.array([[left, top], [right, bottom]], np.float32))
    assert corners == pytest.approx(np.array([[0, 0], [width, height]]), rel=1e-5, abs=1e-3)


@pytest.mark.parametrize("name", ["astronaut", "crowd", "thin", "wide", "png_1x1", "portrait_astronaut"])
def test_letterboxed_pixels_are_those_of_the_reference(decoded, name):
    """Same interpolation, same place: the networks see what the reference lets them see."""
    canvas, _ = decode.letterbox(decoded(name), (480, 640))

    assert np.array_equal(canvas[0], reference.letterbox(decoded(name), (480, 640))[0])


def test_an_image_of_the_input_s_size_is_not_touched(decoded):
    """Nothing is interpolated where nothing has to be."""
    canvas, frame = decode.letterbox(decoded("astronaut"), (512, 512))

    assert np.array_equal(canvas[0], decoded("astronaut"))
    assert (frame.scale_x, frame.scale_y, frame.pad_x, frame.pad_y) == (1, 1, 0, 0)
