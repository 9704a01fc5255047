"""Detectors over tiny real networks, and requests for them."""

import uuid
from collections.abc import Callable
from typing import Any

import cv2

from producer.wire import Options
from tests.hazards import networks
from worker.cpu import Plan
from worker.detecting import Detecting
from worker.detector import Detector
from worker.model_toml import ModelSpec
from worker.network import Network
from worker.outcome import Request

#: Longest wait for what takes milliseconds on a machine that has nothing else to do.
SOON_S = 20.0

PLAN = Plan(threads=2, decoders=2, jobs=8, why=())

#: Opens a detector for networks; ``settings`` by their names.
Open = Callable[..., Detector]


def tiny(build: Any, name: str = "tiny") -> Network:
    """Make a detector of one of the hazard tests' networks; its images are 2x2 pixels."""
    spec = ModelSpec(name, "net.xml", "none", (2, 2), ("thing",))
    return Network(spec, "0" * 16, networks.compiled(build), 2)


def picture(number: int = 0, **how: int) -> dict[str, bytes]:
    """Make an image for :func:`tiny`, inside of the message; see :func:`tests.hazards.networks.tensor`."""
    return {"data": cv2.imencode(".png", networks.tensor(number, **how)[0])[1].tobytes()}


def ask(*images: object, job_id: str | None = None, **options: Any) -> Request:
    """Ask for ``images``; options of the request by their names."""
    job_id = job_id or f"job-{uuid.uuid4().hex}"
    request = {name: options.pop(name) for name in ("model", "deadline") if name in options}
    return Request(images, Options(**options), job_id=job_id, **request)


def finish(detecting: Detecting) -> list[Any]:
    """Wait for a request; give each image's rows or error."""
    return [outcome.error or outcome.rows for outcome in detecting.result(SOON_S)]


def codes(detecting: Detecting) -> list[str]:
    """Wait for a request; give each image's error code, or "" where there is none."""
    return [outcome.error.code if outcome.error else "" for outcome in detecting.result(SOON_S)]
