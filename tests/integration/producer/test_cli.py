"""``fleet detect``: lines, JSON, drawings, exit statuses, Ctrl-C, and a fleet of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from redis import Redis

from producer import InvalidImage, blobs, local
from producer.cli import main
from producer.wire import MODELS_KEY
from tests.integration.producer.standin import LARGE, StandIn
from tests.waiting import eventually

COMMAND = [sys.executable, "-c", "from producer.cli import main; main()", "detect"]
ROOT = Path(__file__).parents[3]


def fleet(*words: object, url: str) -> "subprocess.CompletedProcess[str]":
    """Run ``fleet detect`` to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, words)], env=environment(url), capture_output=True, text=True, timeout=60, check=False
    )


def environment(url: str) -> dict[str, str]:
    """Make the environment of a child."""
    return {**os.environ, "FLEET_URL": url, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Make a folder with two pictures."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(folder / name), np.random.default_rng(0).integers(0, 255, (100, 100, 3), dtype=np.uint8))
    return folder


def test_a_folder_gives_a_line_per_detection(url: str, worker: StandIn, photos: Path) -> None:
    """Given two pictures, then path, label, score and box on stdout, a summary on stderr, status 0."""
    done = fleet(photos, url=url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{photos / n}\tface\t0.900\t1.0 2.0 30.5 40.2" for n in ("a.png", "b.png")]
    assert done.stderr.startswith("2 images, 2 detections in ")


def test_json_lines_hold_results_and_errors(url: str, worker: StandIn, photos: Path) -> None:
    """Given a picture and a path that names nothing, then two JSON lines, an error line and status 1."""
    done = fleet(photos / "a.png", "missing.jpg", "--json", "-", "--batch", 4, url=url)
    assert done.returncode == 1
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert first["path"] == str(photos / "a.png")
    assert first["result"]["detections"][0]["label"] == "face"
    assert second["error"]["code"] == "invalid_image"
    assert "missing.jpg: There is no file missing.jpg" in done.stderr


def test_json_to_a_file_leaves_the_lines_on_stdout(url: str, worker: StandIn, photos: Path, tmp_path: Path) -> None:
    """Given --json FILE, then the file has the JSON and stdout the lines."""
    done = fleet(photos, "--json", tmp_path / "out.jsonl", url=url)
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == len(done.stdout.splitlines()) == 2


def test_drawings_are_written(url: str, worker: StandIn, photos: Path, tmp_path: Path) -> None:
    """Given --draw, then a copy of each picture with something drawn into it."""
    done = fleet(photos, "--draw", tmp_path / "drawn", url=url)
    assert done.returncode == 0, done.stderr
    for name in ("a.png", "b.png"):
        drawn, original = (cv2.imread(str(folder / name)) for folder in (tmp_path / "drawn", photos))
        assert drawn.shape == original.shape
        assert (drawn != original).any()


def test_an_image_that_the_worker_refuses_is_status_1(url: str, photos: Path) -> None:
    """Given a worker that finds the picture bad, then its sentence is shown with its path."""

    def refuse(*_: object) -> Any:
        raise InvalidImage("This is not a picture.")

    with StandIn(url, refuse):
        done = fleet(photos / "a.png", url=url)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == f"{photos / 'a.png'}: This is not a picture. (invalid_image)"


def test_wrong_usage_is_status_2(url: str, redis: Redis, tmp_path: Path, photos: Path) -> None:
    """Given nothing to do, a bad option, a bad URL or an unknown model, then status 2 and one sentence."""
    redis.hset(MODELS_KEY, "centerface", "{}")
    for words in (
        [tmp_path / "photos" / ".." / "empty-of-pictures"],
        [photos, "--min-score", 3],
        [photos, "--url", "http://nowhere"],
        [photos, "--model", "yolo"],
        [photos, "--json", "/no/such/folder/out.jsonl"],
        [],
    ):
        (tmp_path / "empty-of-pictures").mkdir(exist_ok=True)
        done = fleet(*words, url=url)
        assert done.returncode == 2, (words, done.stderr)
        assert "Traceback" not in done.stderr


def test_a_server_that_is_not_there_is_one_sentence(photos: Path) -> None:
    """Given nothing listens, then status 1 and one sentence."""
    done = fleet(photos, url="redis://127.0.0.1:1/0")
    assert done.returncode == 1
    assert done.stderr.startswith("Redis does not answer")
    assert len(done.stderr.splitlines()) == 1


def test_ctrl_c_cancels_what_is_under_way(url: str, redis: Redis, tmp_path: Path) -> None:
    """Given images that wait, when Ctrl-C comes, then they are withdrawn and the status is 130."""
    (tmp_path / "a.jpg").write_bytes(LARGE)
    command = [*COMMAND, str(tmp_path / "a.jpg")]
    with subprocess.Popen(command, env=environment(url), stderr=subprocess.PIPE, text=True) as process:
        eventually(lambda: redis.keys("fleet:blob:*"))
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "cancelled" in said
    assert [redis.get(key) for key in redis.keys("fleet:blob:*")] == [blobs.CANCELLED]


@pytest.fixture
def fake_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Put a program of the test's own in the place of ``fleet-worker``."""
    program = tmp_path / "fleet-worker"
    before = signal.getsignal(signal.SIGTERM)

    def put(body: str) -> None:
        program.write_text(f"#!{sys.executable}\n" + textwrap.dedent(body))
        program.chmod(0o755)
        monkeypatch.setattr(local, "_program", lambda: str(program))

    yield put
    signal.signal(signal.SIGTERM, before)


def test_local_starts_a_worker_and_stops_it(
    url: str, worker: StandIn, photos: Path, tmp_path: Path, fake_worker: Callable[[str], None]
) -> None:
    """Given --local, then its URL is used, and SIGINT ends it."""
    fake_worker(
        f"""
        import signal, sys, pathlib
        try:
            print("ready {url}", flush=True)
            signal.pause()
        except KeyboardInterrupt:
            pathlib.Path("{tmp_path}/stopped").write_text(" ".join(sys.argv[1:]))
        """
    )
    done = CliRunner().invoke(main, ["detect", str(photos), "--local", "--model", "centerface"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "stopped").read_text() == "local --model centerface"


def test_local_ends_with_a_terminal_that_is_closed(
    url: str, worker: StandIn, photos: Path, tmp_path: Path, fake_worker: Callable[[str], None]
) -> None:
    """Given --local, when the terminal is closed or the command killed, then its worker is stopped all the same."""
    fake_worker(
        f"""
        import signal, pathlib
        try:
            pathlib.Path("{tmp_path}/started").touch()
            signal.pause()
        except KeyboardInterrupt:
            pathlib.Path("{tmp_path}/stopped").touch()
        """
    )
    code = f"from producer import cli, local; local._program = lambda: {local._program()!r}; cli.main()"
    for number in (signal.SIGHUP, signal.SIGKILL):
        command = [sys.executable, "-c", code, "detect", str(photos), "--local"]
        with subprocess.Popen(command, env=environment(url)) as process:
            eventually((tmp_path / "started").exists)
            process.send_signal(number)
        eventually((tmp_path / "stopped").exists)
        (tmp_path / "started").unlink()
        (tmp_path / "stopped").unlink()


def test_local_says_why_it_did_not_start(photos: Path, fake_worker: Callable[[str], None]) -> None:
    """Given a worker that ends at once, then its last words, and status 1."""
    fake_worker("import sys; sys.exit('no such model')")
    done = CliRunner().invoke(main, ["detect", str(photos), "--local"])
    assert done.exit_code == 1
    assert "no such model" in done.stderr


def test_local_without_a_worker_says_what_to_install(
    photos: Path, fake_worker: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given no fleet-worker anywhere, then a sentence that names the extra, and status 1."""
    monkeypatch.setattr(shutil, "which", lambda *_args, **_kwargs: None)
    done = CliRunner().invoke(main, ["detect", str(photos), "--local"])
    assert done.exit_code == 1
    assert "detection-fleet[local]" in done.stderr


def test_draw_without_opencv_says_what_to_install(
    photos: Path, fake_worker: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given no OpenCV, then --draw names the extra, with status 2."""
    monkeypatch.delitem(sys.modules, "producer.draw", raising=False)
    monkeypatch.setitem(sys.modules, "cv2", None)
    done = CliRunner().invoke(main, ["detect", str(photos), "--draw", str(photos / "out")])
    assert done.exit_code == 2
    assert "detection-fleet[draw]" in done.stderr
