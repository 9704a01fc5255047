"""Mean average precision: known cases, and an independent reckoning of any."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reference import iou
from worker.accuracy import agreement, mean_average_precision


def rows(*found: tuple[float, ...]) -> np.ndarray:
    """Give rows of (label, score, x1, y1, x2, y2)."""
    return np.array(found, np.float32).reshape(-1, 6)


CAT, DOG = (0, 1, 0, 0, 100, 100), (1, 1, 200, 0, 300, 100)


def test_the_same_boxes_agree_wholly():
    """Given what is to be found, in two pictures, then it is 1 at every overlap."""
    same = [rows(CAT, DOG), rows(DOG)]

    told = agreement(same, same)

    assert (told.at_50, told.at_50_95, told.boxes) == (1, 1, 3)


def test_nothing_found_is_nothing():
    """Given a network that is blind, then it is 0."""
    assert agreement([rows(CAT)], [rows()]).at_50_95 == 0


def test_nothing_to_be_found_is_refused():
    """Given a truth without boxes, then there is no figure."""
    with pytest.raises(ValueError, match="no box"):
        agreement([rows(), rows()], [rows(CAT), rows()])


def test_seven_of_ten_boxes_reach_a_recall_of_70_percent():
    """Given a recall that is a hair below the float of its hundredth, then it counts: 71 of 101."""
    boxes = [(0, 1, 100 * n, 0, 100 * n + 50, 50) for n in range(10)]
    assert mean_average_precision([rows(*boxes)], [rows(*boxes[:7])], 0.5) == pytest.approx(71 / 101)


def test_half_of_the_boxes_are_half_of_the_recalls():
    """Given one of two boxes found, then precision is 1 up to a recall of a half: 51 of 101."""
    other = (0, 1, 500, 0, 600, 100)

    assert mean_average_precision([rows(CAT, other)], [rows(CAT)], 0.5) == pytest.approx(51 / 101)


@pytest.mark.parametrize(("score", "expected"), [(0.9, 0.5), (0.1, 1.0)])
def test_a_box_too_many_costs_if_it_is_surer_than_the_true_one(score, expected):
    """Given a wrong box, then it halves precision when it comes first, and nothing when it comes last."""
    true, wrong = (0, 0.5, 0, 0, 100, 100), (0, score, 500, 500, 600, 600)

    assert mean_average_precision([rows(CAT)], [rows(true, wrong)], 0.5) == pytest.approx(expected)


def test_a_box_is_found_once():
    """Given the same box twice, before another true one, then the second is one too many."""
    found = rows((0, 0.9, 0, 0, 100, 100), (0, 0.8, 1, 0, 100, 100), (0, 0.7, 500, 0, 600, 100))

    told = mean_average_precision([rows(CAT, (0, 1, 500, 0, 600, 100))], [found], 0.5)

    assert told == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_a_box_that_lies_beside_counts_up_to_its_overlap():
    """Given a box with an IoU of 0.72, then it counts at 0.5, 0.55, ... 0.7, five of ten."""
    told = agreement([rows(CAT)], [rows((0, 0.9, 0, 0, 100, 72))])

    assert (told.at_50, told.at_50_95) == (1, pytest.approx(0.5))


def test_classes_count_alike():
    """Given a class found and another missed, then it is a half, however many boxes each has."""
    assert mean_average_precision([rows(CAT, DOG), rows(CAT)], [rows(CAT), rows(CAT)], 0.5) == 0.5


def reckoned(truth, found, overlap) -> float:
    """Work it out in plain steps: for each recall the best precision at or beyond it."""
    means = []
    for label in {row[0] for picture in truth for row in picture.tolist()}:
        ranked = sorted(
            ((row, picture) for picture, rows_ in enumerate(found) for row in rows_.tolist() if row[0] == label),
            key=lambda one: -one[0][1],
        )
        boxes = [[row[2:] for row in picture.tolist() if row[0] == label] for picture in truth]
        wanted, true, curve = sum(map(len, boxes)), 0, []
        for count, (row, picture) in enumerate(ranked, 1):
            near = max(boxes[picture], key=lambda box: iou(box, row[2:]), default=None)
            if near is not None and iou(near, row[2:]) >= overlap:
                boxes[picture].remove(near)
                true += 1
            curve.append((true / wanted, true / count))
        reached = [max((p for r, p in curve if r >= step / 100 - 1e-9), default=0.0) for step in range(101)]
        means.append(sum(reached) / 101)
    return sum(means) / len(means)


boxes = st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(1, 4), st.integers(1, 4)).map(
    lambda one: (one[0], one[1], one[0] + one[2], one[1] + one[3])
)
pictures = st.lists(
    st.lists(st.tuples(st.integers(0, 1), boxes), max_size=5).map(
        lambda found: rows(*[(label, 0.0, *box) for label, box in found])
    ),
    min_size=1,
    max_size=4,
)


@given(truth=pictures, found=pictures, seed=st.integers(0, 1000), overlap=st.sampled_from([0.37, 0.52, 0.71]))
def test_any_boxes_give_what_plain_steps_give(truth, found, seed, overlap):
    """Given any pictures with anything found in them, then the figure is that of the independent reckoning."""
    count = min(len(truth), len(found))
    truth, found = truth[:count], [one.copy() for one in found[:count]]
    scores = iter(np.random.default_rng(seed).permutation(sum(map(len, found))) / 100 + 0.05)
    for one in found:
        one[:, 1] = [next(scores) for _ in one]
    if not sum(map(len, truth)):
        return

    assert mean_average_precision(truth, found, overlap) == pytest.approx(reckoned(truth, found, overlap))
