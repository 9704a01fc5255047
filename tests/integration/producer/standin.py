"""Stand-ins for workers that store results exactly as Celery does, through its own backend."""

import contextlib
import json
import threading
from collections.abc import Callable
from typing import Any

from celery import Celery
from celery import states as celery_states
from kombu.transport.virtual import Message
from redis import Redis

from producer.wire import Detection, Image, Result, queue_keys

#: The smallest thing that looks like a picture; stand-in workers never decode.
PICTURE = b"\xff\xd8\xff not a real picture"

#: Large enough to travel by itself.
LARGE = PICTURE * 5000


def make_result(width: int = 640, name: str = "stand-in") -> Result:
    """Make a result with one detection."""
    face = Detection("face", 0, 0.9, (1.0, 2.0, 30.5, 40.25), ((5.0, 6.0),))
    return Result("centerface", "0123456789abcdef", width, 480, (face,), {"infer": 1.5}, name)


def connections(redis: Redis) -> list[dict[str, Any]]:
    """List the connections of fleet clients."""
    return [one for one in redis.client_list() if one["name"] == "fleet-client"]


class StandIn:
    """A worker in a thread: takes messages with BRPOP, reads them with kombu, stores with Celery's backend."""

    def __init__(self, url: str, answer: Callable[[dict[str, Any], list[Any], dict[str, Any]], Any]) -> None:
        self.app = Celery("stand-in", broker=url, backend=url)
        self.app.conf.broker_connection_retry_on_startup = True
        self.redis = Redis.from_url(url)
        self.answer = answer
        self.seen: list[tuple[dict[str, Any], list[Any], dict[str, Any]]] = []
        self._stopping = threading.Event()
        self._connection = self.app.connection()
        self._channel = self._connection.channel()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "StandIn":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(10)
        self._connection.close()
        self.app.close()
        self.redis.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(Exception):
                found = self.redis.brpop(list(queue_keys("detect.centerface")), timeout=0.2)
                if found is not None:
                    self.handle(found[1])

    def handle(self, raw: bytes) -> None:
        """Do one message."""
        message = Message(json.loads(raw), channel=self._channel)
        args, kwargs, _ = message.decode()
        self.seen.append((message.headers, args, kwargs))
        try:
            outcome = self.answer(message.headers, args, kwargs)
        except Exception as error:  # noqa: BLE001 - a worker stores whatever its task raises
            self.app.backend.store_result(message.headers["id"], error, celery_states.FAILURE)
        else:
            if outcome is not None:
                self.app.backend.store_result(message.headers["id"], outcome, celery_states.SUCCESS)


def answer_all(headers: dict[str, Any], args: list[Any], _kwargs: dict[str, Any]) -> Any:
    """Answer one image or a batch with the same result."""
    if headers["task"] == "fleet.detect":
        return make_result().to_json()
    return [make_result(width=100 + index).to_json() for index, _ in enumerate(args[0])]


def store(url: str, job_id: str, value: Any, state: str = celery_states.SUCCESS) -> None:
    """Store a result through Celery's own backend."""
    with Celery("store", broker=url, backend=url) as app:
        app.backend.store_result(job_id, value, state)


def numbered(count: int) -> list[bytes]:
    """Make pictures that say which they are."""
    return [PICTURE + b" %d" % number for number in range(count)]


def number_of(image: Any) -> int:
    """Read what a picture says."""
    return int((Image.parse(image).data or b"").rsplit(b" ", 1)[1])


def echo(headers: dict[str, Any], args: list[Any], _kwargs: dict[str, Any]) -> Any:
    """Answer with each picture's number as its width."""
    if headers["task"] == "fleet.detect":
        return make_result(width=number_of(args[0])).to_json()
    return [make_result(width=number_of(image)).to_json() for image in args[0]]
