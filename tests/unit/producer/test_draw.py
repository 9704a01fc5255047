"""Drawings: visible at any size, inside the picture, none over another."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from producer import Detection, InvalidImage, Result
from producer.draw import Album, Pen, annotate, colour_of, ink_on, place_label


def face(scale: float = 1.0) -> Detection:
    """Make a detection in a 100 x 100 picture times ``scale``."""
    return Detection("face", 0, 0.9, (30 * scale, 40 * scale, 70 * scale, 80 * scale), ((50 * scale, 60 * scale),))


@pytest.mark.parametrize("side", [100, 600, 3000])
def test_a_box_is_visible_at_any_size_and_its_inside_stays_free(side: int) -> None:
    """Given pictures from small to large, then the edge has the label's colour, and most pixels are untouched."""
    image = np.full((side, side, 3), 128, np.uint8)
    annotate(image, [face(side / 100)])
    edge = image[round(0.6 * side), round(0.3 * side)].astype(int)
    assert np.abs(edge - colour_of(0)).max() < 60
    assert (image == 128).all(axis=2).mean() > 0.6


def test_pens_grow_with_the_picture() -> None:
    """Given larger pictures, then no size shrinks, and none is ever below a pixel."""
    pens = [Pen.for_size(side, side) for side in (1, 100, 600, 2000, 6000)]
    assert all(pen.line_px >= 1 and pen.dot_px >= 1 and pen.stroke_px >= 1 for pen in pens)
    assert pens == sorted(pens, key=lambda pen: (pen.line_px, pen.scale))
    assert pens[-1].line_px > 10


@pytest.mark.parametrize("box", [(0, 0, 100, 100), (-5, -5, 20, 10), (90, 90, 100, 100), (0, 95, 100, 100)])
def test_a_label_stays_inside_the_picture(box: tuple[float, float, float, float]) -> None:
    """Given a box at any edge, then its label is inside."""
    left, top, right, bottom = place_label(box, (60, 12), (100, 100), 2, [])
    assert 0 <= left <= right <= 100
    assert 0 <= top <= bottom <= 100


def test_labels_of_two_boxes_at_one_place_do_not_cover_each_other() -> None:
    """Given a taken place, then the next label goes elsewhere."""
    first = place_label((30, 40, 70, 80), (40, 12), (100, 100), 2, [])
    second = place_label((30, 40, 70, 80), (40, 12), (100, 100), 2, [first])
    assert first != second


def test_colours_differ_and_letters_can_be_read_on_them() -> None:
    """Given eighty labels, then eighty colours; letters and ground differ in luminance."""
    colours = [colour_of(number) for number in range(80)]
    assert len(set(colours)) == 80
    for colour in colours:
        grey, ink = (float(np.dot((0.114, 0.587, 0.299), sides)) for sides in (colour, ink_on(colour)))
        assert abs(grey - ink) > 90


def test_drawings_get_names_of_their_own_and_never_replace_an_input(tmp_path: Path) -> None:
    """Given inputs of one name, and one in the folder of drawings, then three files and the input unchanged."""
    inputs = [tmp_path / "a" / "p.png", tmp_path / "b" / "p.png", tmp_path / "out" / "p.png"]
    for path in inputs:
        path.parent.mkdir()
        cv2.imwrite(str(path), np.zeros((100, 100, 3), np.uint8))
    before = inputs[2].read_bytes()
    album = Album(tmp_path / "out", inputs)
    written = [album.add(path, Result("m", "d", 100, 100, (face(),))) for path in inputs]
    assert [path.name for path in written] == ["p-2.png", "p-3.png", "p-4.png"]
    assert inputs[2].read_bytes() == before


def test_what_cannot_be_drawn_says_so(tmp_path: Path) -> None:
    """Given a file that OpenCV cannot open, then InvalidImage."""
    (tmp_path / "bad.png").write_bytes(b"no")
    with pytest.raises(InvalidImage, match="for drawing"):
        Album(tmp_path / "out", []).add(tmp_path / "bad.png", Result("m", "d", 1, 1, ()))
