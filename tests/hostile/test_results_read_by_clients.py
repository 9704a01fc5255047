"""Whatever somebody writes where a client looks for its result: a typed error, and the next job is read as ever."""

import asyncio
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from producer import AsyncClient, Client, FleetError
from producer.errors import BY_CODE
from producer.results import meta_key
from producer.wire import Result
from worker import embedded

GOOD = Result("m", "d", 640, 480, ()).to_json()


def meta(result: Any, status: str = "SUCCESS") -> bytes:
    """Write what Celery would store."""
    return json.dumps({"status": status, "result": result}).encode()


class Canary:
    """Leaves a file behind when it is read by pickle."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self._path,)


def hostile(canary: Path) -> dict[str, bytes]:
    """Make stored outcomes that no worker of ours writes."""
    deep: Any = json.loads("[" * 500 + "]" * 500)
    raised = {"exc_type": "system", "exc_module": "os", "exc_message": [f"touch {canary}"]}
    return {
        "nothing": b"",
        "noise": b"\xff\x00\xfe",
        "pickle": pickle.dumps(Canary(canary)),
        "text": b"hello",
        "list": b"[]",
        "number": b"5",
        "many digits": b"9" * 5000,
        "too deep": b"[" * 100_000,
        "deep result": meta(deep),
        "five megabytes": meta("x" * 5_000_000),
        "status a list": json.dumps({"status": ["SUCCESS"], "result": GOOD}).encode(),
        "no result": b'{"status": "SUCCESS"}',
        "newer": meta(GOOD | {"v": 99}),
        "missing parts": meta({"v": 1}),
        "a path": meta("/etc/passwd"),
        "width a text": meta(GOOD | {"width": "640"}),
        "score not a number": meta(
            GOOD | {"detections": [{"label": "x", "label_id": 0, "score": 1e999, "box": [0] * 4}]}
        ),
        "too many detections": meta(GOOD | {"detections": [{}] * 100_000}),
        "too many in a batch": meta([GOOD] * 10_000),
        "batch of nonsense": meta([None]),
        "os.system": meta(raised, "FAILURE"),
        "error a list": meta([1, 2], "FAILURE"),
        "error without words": meta({"exc_type": 5, "exc_message": {"a": deep}}, "FAILURE"),
        "unknown code": meta({"exc_type": "X", "exc_message": ["sentence", "no_such_code"]}, "FAILURE"),
        "long sentence": meta({"exc_type": "X", "exc_message": ["x" * 1_000_000, "invalid_image"]}, "FAILURE"),
        "revoked oddly": meta({"exc_type": [], "exc_message": [[]]}, "REVOKED"),
    }


def assert_typed(error: FleetError | None, name: str) -> None:
    """The error is one of the contract, and short."""
    assert error is not None, name
    assert BY_CODE[error.code] is type(error), name
    assert len(str(error)) <= 2000, name


@pytest.fixture
def url() -> Any:
    """Give a server of the test's own."""
    with embedded.server() as one:
        yield one


def store(url: str, job_id: str, raw: bytes) -> None:
    """Write and announce an outcome as Celery does."""
    with Redis.from_url(url) as redis:
        redis.set(meta_key(job_id), raw, ex=60)
        redis.publish(meta_key(job_id), raw)


def item_error(job_error: FleetError | None, value: Any) -> FleetError | None:
    """Return the error of a job, or that of the one item of a batch."""
    return job_error if job_error is not None else next((one for one in value if isinstance(one, FleetError)), None)


def test_a_client_reads_any_stored_outcome_as_a_typed_error(url: str, tmp_path: Path) -> None:
    """Given nonsense under its jobs' keys, then each job has its error, and a good one is read after."""
    canary, cases = tmp_path / "canary", hostile(tmp_path / "canary")
    with Client(url, model="m") as client:
        jobs = {name: client.job(f"foreign-{number}") for number, name in enumerate(cases)}
        waiting = {name: job for name, job in jobs.items() if not job.done()}
        for name, job in waiting.items():
            store(url, job.id, cases[name])
        for name, job in waiting.items():
            error = job.error(20)
            assert_typed(item_error(error, None if error else job.result(1)), name)
        store(url, "good", meta(GOOD))
        assert client.job("good").result(20).width == 640
    assert len(waiting) == len(cases)
    assert not canary.exists()


def test_an_asyncio_client_reads_any_stored_outcome_as_a_typed_error(url: str, tmp_path: Path) -> None:
    """Given the same for asyncio, then the same."""
    canary, cases = tmp_path / "canary", hostile(tmp_path / "canary")

    async def main() -> None:
        async with AsyncClient(url, model="m") as client:
            jobs = {name: await client.job(f"foreign-{number}") for number, name in enumerate(cases)}
            for name, job in jobs.items():
                await asyncio.to_thread(store, url, job.id, cases[name])
            for name, job in jobs.items():
                error = await job.error(20)
                assert_typed(item_error(error, None if error else await job.result(1)), name)
            await asyncio.to_thread(store, url, "good", meta(GOOD))
            assert (await (await client.job("good")).result(20)).width == 640

    asyncio.run(main())
    assert not canary.exists()


def test_a_key_of_another_type_is_a_typed_error_by_the_deadline(url: str) -> None:
    """Given a list where the result should be, then waiting ends with an error and not with a lost reader."""
    with Client(url, model="m") as client, Redis.from_url(url) as redis:
        redis.lpush(meta_key("listed"), "x")
        with pytest.raises((TimeoutError, FleetError)):
            client.job("listed").result(1)
        store(url, "good", meta(GOOD))
        assert client.job("good").result(20).width == 640


@pytest.mark.parametrize(
    "described", [b"\xff", b"[]", b'{"seen_at": "x"}', b'{"seen_at": 1e999}', b"[" * 100_000, b'{"seen_at": null}']
)
def test_a_client_that_asks_which_models_there_are_survives_any_description(url: str, described: bytes) -> None:
    """Given nonsense in the hash of models, then a submit is refused with a typed error or goes to that model."""
    with Redis.from_url(url) as redis:
        redis.hset("fleet:models", mapping={b"m": described, b"\xff": b"{}"})
    with Client(url) as client:
        try:
            client.submit(b"\x89PNG\r\n\x1a\n" + bytes(40))
        except FleetError as error:
            assert_typed(error, str(described[:20]))
