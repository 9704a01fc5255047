"""What the worker's unit tests share: real networks, compiled once, and the pictures that they look at."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openvino as ov
import pytest
from redis import Redis

from tests import photos
from tests.unit.worker.detectors import PLAN, Open
from tests.unit.worker.recognising import Save
from worker import decode, models, network
from worker.cpu import Plan
from worker.detector import Detector
from worker.network import Network
from worker.settings import Settings

#: Limits that all good pictures keep.
LIMITS = decode.Limits(max_bytes=32 * 1024 * 1024, max_pixels=64_000_000)

#: Gives a model by its name and precision, compiled once a run.
Load = Callable[..., Network]


@pytest.fixture(scope="session")
def load(store: Path) -> Load:
    """Compile a known model for two threads; the same one for the same arguments."""

    @functools.cache
    def once(name: str, precision: str = "f32") -> Network:
        spec, path = models.read(name, store)
        return network.load(spec, path, Settings(precision=precision), 2)

    return once


@pytest.fixture(scope="session")
def pictures(samples: Path) -> dict[str, photos.Photo]:
    """Every good picture: encoded bytes and upright (width, height)."""
    return photos.build(samples)


@pytest.fixture(scope="session")
def decoded(pictures: dict[str, photos.Photo]) -> Callable[[str], decode.Pixels]:
    """Give a good picture's pixels."""
    return functools.cache(lambda name: decode.decode(pictures[name][0], LIMITS))


@pytest.fixture
def start(server: str) -> Iterator[Open]:
    """Open detectors on the private server; they are closed at the end."""
    opened: list[Detector] = []

    def begin(*found: Network, plan: Plan = PLAN, **settings: Any) -> Detector:
        opened.append(Detector(found, Settings(**{"url": server, "requests": 2, **settings}), plan))
        return opened[-1]

    yield begin
    for one in opened:
        one.close()


@pytest.fixture
def connection(server: str) -> Iterator[Redis]:
    """A connection to the private server."""
    with Redis.from_url(server) as redis:
        yield redis


@pytest.fixture
def face(pictures) -> bytes:
    """A photo with one face, small enough to travel inside of the message."""
    return pictures["grace_hopper"][0]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Write a network as IR, with notes in it if any are given."""

    def write(model: ov.Model, **notes: Any) -> Path:
        for key, value in notes.items():
            model.set_rt_info(value, ["model_info", key])
        ov.save_model(model, tmp_path / "net.xml", compress_to_fp16=False)
        return tmp_path / "net.xml"

    return write
