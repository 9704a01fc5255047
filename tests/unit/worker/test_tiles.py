"""What the tiles of a picture saw becomes one list: each object once, whole, in its place."""

import numpy as np
import pytest

from producer.errors import InvalidRequest
from producer.wire import MAX_DETECTIONS, Tile
from worker.tiles import Window, merge, windows

#: Two tiles that share columns 80 to 100 of a picture of 180 x 100, and the whole.
LEFT, RIGHT, WHOLE = Window(0, 0, 100, 100), Window(80, 0, 180, 100), Window(0, 0, 180, 100)


def rows(*found: tuple[float, ...]) -> np.ndarray:
    """Give rows of (label, score, x1, y1, x2, y2)."""
    return np.array(found, np.float32).reshape(-1, 6)


def merged(left=(), right=(), whole=(), limit: float = 0.5, **how) -> list[list[float]]:
    """Merge what the three windows saw."""
    seen = [(LEFT, rows(*left)), (RIGHT, rows(*right)), (WHOLE, rows(*whole))]
    return np.round(merge(seen, WHOLE, limit=limit, **how).astype(float), 2).tolist()


def test_what_two_tiles_saw_whole_counts_once():
    """Given one object in the columns that both share, then the better of the two boxes stays."""
    assert merged([(0, 0.75, 82, 40, 92, 60)], [(0, 0.88, 82, 41, 92, 60)]) == [[0, 0.88, 82, 41, 92, 60]]


def test_two_objects_beside_each_other_stay_two():
    """Given boxes that touch and do not overlap, one from each tile, then both stay, the better first."""
    left, right = (0, 0.5, 60, 40, 89, 60), (0, 0.75, 90, 40, 120, 60)

    assert merged([left], [right]) == [list(right), list(left)]


def test_classes_do_not_meet_unless_the_model_says_so():
    """Given the same box of two classes, then both stay; for an agnostic model the better."""
    left, right = (0, 0.5, 82, 40, 92, 60), (1, 0.75, 82, 40, 92, 60)

    assert merged([left], [right]) == [list(right), list(left)]
    assert merged([left], [right], agnostic=True) == [list(right)]


def test_overlapping_boxes_of_one_tile_are_left_to_the_network():
    """Given two boxes of one tile on top of each other, then nobody but the network's own suppression decides."""
    found = [(0, 0.75, 20, 20, 60, 60), (0, 0.5, 21, 20, 60, 60)]

    assert merged(found) == [list(one) for one in found]


def test_a_part_at_an_edge_yields_to_the_whole_object():
    """Given an object that the right tile sees whole and the left one in part, then the part goes, although it is
    small beside the whole, and although its score is better.
    """
    assert merged([(0, 0.88, 84, 40, 100, 60)], [(0, 0.5, 84, 40, 140, 60)]) == [[0, 0.5, 84, 40, 140, 60]]


def test_a_guess_beyond_the_edge_yields_likewise():
    """Given a part whose box the network drew beyond what it saw, then it goes all the same."""
    assert merged([(0, 0.88, 84, 40, 130, 60)], [(0, 0.75, 84, 40, 160, 60)]) == [[0, 0.75, 84, 40, 160, 60]]


def test_something_else_at_the_edge_stays():
    """Given a part at the edge that disagrees with the object there in what both saw, then it is another object."""
    part, other = (0, 0.75, 84, 70, 100, 95), (0, 0.5, 84, 40, 140, 60)

    assert merged([part], [other]) == [list(part), list(other)]


def test_parts_of_which_none_is_whole_are_joined():
    """Given an object larger than the overlap, cut in both tiles, then one box goes around both parts."""
    left, right = (0, 0.5, 50, 40, 100, 60), (0, 0.75, 80, 41, 130, 60)

    assert merged([left], [right]) == [[0, 0.75, 50, 40, 130, 60]]


def test_a_part_between_two_others_joins_all():
    """Given an object across three tiles, whose middle has the least score, then it is one."""
    three = [Window(x, 0, x + 100, 100) for x in (0, 80, 160)]
    seen = [
        (three[0], rows((0, 0.75, 50, 40, 100, 60))),
        (three[1], rows((0, 0.5, 80, 40, 180, 60))),
        (three[2], rows((0, 0.625, 160, 40, 200, 60))),
    ]

    assert merge(seen, Window(0, 0, 260, 100), limit=0.5).tolist() == [[0, 0.75, 50, 40, 200, 60]]


def test_what_is_too_large_for_a_tile_is_taken_from_the_whole():
    """Given an object that fills both tiles and more, then its parts go for the whole picture's box."""
    parts = [(0, 0.88, 10, 5, 100, 95)], [(0, 0.88, 80, 5, 170, 95)]

    assert merged(*parts, [(0, 0.5, 10, 5, 170, 95)]) == [[0, 0.5, 10, 5, 170, 95]]


def test_a_box_at_the_picture_s_own_edge_is_not_a_part():
    """Given two boxes that end where the picture does, then they are whole, and their scores decide."""
    found = merged([(0, 0.75, 82, 0, 92, 20)], [(0, 0.88, 82, 0, 92, 21)])

    assert found == [[0, 0.88, 82, 0, 92, 21]]


def test_tiles_agree_less_than_two_boxes_of_one_picture_may_overlap():
    """Given a model of which boxes that overlap by 0.9 may be two objects, then two tiles' boxes are one from 0.5."""
    left, right = (0, 0.5, 82, 40, 92, 60), (0, 0.75, 82, 40, 92, 54)

    assert merged([left], [right], limit=0.9) == [list(right)]


def test_keypoints_go_with_their_box():
    """Given rows with keypoints, then those of the row that stands for the object stay as they are."""
    left = np.array([[0, 0.5, 50, 40, 100, 60, 60, 50]], np.float32)
    right = np.array([[0, 0.75, 80, 40, 130, 60, 120, 50]], np.float32)

    assert merge([(LEFT, left), (RIGHT, right)], WHOLE, limit=0.5).tolist() == [[0, 0.75, 50, 40, 130, 60, 120, 50]]


def test_however_many_rows_come_a_result_s_worth_leaves():
    """Given 300,000 rows of distinct objects, then the best thousand come back."""
    random = np.random.default_rng(1)
    spots = random.uniform(0, 20_000, (300_000, 2))
    found = np.concatenate([np.zeros((300_000, 1)), random.uniform(0, 1, (300_000, 1)), spots, spots + 8], 1)
    half = np.array_split(found.astype(np.float32), 2)
    whole = Window(0, 0, 20_008, 20_008)

    left = merge(
        [(Window(0, 0, 10_100, 20_008), half[0]), (Window(10_000, 0, 20_008, 20_008), half[1])], whole, limit=0.3
    )

    assert len(left) == MAX_DETECTIONS
    assert left[:, 1].min() > 0.99


def test_tiles_are_squares_and_by_default_of_the_network_s_size():
    """Given a network of 640 x 480, then so are the tiles where no size is asked for; else they are squares."""
    first, *_ = windows(2000, 2000, Tile(), (480, 640))
    square, *_ = windows(2000, 2000, Tile(320), (480, 640))

    assert (first.x2, first.y2) == (640, 480)
    assert (square.x2, square.y2) == (320, 320)


def test_too_many_tiles_are_refused_with_their_number():
    """Given 64 megapixels in tiles of 64, then the caller hears how many that were, and what to do."""
    with pytest.raises(InvalidRequest, match=r"8000 x 8000 pixels gives 24,649 tiles of 64 x 64; at most 512.* larger"):
        windows(8000, 8000, Tile(64), (480, 640))
