"""Which photos of a folder the bench serves: some of all parts of it, none that a worker would refuse."""

from pathlib import Path

import click
import cv2
import numpy as np
import pytest

from worker import settings
from worker.bench.__main__ import MOST_PHOTOS, find

CHOSEN = settings.Settings()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder with 80 photos, of which the first is cut off, and things that are none."""
    done, data = cv2.imencode(".jpg", np.full((16, 16, 3), 90, np.uint8))
    assert done
    for number in range(80):
        (tmp_path / f"{number:02}.jpg").write_bytes(data.tobytes() if number else data.tobytes()[:-20])
    (tmp_path / "notes.txt").write_text("no photo")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    return tmp_path


def test_some_photos_of_all_parts_are_served_and_the_refused_are_named(folder: Path) -> None:
    """Given more photos than a turn serves, then they lie at equal distances; one that cannot be read is replaced."""
    told: list[str] = []
    found = [int(path.stem) for path in find(folder, CHOSEN, None, told.append)]

    assert len(found) == MOST_PHOTOS
    assert found == sorted({*(number * 80 // MOST_PHOTOS for number in range(1, MOST_PHOTOS)), 1})
    assert told[0].startswith(f"{folder / '00.jpg'} is left out: The JPEG")
    assert told[1].startswith("32 of the 80 photos are served")


def test_no_more_photos_than_images_are_served(folder: Path) -> None:
    """Given fewer images than photos, then there are as many photos, and where there are few, all of them."""
    assert [path.stem for path in find(folder, CHOSEN, 4, str)] == ["01", "20", "40", "60"]
    assert [path.name for path in find(folder / "07.jpg", CHOSEN, None, str)] == ["07.jpg"]


def test_a_folder_whose_photos_are_all_refused_has_none(tmp_path: Path) -> None:
    """Given one photo that is cut off, then it is named, and there is nothing to measure."""
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    told: list[str] = []
    with pytest.raises(click.ClickException, match="that a worker takes"):
        find(tmp_path, CHOSEN, None, told.append)
    assert "cut.jpg is left out" in told[0]
