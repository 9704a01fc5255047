"""Every connection of the fleet can be encrypted, and none accepts a certificate that it cannot check."""

import asyncio
import base64
import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from celery import Celery
from redis import Redis

from producer import AsyncClient, Client, Unreachable
from producer.redis_url import tls_of
from tests.integration.guarded import Guarded
from tests.integration.kit import QUEUE, ROOT, faces, small_picture, spawn
from tests.integration.tls import PROGRAM, new_secrets, proxied, redis_with_tls
from tests.waiting import eventually

SERVERS = [pytest.param(proxied, id="behind a proxy")]
if PROGRAM is not None:
    SERVERS.append(pytest.param(redis_with_tls, id="redis"))


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with an authority, and a certificate of the server's that it signed."""
    return new_secrets(tmp_path_factory.mktemp("tls") / "secrets")


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with another authority."""
    return new_secrets(tmp_path_factory.mktemp("tls") / "strangers")


@pytest.fixture(params=SERVERS)
def guarded(request: pytest.FixtureRequest, tmp_path: Path, secrets: Path) -> Iterator[Guarded]:
    """Give a server that speaks TLS only."""
    start: Callable[..., contextlib.AbstractContextManager[Guarded]] = request.param
    with start(tmp_path, secrets) as running:
        yield running


def test_broker_results_images_sweep_and_clients_work_over_tls(
    guarded: Guarded, store: Path, samples: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Given a server without any other port, then a worker and every kind of client find each other."""
    picture = (samples / "astronaut.png").read_bytes()
    worker = spawn(guarded.url("worker"), store, tmp_path, extra=("-l", "INFO"))
    request.addfinalizer(worker.kill)
    eventually(worker.is_ready, "a ready worker", 60)
    with Client(guarded.url("producer")) as client:
        assert client.detect(picture).detections
        assert all(answer.result for answer in client.map([picture] * 8, batch=2))
    assert asyncio.run(_detect(guarded.url("producer"), picture))
    assert faces(_bare(guarded.url("producer"), small_picture(samples))) == 1
    eventually(lambda: guarded.admin.exists("fleet:sweep"), "a sweep")
    assert worker.stop() == 0
    for trouble in ("sweep_failed", "CERTIFICATE", "Traceback", "no ssl options"):
        assert trouble not in worker.log


async def _detect(url: str, picture: bytes) -> object:
    async with AsyncClient(url) as client:
        return (await client.detect(picture)).detections


def _bare(url: str, picture: bytes) -> object:
    app = Celery("bare", broker=url, backend=url, set_as_current=False)
    app.conf.update(broker_use_ssl=tls_of(url), redis_backend_use_ssl=tls_of(url))
    image = {"data": base64.b64encode(picture).decode()}
    answer = app.send_task("fleet.detect", [image], queue=QUEUE).get(timeout=30)
    app.backend.result_consumer.stop()
    app.backend.result_consumer._pubsub = None
    app.close()
    return answer


#: Each part of a worker that connects, by what it does for it.
PARTS = {
    "broker": "from worker.app import app; app.connection().ensure_connection(max_retries=1)",
    "results": "from worker.app import app; app.backend.client.ping()",
    "images": "from worker import detector, settings; detector.connect(settings.load().url, connections=1).ping()",
    "sweep": "from redis import Redis; from worker.app import app; Redis.from_url(app.conf.result_backend).ping()",
    "Flower": "from worker.monitor import app; app.connection().ensure_connection(max_retries=1)",
}


def _start(part: str, url: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", PARTS[part]]
    return subprocess.Popen(command, env={"FLEET_URL": url}, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def test_no_part_of_a_worker_accepts_a_certificate_it_cannot_check(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, secrets: Path, strangers: Path
) -> None:
    """Given a server of an unknown authority's, or with another host's certificate, then nothing is sent to it."""
    other_path = tmp_path_factory.mktemp("other")
    with proxied(tmp_path, secrets) as guarded, proxied(other_path, secrets, "127.0.0.2") as elsewhere:
        strange = guarded.url("worker").replace(str(secrets), str(strangers))
        expected = {strange: "certificate verify failed", elsewhere.url("worker"): "not valid for '127.0.0.2'"}
        children = {(part, url): _start(part, url) for url in expected for part in PARTS}
        said = {key: child.communicate(timeout=90)[1] for key, child in children.items()}
    assert [key for key, child in children.items() if child.returncode == 0 or expected[key[1]] not in said[key]] == []


def test_clients_refuse_a_certificate_they_cannot_check(
    tmp_path: Path, secrets: Path, strangers: Path, samples: Path
) -> None:
    """Given such a server, then there is an error that says so; so it is without encryption."""
    with proxied(tmp_path, secrets) as guarded:
        url = guarded.url("producer")
        strange = url.replace(str(secrets), str(strangers))
        with Client(strange) as client, pytest.raises(Unreachable, match="certificate verify failed"):
            client.detect(small_picture(samples))
        with pytest.raises(Unreachable, match="certificate verify failed"):
            asyncio.run(_detect(strange, small_picture(samples)))
        plain = url.partition("?")[0].replace("rediss", "redis")
        with Client(plain) as client, pytest.raises(Unreachable):
            client.detect(small_picture(samples))
        with Redis.from_url(url) as redis:
            assert redis.ping()
