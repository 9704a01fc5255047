"""The reference finds the faces that a person sees, where a person sees them."""

import os
from pathlib import Path

import cv2
import numpy as np
import platformdirs
import pytest

from tests import photos
from tests.reference import blazeface_reference, centerface_reference, iou, letterbox, match
from worker.assets import ASSETS, fetch_all

ASTRONAUT = [182, 58, 270, 178]
GRACE_HOPPER = [174, 128, 358, 334]


@pytest.fixture(scope="session")
def files() -> dict[str, Path]:
    """Every asset, kept from one run of the tests to the next."""
    kept = os.environ.get("FLEET_TEST_ASSETS")
    return fetch_all(ASSETS, Path(kept) if kept else platformdirs.user_cache_path("detection-fleet") / "assets")


def read(path: Path) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)


@pytest.mark.parametrize(
    ("shape", "size", "inside", "scale"),
    [
        ((480, 640), (480, 640), (0, 0, 640, 480), 1.0),
        ((427, 640), (480, 640), (0, 26, 640, 427), 1.0),
        ((600, 512), (480, 640), (115, 0, 410, 480), 0.8),
        ((853, 1280), (480, 640), (0, 27, 640, 426), 0.5),
        ((10, 10), (128, 256), (64, 0, 128, 128), 12.8),
        ((2000, 1), (128, 128), (63, 0, 1, 128), 0.064),
    ],
)
def test_a_letterbox_is_centred_black_and_keeps_proportions(shape, size, inside, scale):
    left, top, width, height = inside

    canvas, scaled, pad_x, pad_y = letterbox(np.full((*shape, 3), 200, np.uint8), size)

    filled = np.zeros((*size, 3), np.uint8)
    filled[top : top + height, left : left + width] = 200
    assert (scaled, pad_x, pad_y) == (pytest.approx(scale), left, top)
    assert np.array_equal(canvas, filled)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([0, 0, 2, 2], [0, 0, 2, 2], 1),
        ([0, 0, 2, 2], [1, 0, 3, 2], 1 / 3),
        ([0, 0, 2, 2], [2, 0, 4, 2], 0),
        ([0, 0, 2, 2], [5, 5, 6, 6], 0),
        ([1, 1, 1, 1], [1, 1, 1, 1], 0),
    ],
)
def test_overlap_is_shared_area_over_joint_area(a, b, expected):
    assert iou(a, b) == pytest.approx(expected)


def test_match_pairs_boxes_in_any_order():
    boxes = [[0, 0, 10, 10], [20, 20, 30, 30]]

    assert match(boxes, [{"box": boxes[1]}, {"box": boxes[0]}], 0.99) == [1, 0]
    assert match([], [], 0.99) == []


@pytest.mark.parametrize(
    ("got", "told"),
    [
        ([], r"expected 1 boxes, got 0.*\[0\.0, 0\.0, 10\.0, 10\.0\]  missing"),
        ([[0, 0, 10, 8]], r"IoU 0\.8000  !"),
        ([[0, 0, 10, 10], [5, 5, 6, 6]], r"unexpected .*\[5\.0, 5\.0, 6\.0, 6\.0\]"),
    ],
)
def test_match_says_which_box_differs(got, told):
    with pytest.raises(AssertionError, match=f"(?s){told}"):
        match([[0, 0, 10, 10]], got, 0.9)


@pytest.mark.parametrize(("photo", "box"), [("astronaut", ASTRONAUT), ("grace_hopper", GRACE_HOPPER)])
@pytest.mark.parametrize("model", ["centerface", "blazeface_short", "blazeface_back", "blazeface_full"])
def test_every_network_finds_the_one_face(files, model, photo, box):
    picture = read(files[photo])

    if model == "centerface":
        faces = centerface_reference(picture, files[model])
    else:
        faces = blazeface_reference(picture, files[model], model.removeprefix("blazeface_"))

    match([box], faces, 0.6)
    assert 0.7 < faces[0]["score"] <= 1
    left_eye, right_eye, nose = faces[0]["keypoints"][:3]
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_eye[1] < nose[1] > right_eye[1]
    assert all(box[0] < x < box[2] and box[1] < y < box[3] for x, y in (left_eye, right_eye, nose))


def test_centerface_at_the_photo_s_own_size_agrees_with_the_published_figures(files):
    faces = centerface_reference(read(files["astronaut"]), files["centerface"], (512, 512), precision="f32")

    assert faces[0]["score"] == pytest.approx(0.93, abs=0.01)
    assert faces[0]["box"] == pytest.approx(ASTRONAUT, abs=1)


@pytest.mark.parametrize("photo", ["china", "flower"])
def test_centerface_finds_no_face_where_there_is_none(files, photo):
    assert centerface_reference(read(files[photo]), files["centerface"]) == []


def test_centerface_finds_all_17_of_a_crowd_best_first(files):
    picture = np.asarray(photos.crowd(files["astronaut"].parent))[..., ::-1]

    faces = centerface_reference(picture, files["centerface"])

    assert len(faces) == photos.CROWD
    scores = [face["score"] for face in faces]
    assert scores == sorted(scores, reverse=True)


def test_a_face_at_the_edge_gives_a_box_inside_the_picture(files):
    picture = read(files["grace_hopper"])[:, 220:]

    (face,) = centerface_reference(picture, files["centerface"], threshold=0.3)

    x1, y1, x2, y2 = face["box"]
    assert 0 <= x1 < x2 <= picture.shape[1]
    assert 0 <= y1 < y2 <= picture.shape[0]
