"""Each of Redis's users may do what the fleet needs of it, and nothing else; passwords are shown nowhere."""

import asyncio
import base64
import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
from celery import Celery, chord
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from producer import AsyncClient, Client, Unreachable, dead
from producer.replay import replay
from producer.status import read_status
from tests.integration.forbidden import TO_ALL, TO_FLOWER, TO_PRODUCERS
from tests.integration.guarded import PASSWORD, USERS, Guarded, guarded_server
from tests.integration.kit import QUEUE, ROOT, USER_TASKS, Worker, faces, small_picture, spawn
from tests.waiting import eventually

META = "celery-task-meta-"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Give the server."""
    with guarded_server(tmp_path_factory.mktemp("acl")) as running:
        yield running


@pytest.fixture(scope="module")
def worker(guarded: Guarded, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """Give a worker, which says all it can."""
    extra = (*USER_TASKS, "-l", "DEBUG")
    running = spawn(guarded.url("worker"), store, tmp_path_factory.mktemp("worker"), extra=extra)
    eventually(running.is_ready, "a ready worker", 60)
    yield running
    running.stop()


@pytest.fixture
def unused_port() -> int:
    """Give a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def as_user(guarded: Guarded) -> Iterator[Any]:
    """Connect as a user."""
    made: list[Redis] = []

    def connect(user: str) -> Redis:
        made.append(Redis.from_url(guarded.url(user), decode_responses=True, socket_timeout=5))
        return made[-1]

    yield connect
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def bare(guarded: Guarded) -> Iterator[Celery]:
    """Give a Celery program of the producer's, without a line of ours."""
    app = Celery("bare", broker=guarded.url("producer"), backend=guarded.url("producer"), set_as_current=False)
    yield app
    app.backend.result_consumer.stop()
    app.backend.result_consumer._pubsub = None
    app.close()


def test_our_clients_are_refused_nothing_but_to_hear_everybody(guarded: Guarded, worker: Worker, samples: Path) -> None:
    """Given the producer's user, then all that clients do works, and each listens to its own jobs only."""
    picture = (samples / "astronaut.png").read_bytes()
    guarded.admin.acl_log_reset()
    with Client(guarded.url("producer")) as client, Client(guarded.url("producer")) as other:
        assert client.detect(picture).detections
        assert all(answer.result for answer in client.map([picture] * 12, batch=3, window=6))
        job = client.submit(picture, priority=9)
        assert other.job(job.id).result(30).detections
        job.cancel()
        assert worker.process.poll() is None
        assert asyncio.run(_detect(guarded.url("producer"), picture))
    assert {user for user, _ in guarded.refused()} == {"producer"}
    assert all(what.startswith(META) and what.endswith("-*") for _, what in guarded.refused())


async def _detect(url: str, picture: bytes) -> Any:
    async with AsyncClient(url) as client:
        return (await client.detect(picture)).detections


def test_a_bare_celery_program_is_refused_nothing(
    guarded: Guarded, worker: Worker, bare: Celery, samples: Path
) -> None:
    """Given the producer's user, then sending, waiting, forgetting, revoking and chords work as ever."""
    image = {"data": base64.b64encode(small_picture(samples)).decode()}
    guarded.admin.acl_log_reset()
    plain = bare.send_task("fleet.detect", [image], queue=QUEUE, priority=6, countdown=0.1)
    assert faces(plain.get(timeout=30)) == 1
    plain.forget()
    bare.send_task("fleet.detect", [image], queue=QUEUE, countdown=60).revoke(terminate=True)
    one = bare.signature("fleet.detect", args=[image], queue=QUEUE, app=bare)
    both = chord([one, one], bare.signature("user.echo", queue=QUEUE, app=bare), app=bare).apply_async()
    assert [faces(each) for each in both.get(timeout=30)[0]] == [1, 1]
    assert guarded.refused() == set()


def test_the_operator_is_refused_nothing(guarded: Guarded, worker: Worker, as_user: Any) -> None:
    """Given a buried job, then the operator lists, looks and drops, and asks the workers."""
    guarded.admin.acl_log_reset()
    operator = Redis.from_url(guarded.url("operator"))
    with closing(operator), Redis.from_url(guarded.url("worker")) as redis:
        redis.set("fleet:blob:buried", b"pixels", ex=600)
        dead.add(redis, dead.DeadJob("buried", "fleet.detect", QUEUE, [{"ref": "fleet:blob:buried"}], {}, "x", "y"))
        assert dead.read(operator, "buried") in list(dead.read_all(operator))
        assert operator.get("fleet:blob:buried") == b"pixels"
        replay(operator, dead.read(operator, "buried"), deadline_s=60)
        dead.add(redis, dead.DeadJob("hopeless", "fleet.detect", QUEUE, [{"data": "eA=="}], {}, "x", "y"))
        dead.drop(operator, dead.read(operator, "hopeless"))
        eventually(lambda: worker.name in read_status(operator).workers, "the worker's own word")
    app = Celery("operator", broker=guarded.url("operator"), set_as_current=False)
    assert worker.name in eventually(lambda: app.control.inspect(timeout=1).stats(), "an answer")
    app.close()
    assert guarded.refused() == set()


@pytest.mark.parametrize("command", TO_PRODUCERS)
def test_a_producer_reads_nothing_of_others_and_writes_only_its_own(
    guarded: Guarded, as_user: Any, command: str
) -> None:
    """Given what a curious or careless client may try, then Redis refuses it."""
    guarded.admin.set("fleet:blob:secret", "pixels")
    with pytest.raises(NoPermissionError):
        as_user("producer").execute_command(*command.split())


@pytest.mark.parametrize("command", ["GET", "GETRANGE", "DUMP", "LRANGE", "HGETALL"])
def test_a_producers_script_may_do_no_more_than_the_producer(guarded: Guarded, as_user: Any, command: str) -> None:
    """Given a script, by which clients send their jobs, then it is refused what its author is."""
    script = (
        "return redis.call(ARGV[1], KEYS[1], 0, 9)" if "RANGE" in command else "return redis.call(ARGV[1], KEYS[1])"
    )
    for key in ("fleet:blob:secret", "fleet:jobs", "detect.x"):
        with pytest.raises(ResponseError, match="ACL failure"):
            as_user("producer").eval(script, 1, key, command)


@pytest.mark.parametrize("user", [*USERS, "health"])
@pytest.mark.parametrize("command", TO_ALL)
def test_no_user_is_an_administrator(guarded: Guarded, as_user: Any, user: str, command: str) -> None:
    """Given any of the fleet's passwords, then Redis itself cannot be changed or looked through with it."""
    with pytest.raises(NoPermissionError):
        as_user(user).execute_command(*command.split())


@pytest.mark.parametrize("command", TO_FLOWER)
def test_flower_sees_neither_images_nor_results_and_sends_no_job(as_user: Any, command: str) -> None:
    """Given the password of the one service that people reach with a browser, then it is worth little."""
    with pytest.raises(NoPermissionError):
        as_user("flower").execute_command(*command.split())


def test_without_a_password_nobody_is_let_in(guarded: Guarded, samples: Path) -> None:
    """Given no password or a wrong one, then there is an error that says so, with no password in it."""
    url = guarded.url("producer")
    for wrong in (url.replace(f"producer:producer{PASSWORD}@", ""), url.replace(PASSWORD, "-guess")):
        with Client(wrong) as client, pytest.raises(Unreachable, match="user and password") as caught:
            client.detect(small_picture(samples))
        assert "-guess" not in str(caught.value)
        with pytest.raises(AuthenticationError), Redis.from_url(wrong) as redis:
            redis.ping()


def test_passwords_are_neither_in_logs_nor_in_ps_nor_in_what_workers_tell(guarded: Guarded, worker: Worker) -> None:
    """Given a worker that logs everything and tells everything, then the password is not in it."""
    app = Celery("operator", broker=guarded.url("operator"), set_as_current=False)
    ask = app.control.inspect(timeout=5, destination=[worker.name])
    told = [eventually(ask.conf, "conf"), eventually(ask.stats, "stats"), eventually(ask.report, "report")]
    app.close()
    assert "127.0.0.1" in json.dumps(told)
    assert PASSWORD not in json.dumps(told)
    assert "redis://worker:**@" in worker.log
    assert PASSWORD not in worker.log
    for process in (worker.process.pid, *(child.pid for child in psutil.Process(worker.process.pid).children())):
        assert PASSWORD not in " ".join(psutil.Process(process).cmdline())


def test_flower_works_with_its_user_behind_a_password_and_shows_none(
    guarded: Guarded, worker: Worker, samples: Path, tmp_path: Path, unused_port: int
) -> None:
    """Given Flower as compose runs it, then it lists the worker and the task, and no page has a secret or an image."""
    guarded.admin.acl_log_reset()
    secret = tmp_path / "flower.url"
    secret.write_text(guarded.url("flower") + "\n")
    environ = {"FLEET_URL_FILE": str(secret), "FLOWER_BASIC_AUTH": "me:word", "FLOWER_UNAUTHENTICATED_API": "false"}
    command = [sys.executable, "-m", "celery", "-A", "worker.monitor", "flower", "--address=127.0.0.1"]
    log = tmp_path / "flower.log"
    with (
        log.open("wb") as out,
        subprocess.Popen(
            [*command, f"--port={unused_port}"], cwd=ROOT, env={**os.environ, **environ}, stdout=out, stderr=out
        ) as flower,
    ):
        page = _Pages(unused_port)
        try:
            eventually(lambda: page("/healthcheck"), "flower")
            assert page("/api/tasks", user=None) is None
            assert page("/", user="me:guess") is None
            eventually(lambda: worker.name in (page("/api/workers?refresh=1") or ""), "the worker")
            with Client(guarded.url("producer")) as client:
                client.detect(samples / "astronaut.png")
            eventually(lambda: "astronaut.png" in (page("/api/tasks") or ""), "the task")
            seen = [page(path) for path in ("/", "/tasks", "/broker", f"/worker/{worker.name}", "/api/tasks")]
        finally:
            flower.terminate()
        assert not [one for one in seen if one is None or PASSWORD in one or "base64" in one]
        assert PASSWORD not in " ".join(command)
    assert PASSWORD not in log.read_text()
    assert {user for user, _ in guarded.refused()} <= {"producer"}


class _Pages:
    def __init__(self, port: int) -> None:
        self._port = port

    def __call__(self, path: str, user: str | None = "me:word") -> str | None:
        """Give a page's text, or None when it is not to be had."""
        headers = {"Authorization": "Basic " + base64.b64encode(user.encode()).decode()} if user else {}
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)) as connection:
            try:
                connection.request("GET", path, headers=headers)
                reply = connection.getresponse()
                return reply.read().decode() if reply.status == 200 else None
            except OSError:
                return None


@pytest.mark.parametrize(
    "words", [["status"], ["top", "--once"], ["dead", "list"], ["autoscale", "--dry-run", "1", "--once"]]
)
def test_a_producer_who_wants_to_watch_is_told_whom_to_be(guarded: Guarded, words: list[str]) -> None:
    """Given the URL for sending jobs, when somebody looks at the fleet with it, then a sentence names the operator."""
    environ = {**os.environ, "FLEET_URL": guarded.url("producer")}
    command = [Path(sys.executable).with_name("fleet"), *words]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "be `operator`" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_operator_may_watch_and_a_worker_may_tell_all_its_figures(
    guarded: Guarded, worker: Worker, unused_port: int, store: Path, tmp_path: Path
) -> None:
    """Given a worker with metrics, when an operator looks with `fleet top`, then nobody is refused anything."""
    watched = spawn(guarded.url("worker"), store, tmp_path, "watched", metrics_port=unused_port)
    eventually(watched.is_ready, "a ready worker", 60)
    guarded.admin.acl_log_reset()
    command = [str(Path(sys.executable).with_name("fleet")), "top", "--once", "--interval", "1"]
    environ = {**os.environ, "FLEET_URL": guarded.url("operator"), "COLUMNS": "120"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=True)
    asked = http.client.HTTPConnection("127.0.0.1", unused_port, timeout=10)
    asked.request("GET", "/metrics")
    figures = asked.getresponse().read().decode()
    asked.close()
    watched.stop()
    assert watched.name in done.stdout
    assert "no events yet" not in done.stdout
    assert "\nfleet_redis_up 1.0\n" in figures
    assert "\nfleet_redis_memory_used_bytes " in figures
    assert {one for one in guarded.refused() if one[0] in USERS} == set()
