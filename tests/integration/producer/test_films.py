"""``fleet detect film.mp4``: every frame in order, an annotated film that plays, and films that cannot be read."""

import contextlib
import itertools
import json
import os
import pty
import re
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from producer import InvalidImage
from tests.integration.producer.standin import StandIn, make_result
from tests.integration.producer.test_cli import COMMAND, environment, fleet
from tests.waiting import eventually

#: Frames of the films that these tests write, and their speed and size.
FRAMES, FPS, WIDTH, HEIGHT = 30, 12.5, 160, 120


def write_film(path: Path, frames: int = FRAMES, coder: str = "mp4v") -> Path:
    """Write a film whose frames get lighter from one to the next."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*coder), FPS, (WIDTH, HEIGHT))
    for number in range(frames):
        writer.write(np.full((HEIGHT, WIDTH, 3), 40 + number * 5 % 200, np.uint8))
    writer.release()
    return path


def play(path: Path) -> tuple[list[Any], float]:
    """Give all frames of a film, and its frames per second."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    frames = []
    while (frame := capture.read())[0]:
        frames.append(frame[1])
    return frames, capture.get(cv2.CAP_PROP_FPS)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Give a film of a few seconds."""
    return write_film(tmp_path / "film.mp4")


def test_every_frame_is_answered_in_order(url: str, worker: StandIn, film: Path) -> None:
    """Given a film, then a line per detection that names the frame, a summary in frames, and status 0."""
    done = fleet(film, "--window", 8, url=url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{film}:{n}\tface\t0.900\t1.0 2.0 30.5 40.2" for n in range(FRAMES)]
    assert done.stderr.startswith(f"{FRAMES} frames, {FRAMES} detections in ")
    assert "frames/s)" in done.stderr


@pytest.mark.parametrize("name", ["out.mp4", "out.webm"])
def test_the_annotated_film_plays(url: str, worker: StandIn, film: Path, tmp_path: Path, name: str) -> None:
    """Given --draw with the name of a film, then it has the frames, speed and size of the original, with boxes."""
    done = fleet(film, "--draw", tmp_path / name, "--json", tmp_path / "lines", url=url)
    assert done.returncode == 0, done.stderr
    frames, fps = play(tmp_path / name)
    assert len(frames) == FRAMES
    assert fps == pytest.approx(FPS, rel=0.01)
    for number, frame in enumerate(frames):
        assert frame.shape == (HEIGHT, WIDTH, 3)
        # The corner far from the box is the frame's own grey, so the frames are in their order; the box is drawn.
        assert abs(float(frame[-20:, -20:].mean()) - (40 + number * 5)) < 8, number
        assert float(frame[:45, :35].std()) > 8, number


def test_frames_are_told_with_their_times(url: str, worker: StandIn, film: Path) -> None:
    """Given --json, then each line has the frame's number and its second."""
    done = fleet(film, "--json", "-", "--batch", 4, url=url)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["frame"] for line in lines] == list(range(FRAMES))
    assert [line["time_s"] for line in lines] == pytest.approx([n / FPS for n in range(FRAMES)], abs=0.002)
    assert all(line["result"]["detections"] for line in lines)


def test_films_go_into_a_folder_each_under_its_name(url: str, worker: StandIn, tmp_path: Path) -> None:
    """Given two films and a folder, then a drawn film of each."""
    films = [write_film(tmp_path / name, 5) for name in ("a.mp4", "b.avi")]
    done = fleet(*films, "--draw", tmp_path / "out", url=url)
    assert done.returncode == 0, done.stderr
    assert [len(play(tmp_path / "out" / film.name)[0]) for film in films] == [5, 5]


def test_a_frame_that_fails_is_told_and_the_film_goes_on(url: str, film: Path, tmp_path: Path) -> None:
    """Given a worker that refuses one frame, then its error, status 1, and all frames in the drawn film."""
    calls = iter(range(FRAMES))

    def answer(*_: object) -> Any:
        if next(calls) == 3:
            raise InvalidImage("This is not a picture.")
        return make_result().to_json()

    with StandIn(url, answer):
        done = fleet(film, "--draw", tmp_path / "out.mp4", "--window", 1, url=url)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == f"{film}:3: This is not a picture. (invalid_image)"
    assert len(play(tmp_path / "out.mp4")[0]) == FRAMES


def test_lines_on_a_terminal_stand_above_the_bar(url: str, film: Path) -> None:
    """Given a terminal, then the bar shows frames of frames and a rate, and no line is written into it."""
    said = bytearray()
    asked = itertools.count()

    def slow(*_: object) -> Any:
        if next(asked) > 2:
            eventually(lambda: re.search(rb"\d\.\d/s", said), "a rate on the bar")
        return make_result().to_json()

    ours, theirs = pty.openpty()
    words = [*COMMAND, str(film), "--window", "1"]
    environ = environment(url) | {"TERM": "xterm", "COLUMNS": "200"}
    with (
        StandIn(url, slow),
        subprocess.Popen(words, env=environ, stdout=theirs, stderr=theirs, stdin=theirs) as process,
    ):
        os.close(theirs)
        with contextlib.suppress(OSError):  # what a terminal says when its other end is closed
            while part := os.read(ours, 65536):
                said += part
        os.close(ours)
    assert process.returncode == 0
    # Colours are nothing; whatever moves the cursor begins something new.
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "\n", re.sub(r"\x1b\[[0-9;]*m", "", said.decode()))
    assert len(re.findall(rf"^{re.escape(str(film))}:\d+\s+face", plain, re.MULTILINE)) == FRAMES
    assert re.search(rf"\d+/{FRAMES}", plain)
    assert re.search(r"\d\.\d/s", plain)


def test_a_film_that_is_cut_short_is_told(url: str, worker: StandIn, tmp_path: Path) -> None:
    """Given a film whose end is missing, then what is there is answered, and it is said how much is missing."""
    film = write_film(tmp_path / "film.avi", coder="MJPG")
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    done = fleet(film, url=url)
    assert 0 < len(done.stdout.splitlines()) < FRAMES
    assert f"of the {FRAMES} frames that it announces can be read" in done.stderr


def test_what_is_no_film_is_one_sentence(url: str, worker: StandIn, tmp_path: Path) -> None:
    """Given a missing film and one of random bytes, then a sentence each and status 1."""
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(3).bytes(20_000))
    done = fleet(tmp_path / "none.mp4", tmp_path / "noise.mp4", url=url)
    assert done.returncode == 1
    assert done.stderr.splitlines()[:2] == [
        f"{tmp_path}/none.mp4: There is no file {tmp_path}/none.mp4. (invalid_image)",
        f"{tmp_path}/noise.mp4: {tmp_path}/noise.mp4 cannot be read as a film. (invalid_image)",
    ]


def test_wrong_usage_of_films_is_status_2(url: str, worker: StandIn, film: Path, tmp_path: Path) -> None:
    """Given a film with an image, drawn over itself, or two films drawn into one, then status 2 and the reason."""
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((9, 9, 3), np.uint8))
    other = write_film(tmp_path / "other.mp4", 2)
    for words, reason in [
        ([film, tmp_path / "a.png"], "commands of their own"),
        ([film, "--draw", film], "the film itself"),
        ([film, other, "--draw", tmp_path / "out.mp4"], "name a folder"),
    ]:
        done = fleet(*words, url=url)
        assert done.returncode == 2, done.stderr
        assert reason in done.stderr
        assert "Traceback" not in done.stderr
