"""Photos of all sorts, through the commands and examples a user types, against the independent reference."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from producer import Client, Result
from producer.errors import FleetError
from tests import bad_files, photos, reference
from tests.conftest import cache, worker_environ
from worker import embedded, local

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def fleet(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a fleet with one CenterFace worker, at the precision of the reference."""
    sign = tmp_path_factory.mktemp("fleet") / "health"
    with embedded.server() as url:
        environ = worker_environ(url, store, sign, "centerface", {"precision": "f32"})
        worker = local.start_worker("photos@test", environ)
        try:
            local.await_ready([worker], [sign])
            yield url
        finally:
            local.stop([worker], 15)


@pytest.fixture(scope="module")
def album(samples: Path) -> dict[str, tuple[bytes, tuple[int, int]]]:
    """Photos that must be read: name -> bytes and upright size."""
    return photos.build(samples)


@pytest.fixture(scope="module")
def folder(album: dict[str, tuple[bytes, tuple[int, int]]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The album as files; what it is called says nothing of what it is."""
    place = tmp_path_factory.mktemp("album")
    for name, (data, _) in album.items():
        (place / f"{name}.jpg").write_bytes(data)
    return place


def command(*words: str, url: str) -> "subprocess.CompletedProcess[str]":
    """Run a command as a user would."""
    environ = {**os.environ, "FLEET_URL": url, "FLEET_CACHE_DIR": str(cache() / "compiled")}
    return subprocess.run(words, env=environ, capture_output=True, text=True, timeout=100, check=False)


def fleet_command() -> str:
    """Path of the installed `fleet`."""
    return str(Path(sys.executable).with_name("fleet"))


def expected(data: bytes, store: Path) -> list[dict[str, Any]]:
    """What the reference finds."""
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return reference.centerface_reference(bgr, store / "centerface" / "centerface.onnx", precision="f32")


def test_fleet_detect_finds_what_the_reference_finds_on_every_photo(
    fleet: str, store: Path, folder: Path, album: dict[str, tuple[bytes, tuple[int, int]]], tmp_path: Path
) -> None:
    """Given photos of every accepted kind, when `fleet detect --json -` reads them, then the faces are the same."""
    done = command(fleet_command(), "detect", str(folder), "--json", "-", "--draw", str(tmp_path / "drawn"), url=fleet)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == len(album)
    for line in lines:
        name = Path(line["path"]).stem
        data, (width, height) = album[name]
        assert (line["result"]["width"], line["result"]["height"]) == (width, height), name
        reference.match(expected(data, store), line["result"]["detections"], 0.95)
    assert len(list((tmp_path / "drawn").iterdir())) == len(album)
    crowd = next(line for line in lines if Path(line["path"]).stem == "crowd")
    assert len(crowd["result"]["detections"]) == photos.CROWD


def test_a_program_with_celery_alone_gets_the_same(fleet: str, store: Path, samples: Path) -> None:
    """Given the example with no line of our client, when it sends photos, then it prints the same faces."""
    paths = [str(samples / "astronaut.png"), str(samples / "grace_hopper.jpg")]
    small = [path for path in paths if Path(path).stat().st_size <= 256 * 1024]
    done = command(sys.executable, str(EXAMPLES / "bare_celery.py"), fleet, *small, url=fleet)
    assert done.returncode == 0, done.stderr
    for path in small:
        (found,) = [line for line in done.stdout.splitlines() if line.startswith(path)]
        box = json.loads(found[found.index("[") :])
        (face,) = expected(Path(path).read_bytes(), store)
        assert reference.iou(face["box"], box) >= 0.95


def test_the_example_of_the_client_prints_every_photo(fleet: str, samples: Path) -> None:
    """Given the client's example, when it sends photos and a missing one, then each has its line."""
    paths = [str(samples / "astronaut.png"), str(samples / "grace_hopper.jpg"), "nowhere.jpg"]
    done = command(sys.executable, str(EXAMPLES / "client.py"), fleet, *paths, url=fleet)
    assert done.returncode == 0, done.stderr
    assert sorted(line.split()[0] for line in done.stdout.splitlines()) == sorted(paths)
    assert "nowhere.jpg invalid_image" in done.stdout


def test_every_hostile_file_is_answered_with_its_error_and_the_worker_goes_on(fleet: str, samples: Path) -> None:
    """Given damaged, foreign and oversized files, when each is sent, then its own error comes back and work goes on."""
    with Client(fleet) as client:
        wrong = {}
        for name, (data, code) in bad_files.hostile().items():
            try:
                answer = client.detect(data, deadline_s=20)
            except FleetError as error:
                if error.code != code:
                    wrong[name] = (code, error.code, str(error))
            else:
                wrong[name] = (code, answer)
        assert wrong == {}
        assert len(client.detect(samples / "astronaut.png").detections) == 1


def test_one_by_one_and_in_batches_the_answers_are_the_same(
    fleet: str, album: dict[str, tuple[bytes, tuple[int, int]]]
) -> None:
    """Given the same photos, when they go one a message and many a message, then the detections are the same."""
    data = [data for data, _ in album.values()]
    with Client(fleet) as client:
        alone = [answer.result for answer in client.map(data)]
        together = [answer.result for answer in client.map(data, batch=16)]
    assert [_found(result) for result in alone] == [_found(result) for result in together]


def test_the_time_spent_waiting_in_the_queue_is_told(fleet: str, samples: Path) -> None:
    """Given many jobs at once, when the last is answered, then it says that it has waited."""
    with Client(fleet) as client:
        jobs = [client.submit(samples / "astronaut.png") for _ in range(40)]
        waits = [job.result().timings_ms["queued"] for job in jobs]
    assert waits[-1] > waits[0]
    assert waits[-1] > 50


def _found(result: Result | None) -> Any:
    assert result is not None
    return result.detections
