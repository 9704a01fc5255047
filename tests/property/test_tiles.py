"""Wherever a picture is cut: every pixel is in a tile, neighbours overlap as asked, and there are never too many."""

import itertools
import math

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from producer.errors import InvalidRequest
from producer.wire import MAX_TILES, Tile
from worker.tiles import Window, merge, windows

tiles = st.builds(Tile, st.none() | st.integers(32, 2000), st.floats(0, 0.5))
sides = st.integers(1, 6000)
inputs = st.tuples(st.integers(1, 1300), st.integers(1, 1300))


def cut(width: int, height: int, tile: Tile, input_size: tuple[int, int]) -> list[Window]:
    """Return the tiles without the look at the whole; the whole alone where one tile suffices, none if refused."""
    try:
        places = windows(width, height, tile, input_size)
    except InvalidRequest:
        return []
    return places[:-1] if len(places) > 1 else places


def side_of(tile: Tile, input_size: tuple[int, int]) -> tuple[int, int]:
    """Return width and height of a whole tile."""
    return (input_size[1], input_size[0]) if tile.size is None else (tile.size, tile.size)


@given(width=sides, height=sides, tile=tiles, input_size=inputs)
@example(width=6000, height=6000, tile=Tile(512, 0.5), input_size=(480, 640))
@example(width=641, height=480, tile=Tile(640, 0.0), input_size=(480, 640))
@example(width=1, height=6000, tile=Tile(32, 0.5), input_size=(1300, 1))
def test_every_pixel_is_in_a_tile(width, height, tile, input_size):
    """Given any picture and tile, then the tiles' columns and rows leave nothing out, and none leaves the picture."""
    places = cut(width, height, tile, input_size)

    columns, rows = np.zeros(width, bool), np.zeros(height, bool)
    for place in places:
        assert 0 <= place.x1 < place.x2 <= width
        assert 0 <= place.y1 < place.y2 <= height
        columns[place.x1 : place.x2] = rows[place.y1 : place.y2] = True
    assert not places or (columns.all() and rows.all())
    starts = {(place.x1, place.y1) for place in places}
    assert starts == {(x, y) for x, _ in starts for _, y in starts}  # a full grid
    assert len(starts) == len(places)


@given(width=sides, height=sides, tile=tiles, input_size=inputs)
def test_tiles_are_of_one_size_and_overlap_at_least_as_asked(width, height, tile, input_size):
    """Given any picture and tile, then each thing up to the overlap's size is whole in some tile."""
    places = cut(width, height, tile, input_size)
    if len(places) < 2:
        return

    asked = side_of(tile, input_size)
    assert {(place.x2 - place.x1, place.y2 - place.y1) for place in places} == {
        (min(asked[0], width), min(asked[1], height))
    }
    for low, side in (("x1", asked[0]), ("y1", asked[1])):
        starts = sorted({getattr(place, low) for place in places})
        shared = [side - (after - before) for before, after in itertools.pairwise(starts)]
        assert all(one >= min(math.ceil(side * tile.overlap), side - 1) for one in shared)


@given(width=sides, height=sides, tile=tiles, input_size=inputs)
def test_the_whole_is_looked_at_too_and_alone_where_one_tile_suffices(width, height, tile, input_size):
    """Given any picture, then the last window is the whole; it is the only one just when it fits into a tile."""
    try:
        places = windows(width, height, tile, input_size)
    except InvalidRequest:
        return

    asked = side_of(tile, input_size)
    assert places[-1] == Window(0, 0, width, height)
    assert (len(places) == 1) == (width <= asked[0] and height <= asked[1])
    assert len(places) <= MAX_TILES + 1


@given(width=sides, height=sides, tile=tiles, input_size=inputs)
def test_only_what_needs_too_many_tiles_is_refused(width, height, tile, input_size):
    """Given a refused picture, then even tiles that overlap as little as allowed would be more than the most."""
    if cut(width, height, tile, input_size):
        return

    sides = zip((width, height), side_of(tile, input_size), strict=True)
    needed = math.prod(
        math.ceil(max(0, length - side) / max(1, side - math.ceil(side * tile.overlap))) + 1 for length, side in sides
    )
    assert needed > MAX_TILES


boxes = st.tuples(*[st.floats(-50, 250, width=32)] * 4).map(
    lambda edge: (min(edge[0], edge[2]), min(edge[1], edge[3]), max(edge[0], edge[2]), max(edge[1], edge[3]))
)
found = st.lists(
    st.tuples(st.integers(0, 2), st.floats(0.0625, 1, width=32), boxes).map(lambda one: (one[0], one[1], *one[2])),
    max_size=8,
).map(lambda rows: np.array(rows, np.float32).reshape(-1, 6))


@given(seen=st.lists(found, min_size=1, max_size=9), limit=st.floats(0, 1))
def test_merging_invents_nothing(seen, limit):
    """Given any rows of any windows, then what is left are their classes and scores, within their bounds."""
    whole = Window(0, 0, 200, 200)
    places = [*windows(200, 200, Tile(100, 0.25), (100, 100))][: len(seen)]

    merged = merge(list(zip(places, seen, strict=True)), whole, limit=limit)

    rows = np.concatenate(seen)
    assert {(row[0], row[1]) for row in merged} <= {(row[0], row[1]) for row in rows}
    assert (np.diff(merged[:, 1]) <= 0).all()
    assert set(merged[:, 0]) == set(rows[:, 0])  # no class is lost altogether
    if len(rows):
        assert (merged[:, 2:4] >= rows[:, 2:4].min(axis=0)).all()
        assert (merged[:, 4:6] <= rows[:, 4:6].max(axis=0)).all()


@given(rows=found)
def test_what_one_window_saw_is_left_as_it_is(rows):
    """Given rows of a single window, then only their order changes."""
    merged = merge([(Window(0, 0, 200, 200), rows)], Window(0, 0, 200, 200), limit=0.3)

    assert sorted(map(tuple, merged.tolist())) == sorted(map(tuple, rows.tolist()))
