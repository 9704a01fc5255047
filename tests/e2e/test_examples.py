"""Every example runs: as its own first lines say, against a real fleet."""

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx2 as httpx
import numpy as np
import pytest
from celery import Celery
from fastapi.testclient import TestClient

from tests.e2e.kit import EXAMPLES, FACE, answers, program, run, running
from worker.valkey import free_port


def is_her_face(result: dict[str, Any]) -> bool:
    """Tell whether a result has the one face of the photo."""
    (found,) = result["detections"]
    return all(abs(edge - known) < 12 for edge, known in zip(found["box"], FACE, strict=True))


def test_the_script_of_the_client_prints_every_face(faces: str, samples: Path) -> None:
    """Given examples/client.py, when it gets photos and a missing file, then each is answered."""
    done = run([sys.executable, "client.py", faces, samples / "grace_hopper.jpg", "none.jpg"], faces)
    assert done.returncode == 0, done.stderr
    assert {line.split()[1] for line in done.stdout.splitlines()} == {"face", "invalid_image"}


@pytest.fixture
def web(faces: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """The FastAPI application, running in this process."""
    monkeypatch.setenv("FLEET_URL", faces)
    spec = importlib.util.spec_from_file_location("fastapi_app", EXAMPLES / "fastapi_app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with TestClient(module.app) as client:
        yield client


def test_fastapi_answers_an_upload_with_detections(web: TestClient, samples: Path) -> None:
    """Given the FastAPI example, when a photo is uploaded, then its face comes back; many at once too."""
    photo = (samples / "grace_hopper.jpg").read_bytes()
    for _ in range(3):
        answer = web.post("/detect", files={"photo": ("me.jpg", photo)})
        assert answer.status_code == 200, answer.text
        assert is_her_face(answer.json())


def test_fastapi_says_what_is_wrong_with_an_upload(web: TestClient) -> None:
    """Given a file that is no picture, then status 422 with the code and a sentence."""
    answer = web.post("/detect", files={"photo": ("me.jpg", b"hello, " * 999)})
    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid_image"
    assert web.post("/detect").status_code == 422


def test_fastapi_gives_the_page(web: TestClient) -> None:
    """Given the FastAPI example, then its page is there, and needs nothing from elsewhere."""
    answer = web.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    assert "<title>Faces on photos</title>" in answer.text
    assert "https://" not in answer.text


def test_django_answers_an_upload_with_detections(faces: str, samples: Path, tmp_path: Path) -> None:
    """Given the Django example and its own server, when a photo and a text are uploaded, then 200 and 422."""
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "django_app.py", "runserver", "--noreload", address]
    with running(command, faces, lambda: answers(f"http://{address}/detect"), tmp_path / "log"):
        good = httpx.post(f"http://{address}/detect", files={"photo": (samples / "grace_hopper.jpg").read_bytes()})
        bad = httpx.post(f"http://{address}/detect", files={"photo": b"hello"})
        none = httpx.post(f"http://{address}/detect")
    assert (good.status_code, bad.status_code, none.status_code) == (200, 422, 400)
    assert is_her_face(good.json())
    assert bad.json()["code"] == "invalid_image"


def test_a_celery_application_has_the_fleet_do_a_step(faces: str, samples: Path, tmp_path: Path) -> None:
    """Given the Celery example and its worker, when photos are reviewed, then each goes through the fleet and back."""
    words = ["-A", "celery_app", "worker", "-Q", "shop", "-P", "threads", "-n", "shop@test"]
    command = [program("celery"), *words]
    with (
        Celery(broker=faces, backend=faces) as app,
        running(command, faces, lambda: bool(app.control.ping(["shop@test"], timeout=0.5)), tmp_path / "log"),
    ):
        photos = [samples / "grace_hopper.jpg", samples / "china.jpg"]
        done = run([sys.executable, "celery_app.py", *photos], faces)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{photos[0]}: fit for a passport", f"{photos[1]}: 0 faces, not one"]


def test_the_notebook_runs(faces: str, samples: Path, tmp_path: Path) -> None:
    """Given the notebook, when it is executed, then its cells show the face and a picture with a box."""
    words = [program("jupyter-execute"), EXAMPLES / "notebook.ipynb", "--output", tmp_path / "done.ipynb"]
    photo = str(samples / "grace_hopper.jpg")
    done = run(words, faces, cwd=tmp_path, PHOTO=photo, IPYTHONDIR=str(tmp_path), JUPYTER_PLATFORM_DIRS="1")
    assert done.returncode == 0, done.stderr
    cells = json.loads((tmp_path / "done.ipynb").read_text())["cells"]
    shown = [output["data"] for cell in cells for output in cell.get("outputs", ()) if "data" in output]
    assert "".join(shown[0]["text/plain"]) == "['centerface']"
    assert "".join(shown[1]["text/plain"]).startswith("[('face', 0.")
    assert len(shown[2]["image/png"]) > 100_000
    assert "'infer'" in "".join(shown[3]["text/plain"])


def test_a_film_goes_through_the_fleet_and_every_frame_has_its_face(faces: str, samples: Path, tmp_path: Path) -> None:
    """Given a film in which a face moves, then the box of each frame is where the face is, and the drawn film plays."""
    photo = cv2.imread(str(samples / "grace_hopper.jpg"))
    writer = cv2.VideoWriter(str(tmp_path / "in.mp4"), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 25, (800, 600))
    for number in range(20):
        frame = np.full((600, 800, 3), 90, np.uint8)
        frame[:, number * 10 : number * 10 + 512] = photo
        writer.write(frame)
    writer.release()
    done = run([program("fleet"), "detect", "in.mp4", "--draw", "out.mp4", "--json", "-"], faces, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lefts = [json.loads(line)["result"]["detections"][0]["box"][0] for line in done.stdout.splitlines()]
    assert lefts == pytest.approx([FACE[0] + number * 10 for number in range(20)], abs=15)
    assert cv2.VideoCapture(str(tmp_path / "out.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 20
