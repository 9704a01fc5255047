"""Small faces in big pictures, from a client's option to its result: Python, the command line, any Celery program."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
from celery import Celery

from producer import Client, InvalidRequest, Result, Tile
from tests.conftest import StartWorker
from tests.e2e.kit import program, run
from tests.scenes import Scene, small_faces


@pytest.fixture(scope="module")
def scene(samples: Path, store: Path) -> Scene:
    """24 faces of 22 to 40 pixels in a picture of 2560 x 1920."""
    return small_faces(samples, store)


@pytest.fixture(scope="module")
def file(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The picture as a file."""
    path = tmp_path_factory.mktemp("big") / "square.png"
    path.write_bytes(scene.png())
    return path


@pytest.fixture
def client(faces: str) -> Iterator[Client]:
    """A client of a fleet with CenterFace."""
    with Client(faces) as made:
        yield made


def test_a_client_finds_small_faces_with_tiles_and_none_without(client: Client, scene: Scene, file: Path) -> None:
    """Given a big picture, when a client asks for tiles of 640, then all its faces come back in their places."""
    assert client.detect(file).detections == ()

    answer = client.detect(file, tile=640)

    assert min(scene.found(answer)) > 0.7
    assert len(answer.detections) == len(scene.places)
    assert answer.tiles == 20


def test_tiles_of_the_network_s_size_and_more_overlap_can_be_asked_for(
    client: Client, scene: Scene, file: Path
) -> None:
    """Given a Tile in place of a number, then its size is the network's own, and its overlap makes more of them."""
    answer = client.detect(file, tile=Tile(overlap=0.5))

    assert min(scene.found(answer)) > 0.7
    assert answer.tiles > 20


def test_a_batch_may_be_of_big_and_small_pictures(client: Client, file: Path, samples: Path) -> None:
    """Given both in one message, then the small one's answer is what it is without tiles."""
    small = samples / "astronaut.png"

    big, alone, missing = client.map([file, small, "nowhere.jpg"], batch=3, tile=640)

    assert isinstance(big.result, Result)
    assert big.result.tiles == 20
    assert alone.result is not None
    assert (alone.result.tiles, alone.result.detections) == (0, client.detect(small).detections)
    assert missing.error is not None


@pytest.mark.parametrize("tile", [0, 31, 16_385, 64.0, True, "640", Tile(overlap=0.6), Tile(overlap=-0.1), [640]])
def test_an_impossible_tile_is_refused_by_the_client(client: Client, file: Path, tile: object) -> None:
    """Given nonsense, then nothing is sent."""
    with pytest.raises(InvalidRequest, match="tile"):
        client.submit(file, tile=tile)  # type: ignore[arg-type]


def test_too_many_tiles_are_refused_by_the_worker(client: Client, file: Path) -> None:
    """Given tiles of 64 pixels in a picture of 2560, then the sentence says how many that were."""
    with pytest.raises(InvalidRequest, match=r"gives 1,900 tiles of 64 x 64; at most 512"):
        client.detect(file, tile=64)


def test_a_repeated_submit_with_other_tiles_is_another_request(client: Client, file: Path) -> None:
    """Given an idempotency key, then the same tiles are the same job, and other tiles are refused under it."""
    first = client.submit(file, tile=640, idempotency_key="big-1")

    assert client.submit(file, tile=Tile(640), idempotency_key="big-1").id == first.id
    with pytest.raises(InvalidRequest):
        client.submit(file, tile=1280, idempotency_key="big-1")
    assert first.result().tiles == 20


def test_the_command_line_cuts_tiles(faces: str, scene: Scene, file: Path, tmp_path: Path) -> None:
    """Given --tile, then its JSON has every face; 0 is the model's own size; and it draws into the whole picture."""
    words = [program("fleet"), "detect", file, "--json", "-", "--tile", 0, "--tile-overlap", 0.3]

    done = run([*words, "--draw", tmp_path / "drawn"], faces)

    assert done.returncode == 0, done.stderr
    answer = Result.parse(json.loads(done.stdout)["result"])
    assert min(scene.found(answer)) > 0.7
    assert answer.tiles == 36
    assert cv2.imread(str(tmp_path / "drawn" / "square.png")).shape == (1920, 2560, 3)


def test_any_celery_program_may_ask_for_tiles(faces: str, scene: Scene, samples: Path) -> None:
    """Given a message without our client, then `tile` is a number or an object, and nonsense is `invalid_request`."""
    jpeg = cv2.imencode(".jpg", scene.pixels[:700, :1400], [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
    image = {"data": base64.b64encode(jpeg).decode()}
    with Celery("any", broker=faces, backend=faces, set_as_current=False) as app:

        def ask(tile: object) -> dict:
            sent = app.send_task("fleet.detect", [image], {"tile": tile}, queue="detect.centerface")
            return sent.get(timeout=60)

        assert ask(640)["tiles"] == ask({"size": 640, "overlap": 0.2})["tiles"] == 6
        with pytest.raises(Exception, match="tile's size is a whole number"):
            ask(10**30)


@pytest.mark.parametrize("device", ["AUTO", "HETERO:CPU"])
def test_a_worker_runs_on_a_device_that_stands_for_others(
    own_server: str, start_worker: StartWorker, samples: Path, device: str
) -> None:
    """Given FLEET_DEVICE, then the worker is ready and finds the face."""
    start_worker(own_server, served="centerface", device=device, precision="f32")

    with Client(own_server) as client:
        (face,) = client.detect(samples / "astronaut.png").detections

    assert face.score > 0.9
