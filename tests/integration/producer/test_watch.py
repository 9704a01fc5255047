"""``fleet watch``: in order, never older than the limit, everything counted, streams that break and come back."""

import http.server
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from producer import Client
from producer.camera import Camera
from producer.film import to_jpeg
from producer.live import Live, Shot
from tests.integration.producer.standin import StandIn, make_result
from tests.integration.producer.test_cli import environment
from tests.integration.producer.test_films import FRAMES, play, write_film
from tests.waiting import eventually

COMMAND = [sys.executable, "-c", "from producer.cli import main; main()", "watch"]


class Fast:
    """A source that gives as many shots as are wanted, as fast as they are taken."""

    def __init__(self, shots: int) -> None:
        self._shots = shots
        self.closed = threading.Event()

    def shots(self) -> Iterator[Shot]:
        """Give a shot each millisecond."""
        for number in range(self._shots):
            if self.closed.wait(0.001):
                return
            yield Shot(number, time.monotonic(), number / 1000, number)

    def close(self) -> None:
        """End early."""
        self.closed.set()


def encode(number: int) -> bytes:
    """Make the "picture" of a shot."""
    return b"\xff\xd8\xff picture %d" % number


def wait_for_more(live: Live, shots: int, *, of: int) -> None:
    """Wait until so many more shots were taken, or the source has no more."""
    until = min(of, live.counts.taken + shots)
    eventually(lambda: live.counts.taken >= until, f"{until} shots")


def watch(*words: object, url: str) -> "subprocess.CompletedProcess[str]":
    """Run ``fleet watch`` to its end."""
    command = [*COMMAND, *map(str, words)]
    return subprocess.run(command, env=environment(url), capture_output=True, text=True, timeout=60, check=False)


def counts(said: str) -> tuple[int, ...]:
    """Read ``(frames, taken, dropped, never sent, too late)`` off the summary."""
    found = re.search(r"(\d+) frames?, .*; (\d+) taken, (\d+) dropped \((\d+) never sent, (\d+) too late\)", said)
    assert found, said
    return tuple(int(number) for number in found.groups())


def test_a_fleet_that_keeps_up_answers_every_frame_in_order(url: str, worker: StandIn, tmp_path: Path) -> None:
    """Given a film played live, when the fleet is fast enough, then its frames are answered in order, in its time."""
    film = write_film(tmp_path / "film.mp4")
    done = watch(film, "--json", "-", "--max-age", 20, "--draw", tmp_path / "out.mp4", url=url)
    assert done.returncode == 0, done.stderr
    numbers = [json.loads(line)["frame"] for line in done.stdout.splitlines()]
    answered, taken, dropped, *_ = counts(done.stderr)
    assert numbers == sorted(set(numbers))
    assert (len(numbers), taken) == (answered, FRAMES)
    assert answered + dropped == FRAMES
    # Dropped frames are filled, so that the film lasts as long as it was watched.
    assert len(play(tmp_path / "out.mp4")[0]) == numbers[-1] + 1


def test_a_source_faster_than_the_fleet_drops_and_counts_and_never_falls_behind(url: str) -> None:
    """Given 1,000 shots a second and a slow worker, then answers are in order, fresh, and all shots accounted for."""

    def slow(*_: object) -> Any:
        wait_for_more(live, 20, of=700)
        return make_result().to_json()

    with Client(url, when_full="refuse") as client:
        live = Live(Fast(700), encode, client, max_age_s=5.0, window=4)
        with StandIn(url, slow):
            seen = [(one.shot.number, one.shot.age_s()) for one in live.answers()]
    assert [number for number, _ in seen] == sorted({number for number, _ in seen})
    assert max(age for _, age in seen) < 5.5
    assert live.counts.taken == 700
    assert 0 < live.counts.answered == len(seen)
    assert live.counts.dropped > 0
    assert live.counts.answered + live.counts.dropped == 700


def test_what_is_too_late_is_dropped_and_withdrawn(url: str) -> None:
    """Given a worker that never answers, then every shot that was sent is too late, and the source still ends."""
    with StandIn(url, lambda *_: None), Client(url, when_full="refuse") as client:
        live = Live(Fast(300), encode, client, max_age_s=0.1, window=4)
        assert list(live.answers()) == []
    assert live.counts.late >= 4
    assert live.counts.late + live.counts.skipped == live.counts.taken == 300


def test_a_slow_watcher_gets_fresh_shots_too(url: str, worker: StandIn) -> None:
    """Given someone who takes long over each answer, then each is within the limit, and the others were dropped."""
    with Client(url) as client:
        live = Live(Fast(600), encode, client, max_age_s=0.2, window=16)
        ages = []
        for seen in live.answers():
            ages.append(seen.shot.age_s())
            wait_for_more(live, 50, of=600)  # as long as drawing and writing may take
    assert max(ages) < 0.3
    assert live.counts.answered + live.counts.dropped == live.counts.taken == 600


def test_leaving_early_closes_the_source(url: str, worker: StandIn) -> None:
    """Given a watcher that stops after one answer, then the source is closed and no thread stays."""
    source = Fast(1_000_000)
    before = threading.active_count()
    with Client(url) as client:
        answers = Live(source, encode, client, max_age_s=10).answers()
        assert next(answers).result is not None
        answers.close()
    assert source.closed.is_set()
    eventually(lambda: threading.active_count() <= before)


def test_ctrl_c_ends_it_with_a_summary_and_a_film_that_plays(url: str, worker: StandIn, tmp_path: Path) -> None:
    """Given a long film, when Ctrl-C comes, then status 0, the summary, and what was drawn can be played."""
    film = write_film(tmp_path / "film.mp4", 2000)
    command = [*COMMAND, str(film), "--max-age", "10", "--draw", str(tmp_path / "out.mp4")]
    with subprocess.Popen(
        command, env=environment(url), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for _ in range(5):
            assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 0, said
    answered, *_ = counts(said)
    assert answered >= 5
    assert len(play(tmp_path / "out.mp4")[0]) >= 4  # the interrupt may come between the fifth line and its frame


def test_it_stops_by_itself_after_the_seconds_that_were_asked_for(url: str, worker: StandIn, tmp_path: Path) -> None:
    """Given --seconds, then a long film is watched so long only."""
    film = write_film(tmp_path / "film.mp4", 2000)
    done = watch(film, "--seconds", 1, "--max-age", 10, url=url)
    assert done.returncode == 0, done.stderr
    assert 1 < counts(done.stderr)[1] < 1000


def test_a_source_that_is_not_there_is_one_sentence(url: str, worker: StandIn) -> None:
    """Given no device, no stream and no film, then one sentence and status 1."""
    for source in ("/dev/video77", "http://127.0.0.1:1/stream", "nowhere.mp4"):
        done = watch(source, url=url)
        assert done.returncode == 1
        assert done.stderr == f"There is nothing to see at {source}: no such device, stream or film.\n"


class Stream(http.server.BaseHTTPRequestHandler):
    """A camera on the network, as many are: JPEGs in one endless answer; it breaks off after 20."""

    def do_GET(self) -> None:
        """Send pictures."""
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        jpeg = to_jpeg(np.full((48, 64, 3), 99, np.uint8))
        for _ in range(20):
            self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg))
            self.wfile.write(jpeg + b"\r\n")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def stream() -> Iterator[str]:
    """Give the URL of a network camera."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stream) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/stream.mjpg"
        server.shutdown()
        thread.join()


def test_a_stream_that_breaks_is_opened_again(stream: str) -> None:
    """Given a network camera that breaks off after 20 frames, then frames go on, numbered on, and it is counted."""
    camera = Camera(stream)
    shots = camera.shots()
    numbers = [next(shots).number for _ in range(50)]
    camera.close()
    assert list(shots) == []
    assert numbers == list(range(50))
    assert camera.reopened >= 2


def test_the_film_modules_are_loaded_only_when_asked_for() -> None:
    """Given the command line, when it is imported, then OpenCV is not."""
    code = "import sys, producer.cli; print('cv2' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "False False"
