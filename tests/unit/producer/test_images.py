"""Every kind of image a caller may hand over, and the sentences for what is none."""

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from producer import ImageTooLarge, InvalidImage
from producer.images import Picture, describe, read
from producer.wire import MAX_IMAGE_BYTES


class Exhausted:
    """A file-like object over an iterator that has nothing more to give."""

    def read(self, _size: int) -> bytes:
        """Raise StopIteration."""
        return next(iter(()))


def test_paths_bytes_and_files_give_their_bytes(tmp_path: Path) -> None:
    """Given the same bytes in each form, then they are read unchanged, with a name where there is one."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"bytes")
    with path.open("rb") as file:
        assert read(file) == Picture(b"bytes", "photo.jpg")
    assert read(path) == read(str(path)) == Picture(b"bytes", "photo.jpg")
    assert read(b"bytes") == read(bytearray(b"bytes")) == read(memoryview(b"bytes")) == Picture(b"bytes")
    assert read(io.BytesIO(b"bytes")) == Picture(b"bytes")


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 64])
@pytest.mark.parametrize("channels", [None, 1, 3, 4])
def test_an_array_survives_the_journey_bit_for_bit(width: int, channels: int | None) -> None:
    """Given a uint8 array of any row length, then decoding what is sent gives the same pixels."""
    shape = (7, width) if channels is None else (7, width, channels)
    array = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    decoded = cv2.imdecode(np.frombuffer(read(array).data, np.uint8), cv2.IMREAD_COLOR)
    expected = array if channels == 3 else cv2.cvtColor(array, cv2.COLOR_GRAY2BGR) if channels != 4 else array[..., :3]
    assert np.array_equal(decoded, expected)


def test_an_array_that_is_a_view_is_sent_as_it_looks() -> None:
    """Given a flipped, non-contiguous view, then what is sent is the flipped picture."""
    array = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)[:, ::-1]
    decoded = cv2.imdecode(np.frombuffer(read(array).data, np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(decoded, array)


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        ("/no/such/photo.jpg", "There is no file"),
        ("/", "is a folder"),
        ("/dev/null", "not an ordinary file"),
        ("nul\0byte", "cannot be read"),
        (b"", "empty"),
        (io.StringIO("text"), "'rb'"),
        (Exhausted(), "cannot be read: StopIteration"),
        (7, "not int"),
        (None, "not NoneType"),
        (np.zeros((4, 4, 3)), "astype"),
        (np.zeros((4, 4, 2), np.uint8), "4x4x2"),
        (np.zeros((0, 4, 3), np.uint8), "0x4x3"),
        (np.uint8(3), "a single number"),
    ],
)
def test_what_is_no_image_is_refused_with_advice(image: Any, sentence: str) -> None:
    """Given something else, then InvalidImage says what to do."""
    with pytest.raises(InvalidImage, match=sentence):
        read(image)


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    """Given an empty file, then the error names it."""
    (tmp_path / "empty.png").touch()
    with pytest.raises(InvalidImage, match=r"empty\.png is empty"):
        read(tmp_path / "empty.png")


def test_a_huge_file_is_refused_without_reading_it(tmp_path: Path) -> None:
    """Given a file above the limit, then its size alone is enough."""
    path = tmp_path / "huge.bmp"
    with path.open("wb") as file:
        file.truncate(MAX_IMAGE_BYTES * 100)
    with pytest.raises(ImageTooLarge, match=r"huge\.bmp"):
        read(path)


def test_other_sources_have_the_same_limit() -> None:
    """Given too many bytes, a too long file or a too large array, then ImageTooLarge."""
    for image in (bytes(MAX_IMAGE_BYTES + 1), io.BytesIO(bytes(MAX_IMAGE_BYTES + 1)), np.zeros((4000, 4000, 3), "u1")):
        with pytest.raises(ImageTooLarge):
            read(image)


def test_descriptions_hold_names_and_sizes_only() -> None:
    """Given pictures, then logs read names and sizes, never content."""
    assert describe([Picture(b"x" * 81_204, "photo.jpg")]) == "(photo.jpg, 81,204 bytes)"
    assert describe([Picture(b"secret")]) == "(6 bytes)"
    many = [Picture(b"x" * 100, f"{number}.jpg") for number in range(20)]
    assert describe(many) == "([0.jpg, 1.jpg, 2.jpg, …], 20 images, 2,000 bytes)"
