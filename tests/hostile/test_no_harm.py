"""What no message makes a worker do: unpickle, read files, call anybody, import, touch a stranger's keys."""

import base64
import pickle
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from producer import wire
from tests.hostile.conftest import Victim
from tests.integration.kit import USERS

#: What may stand in a command of the worker's as a key, or begin one.
OWN_KEYS = re.compile(
    r"(celery-task-meta-|fleet:|detect\.|_kombu\.|unacked|/0\.|celeryev|celery@|fleet\b|[0-9a-f-]+\.reply\.)"
)

#: Commands without keys of anybody's.
KEYLESS = {
    "EVAL",
    "EVALSHA",
    "PING",
    "TIME",
    "MULTI",
    "EXEC",
    "WATCH",
    "UNWATCH",
    "CLIENT",
    "HELLO",
    "SCRIPT",
    "SELECT",
    "INFO",
}


class Canary:
    """Leaves a file behind when it is read by pickle."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self._path,)


def test_nothing_is_ever_unpickled(victim: Victim, tmp_path: Path) -> None:
    """Given a pickle that would leave a file behind, in every place of a message, then there is no file."""
    maker, canary = victim.maker(11), tmp_path / "unpickled"
    data = pickle.dumps(Canary(canary))
    pickle.loads(data)  # noqa: S301 - it does what it should
    canary.unlink()
    text = base64.b64encode(data).decode()
    for kind in ("application/x-python-serialize", "application/json", "application/x-msgpack", "application/data", ""):
        job_id = maker.job_id()
        message = maker.good(job_id) | {"body": text, "content-type": kind, "content-encoding": "binary"}
        assert victim.refused(maker.case(kind, job_id, message)) == "invalid_request"
    victim.push([data])
    victim.fleet.redis.set(f"{wire.BLOB_PREFIX}pickle", data)
    for image in ({"data": text}, {"ref": f"{wire.BLOB_PREFIX}pickle"}):
        assert victim.fleet.detect(image).get(timeout=30, propagate=False).args[1] == "invalid_image"
    assert not canary.exists()


def test_the_worker_s_accept_content_is_closed(victim: Victim) -> None:
    """Given a worker, then it says itself that it reads JSON and msgpack, and results as JSON only."""
    conf = victim.fleet.inspect("conf")
    assert conf["accept_content"] == ["json", "msgpack"]
    assert conf["result_accept_content"] == ["json"]


@contextmanager
def listener() -> Iterator[socket.socket]:
    """Listen on a port on which nobody should call."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        one.settimeout(0.2)
        yield one


def test_no_image_makes_the_worker_read_a_file_or_fetch_a_url(victim: Victim, tmp_path: Path) -> None:
    """Given paths and URLs where an image's bytes or key belong, then they are refused and nobody is called."""
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(victim.fleet.picture)
    with listener() as port:
        url = f"http://127.0.0.1:{port.getsockname()[1]}/photo.jpg"
        places = [str(photo), f"file://{photo}", url, url.replace("http", "redis"), "../../etc/passwd"]
        for place in places:
            for image in (place, {"ref": place}, {"data": place}, {"url": place}, {"path": place}):
                error = victim.fleet.detect(image).get(timeout=30, propagate=False)
                assert error.args[1] in ("payload_missing", "invalid_image", "invalid_request"), image
        svg = f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{url}"/></svg>'.encode()
        victim.fleet.redis.set(f"{wire.BLOB_PREFIX}svg", svg)
        error = victim.fleet.detect({"ref": f"{wire.BLOB_PREFIX}svg"}).get(timeout=30, propagate=False)
        assert error.args[1] == "invalid_image"
        with pytest.raises(TimeoutError):
            port.accept()


def test_no_name_makes_the_worker_import_a_module(victim: Victim) -> None:
    """Given a module of the standard library that no worker loads, named as task, kind and type, it stays unloaded."""
    maker = victim.maker(12)
    named = {"exc_module": "antigravity", "exc_type": "x", "__type__": "antigravity"}
    for name in ("antigravity", "antigravity.x", "antigravity:x"):
        job_id = maker.job_id()
        message = maker.good(job_id, task=name)
        assert victim.refused(maker.case(name, job_id, message)) == "invalid_request"
        signature = {"task": name, "subtask_type": name, "options": {"serializer": name, "router": name}, **named}
        job_id = maker.job_id()
        message = maker.good(job_id) | {
            "body": [[victim.fleet.image], {}, {"callbacks": [signature], "chord": signature}]
        }
        assert victim.refused(maker.case(name, job_id, message)) == "invalid_request"
    loaded = victim.fleet.app.send_task("spy.modules", queue=USERS).get(timeout=30)
    assert "celery" in loaded
    assert "antigravity" not in loaded


def test_the_worker_touches_no_key_that_is_not_the_fleet_s_or_celery_s(victim: Victim) -> None:
    """Given messages that name a stranger's keys everywhere, then Redis sees no command of the worker's with one."""
    redis, maker = victim.fleet.redis, victim.maker(13)
    redis.rpush("stranger", "x")
    redis.rpush("celery-task-meta-stranger", "x")
    cases = []
    for place in ("stranger", "fleet:jobs", "unacked", "celery-task-meta-stranger", "*"):
        for where in ("exchange", "routing_key"):
            message = maker.good(maker.job_id())
            message["properties"]["delivery_info"][where] = place
            message["headers"]["eta"] = (datetime.now(UTC) + timedelta(seconds=0.5)).isoformat()
            cases.append(maker.case(where, None, message).item)
        for header in ("id", "root_id", "parent_id", "group"):
            message = maker.good(maker.job_id())
            message["headers"][header] = f"/../{place} "
            cases.append(maker.case(header, None, message).item)
        for image in ({"ref": place}, {"ref": f"fleet:blob:../{place}"}, {"ref": f"{place}\nfleet:blob:x"}):
            job_id = maker.job_id()
            cases.append(maker.case("ref", job_id, maker.good(job_id) | {"body": [[image], {}, {}]}).item)
        for option in ("queue", "exchange", "routing_key"):
            job_id = maker.job_id()
            embed = {"callbacks": [{"task": "fleet.detect", "args": [], "options": {option: place + ":x"}}]}
            cases.append(
                maker.case("sent", job_id, maker.good(job_id) | {"body": [[victim.fleet.image], {}, embed]}).item
            )
    with redis.monitor() as monitor:
        victim.push(cases)
        redis.echo("the end")
        seen = _until_echo(monitor)
    assert len(seen) > 200
    strange = [command for command in seen if not _is_own(command)]
    assert not strange
    assert redis.lrange("stranger", 0, -1) == ["x"]
    assert redis.lrange("celery-task-meta-stranger", 0, -1) == ["x"]
    redis.delete("stranger", "celery-task-meta-stranger")
    victim.assert_well()


def _until_echo(monitor: Any) -> list[list[str]]:
    """Read what Redis did until the test's own ECHO, split into words."""
    seen = []
    for heard in monitor.listen():
        if heard["command"].upper().startswith("ECHO") and heard["client_type"] != "lua":
            return seen
        seen.append(heard["command"].split(" "))
    return seen


def _is_own(words: list[str]) -> bool:
    """Tell whether a command's first key is one that the worker may touch; a script's commands are seen one by one."""
    if words[0].upper() == "BLMPOP":  # timeout, number of keys, keys, RIGHT COUNT n
        return all(OWN_KEYS.match(key) for key in words[3 : 3 + int(words[2])])
    return words[0].upper() in KEYLESS or len(words) < 2 or bool(OWN_KEYS.match(words[1]))
