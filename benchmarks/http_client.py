"""A client of a detection server over HTTP: some threads, each with a connection that stays open.

Stage: under :mod:`benchmarks.peers`. The standard library's client: as light as a client in Python is.
"""

import http.client
import itertools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import local

from worker.bench.contender import ContenderError
from worker.bench.engine import Answer
from worker.bench.task import Task

#: Requests under way.
CONNECTIONS = 16

#: Longest wait for the first answer.
READY_WITHIN_S = 90.0

_BOUNDARY = "fleet-bench-7b1d0c"


class Http:
    """A running server; with ``field`` a photo goes as that part of a form, else as the whole body."""

    def __init__(self, port: int, path: str, field: str, pid: int, task: Task) -> None:
        self._port = port
        self._path = path
        self._pid = pid
        kind = f"multipart/form-data; boundary={_BOUNDARY}" if field else "application/octet-stream"
        self._headers = {"Content-Type": kind}
        self._bodies = [_form(field, data) if field else data for data in task.images()]
        self._own = local()
        self._threads = ThreadPoolExecutor(CONNECTIONS)

    def await_ready(self, alive: Callable[[], bool]) -> None:
        """Wait until every photo was answered.

        Raises:
            ContenderError: the server ended, or gives no answer in time.
        """
        until = time.monotonic() + READY_WITHIN_S
        while True:
            try:
                for body in self._bodies:
                    self._ask(body)
                return
            except (OSError, http.client.HTTPException, ContenderError) as error:
                self._own.__dict__.clear()
                if not alive():
                    raise ContenderError("The server ended before it was ready.") from error
                if time.monotonic() > until:
                    raise ContenderError(
                        f"The server did not answer within {READY_WITHIN_S:g} s: {error!r}."
                    ) from error
                time.sleep(0.1)

    def serve(self, count: int) -> None:
        """Send images from all connections and read every answer."""
        numbers = itertools.count()

        def work() -> None:
            while (number := next(numbers)) < count:
                self._ask(self._bodies[number % len(self._bodies)])

        for one in [self._threads.submit(work) for _ in range(CONNECTIONS)]:
            one.result()

    def alone(self, count: int) -> Sequence[float]:
        """Ask for one image after the other."""
        return [self._time_one(body) for body in itertools.islice(itertools.cycle(self._bodies), count)]

    def answers(self) -> Sequence[Answer]:
        """Ask for each photo."""
        return [self._ask(body) for body in self._bodies]

    def processes(self) -> Mapping[str, Sequence[int]]:
        """Name the server; its children are counted with it."""
        return {"worker": [self._pid]}

    def close(self) -> None:
        """End the threads and their connections."""
        self._threads.shutdown()

    def _ask(self, body: bytes) -> Answer:
        reply, content = self._post(body)
        if reply.status != http.client.OK:
            raise ContenderError(f"The server answered {reply.status}: {content[:200]!r}.")
        answer: Answer = json.loads(content)
        return answer

    def _post(self, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        """Ask on this thread's connection; on a new one if the server has closed it meanwhile, as servers do."""
        for connection in (getattr(self._own, "connection", None), None):
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)  # noqa: PLW2901
            try:
                connection.request("POST", self._path, body, self._headers)
                reply = connection.getresponse()
                content = reply.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                problem = error
                continue
            self._own.connection = connection
            return reply, content
        raise ContenderError(f"The server did not answer: {problem!r}.")

    def _time_one(self, body: bytes) -> float:
        began = time.perf_counter()
        self._ask(body)
        return time.perf_counter() - began


def _form(field: str, data: bytes) -> bytes:
    head = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="photo.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    return head.encode() + data + f"\r\n--{_BOUNDARY}--\r\n".encode()
