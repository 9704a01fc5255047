"""A JPEG much larger than the input is decoded at a smaller scale; nobody could tell it from the boxes."""

import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from producer.wire import Detection, Options
from tests import photos
from tests.unit.worker.conftest import LIMITS, Load
from worker import decode, resize
from worker.memory import Room
from worker.network import Network
from worker.outcome import to_detections
from worker.resize import Fit

FULL = replace(LIMITS, jpeg_scale=False)
MEGAPIXELS = 12_000_000

#: Networks, how they shrink, and the least overlap with the whole picture's box on photos of one face. ``linear`` takes
#: single pixels of the whole picture, grain and all: leaving out its first row moves boxes as much.
NETWORKS = [
    ("centerface", "area", 0.95),
    ("blazeface_short", "area", 0.95),
    ("blazeface_back", "area", 0.95),
    ("blazeface_full", "area", 0.95),
    ("centerface", "linear", 0.9),
    ("blazeface_back", "linear", 0.9),
]


@pytest.fixture(scope="module")
def large(samples: Path) -> dict[str, bytes]:
    """Every photo with a face as a camera of 12 megapixels gives it: grain, odd sides, each orientation, each kind."""
    crowd, grace = photos.crowd(samples), Image.open(samples / "grace_hopper.jpg").convert("RGB")
    astronaut = Image.open(samples / "astronaut.png").convert("RGB")
    upright = {"crowd": crowd, "grace": grace, "astronaut": astronaut, "portrait": astronaut.crop((80, 0, 380, 500))}
    enlarged = {name: _enlarged(picture) for name, picture in upright.items()}
    found = {name: photos.encode(picture, "JPEG", quality=90) for name, picture in enlarged.items()}
    found["progressive"] = photos.encode(enlarged["grace"], "JPEG", quality=90, progressive=True)
    found["grey"] = photos.encode(enlarged["grace"].convert("L"), "JPEG", quality=90)
    return found | photos.turned(enlarged["grace"])


def _enlarged(picture: Image.Image) -> Image.Image:
    times = math.sqrt(MEGAPIXELS / (picture.width * picture.height))
    width, height = (round(side * times) // 8 * 8 + 3 for side in picture.size)
    pixels = np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    grain = (np.random.default_rng(3).standard_normal(pixels.shape, np.float32) * 4).astype(np.int16)
    return Image.fromarray(np.uint8(np.clip(pixels + grain, 0, 255)))


def _found(net: Network, how: Fit, data: bytes, limits: decode.Limits) -> tuple[Detection, ...]:
    tensor, frame = decode.to_input(data, limits, how, Room(LIMITS.max_pixels))
    rows = net.compiled.create_infer_request().infer({0: tensor})[0]
    return to_detections(rows, frame, net.spec, Options(min_score=0.5))


def _iou(one: Detection, two: Detection) -> float:
    a, b = one.box, two.box
    shared = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return shared / (sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)) - shared)


@pytest.mark.parametrize(("name", "shrinking", "least"), NETWORKS)
def test_boxes_are_those_of_the_whole_picture(
    load: Load, large: dict[str, bytes], name: str, shrinking: str, least: float
):
    """Given twelve megapixels, when a part of them is decoded, then as many faces are found, in the same places."""
    net = load(name)
    how = replace(net.spec.fit, shrinking=shrinking)
    for photo, data in large.items():
        if photo == "crowd" or (photo.startswith("exif") and photo != "exif_6"):
            continue  # the next tests': many faces, and every orientation
        whole, reduced = (_found(net, how, data, limits) for limits in (FULL, LIMITS))
        assert len(reduced) == len(whole) == 1, photo
        assert _iou(whole[0], reduced[0]) >= least, (photo, whole, reduced)


@pytest.mark.parametrize("name", ["centerface", "blazeface_back", "blazeface_full"])
def test_faces_of_a_crowd_are_the_same_ones(load: Load, large: dict[str, bytes], name: str):
    """Given many small faces, then each is found again; CenterFace, which chooses one of equal cells, moves a few."""
    net = load(name)
    whole, reduced = (_found(net, net.spec.fit, large["crowd"], limits) for limits in (FULL, LIMITS))

    assert len(reduced) == len(whole) >= 9
    overlaps = sorted(max(_iou(one, other) for other in reduced) for one in whole)
    assert overlaps[0] >= 0.8
    assert sum(overlap >= 0.95 for overlap in overlaps) >= len(whole) - 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_camera_changes_nothing(large: dict[str, bytes], orientation: int):
    """Given each orientation of EXIF, then the input is the whole picture's to a grain, and so are sizes and scales."""
    data = large[f"exif_{orientation}"]
    whole, reduced = (decode.to_input(data, limits, Fit((480, 640)), Room(1)) for limits in (FULL, LIMITS))

    assert np.abs(whole[0].astype(int) - reduced[0]).mean() < 1.5
    assert (reduced[1].width, reduced[1].height) == (whole[1].width, whole[1].height)
    assert reduced[1].scale_x == pytest.approx(whole[1].scale_x, rel=0.003)
    assert reduced[1].scale_y == pytest.approx(whole[1].scale_y, rel=0.003)


def test_every_other_format_is_decoded_whole(samples: Path, monkeypatch: pytest.MonkeyPatch):
    """Given a PNG, a WebP and a BMP that are as large, then none is decoded with a flag that divides."""
    flags = []
    decoder = decode.cv2.imdecode
    monkeypatch.setattr(decode.cv2, "imdecode", lambda data, flag: flags.append(flag) or decoder(data, flag))
    picture = Image.open(samples / "astronaut.png").convert("RGB").resize((2400, 2000))

    for form in ("PNG", "WEBP", "BMP", "JPEG"):
        decode.to_input(photos.encode(picture, form), LIMITS, Fit((128, 128)), Room(1))

    assert flags == [decode.cv2.IMREAD_COLOR] * 3 + [decode.cv2.IMREAD_REDUCED_COLOR_4]


def test_whoever_asks_for_the_picture_itself_gets_every_pixel(large: dict[str, bytes]):
    """Tiles are cut from the whole picture: ``decode`` never divides, however large it is."""
    assert decode.decode(large["crowd"], LIMITS).shape[:2] == Image.open(io.BytesIO(large["crowd"])).size[::-1]


FITS = st.builds(
    Fit,
    st.tuples(st.integers(1, 40).map(lambda n: n * 32), st.integers(1, 40).map(lambda n: n * 32)),
    st.sampled_from(resize.MODES),
)


@given(st.integers(1, 9000), st.integers(1, 9000), FITS)
def test_what_is_decoded_is_never_smaller_than_the_picture_in_the_input(width: int, height: int, how: Fit):
    """For every size, input and mode, upright or turned; and its sides tell whether it was turned."""
    by = resize.reduction(width, height, how)

    assert by in (1, *resize.REDUCTIONS)
    if by > 1:
        for sides in ((height, width), (width, height)):
            least = resize._scaled(sides, how)
            assert all(math.ceil(side / by) >= one for side, one in zip(sides, least, strict=True))
        assert (math.ceil(width / by) == math.ceil(height / by)) == (width == height)


@pytest.mark.parametrize(
    ("width", "height", "how", "by"),
    [
        (4000, 3000, Fit((480, 640)), 4),
        (3000, 4000, Fit((480, 640)), 4),
        (4000, 3000, Fit((128, 128)), 4),
        (4000, 3000, Fit((640, 640), "stretch"), 4),
        (4000, 3000, Fit((1600, 1600), "multiple"), 2),
        (2559, 1919, Fit((960, 1280)), 1),
        (2560, 1920, Fit((960, 1280)), 2),
        (1280, 960, Fit((480, 640)), 1),
        (1999, 1000, Fit((128, 128)), 1),
        (4000, 3999, Fit((128, 128)), 1),
        (4001, 3998, Fit((128, 128)), 4),
    ],
)
def test_the_scale_is_the_smallest_that_is_enough(width: int, height: int, how: Fit, by: int):
    """By the numbers: not where the picture is small, nor where its sides would become alike."""
    assert resize.reduction(width, height, how) == by
