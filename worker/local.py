"""A whole fleet on this machine, in the foreground: an embedded Valkey and workers.

Stage: behind ``fleet-worker local``, the demo and the tests. Started: server, workers, then "ready". Stopped the other
way round, because a worker that drains still needs its server.
"""

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from worker import embedded
from worker.health import ready_file
from worker.settings import Settings

#: Longest time for all workers to load their networks.
READY_WITHIN_S = 120.0

#: Linux: the signal a process gets when its parent dies (``prctl(2)``).
_PR_SET_PDEATHSIG = 1


#: A fleet on one's own machine may run as root; Celery's warning is for servers.
_QUIET = "ignore:You're running the worker with superuser privileges"


class LocalError(Exception):
    """The local fleet could not be started; the message says why."""


class Fleet(NamedTuple):
    """A running local fleet: the server's URL and the worker processes."""

    url: str
    workers: "list[subprocess.Popen[bytes]]"


@contextmanager
def fleet(settings: Settings, *, workers: int = 1, port: int = 0, extra: Sequence[str] = ()) -> Iterator[Fleet]:
    """Run a server and ``workers`` workers for the length of the block; give both once they are ready.

    Args:
        settings: of the workers; their URL is the embedded server's.
        workers: number of worker processes.
        port: of the server; 0 means any free one.
        extra: more arguments for ``celery worker``.

    Raises:
        LocalError: a worker ended or was not ready in time.
        embedded.ServerError: the server did not start.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fleet-")))
        url = stack.enter_context(embedded.server(port))
        started: list[subprocess.Popen[bytes]] = []
        stack.callback(stop, started, settings.drain_s + 10)
        signs = [folder / f"worker-{number}.health" for number in range(1, workers + 1)]
        for number, sign in enumerate(signs, start=1):
            environ = {
                "FLEET_URL": url,
                "FLEET_MODELS": ",".join(settings.models),
                "FLEET_MODEL_STORE": str(settings.model_store),
                "FLEET_HEALTH_FILE": str(sign),
            }
            if settings.metrics_port:
                environ["FLEET_METRICS_PORT"] = str(settings.metrics_port + number - 1)
            started.append(start_worker(f"local{number}@%h", environ, extra=extra))
        await_ready(started, signs)
        yield Fleet(url, started)


def start_worker(
    name: str, environ: Mapping[str, str], *, extra: Sequence[str] = (), output: IO[bytes] | None = None
) -> "subprocess.Popen[bytes]":
    """Start one worker process in a session of its own, so that Ctrl-C reaches only whoever stops it in order.

    What it writes goes to ``output``, or to this process's stderr.
    """
    command = [sys.executable, "-P", "-m", "worker", "-n", name]
    if not any(word in ("-l", "--loglevel") for word in extra):
        command += ["-l", "WARNING"]
    return subprocess.Popen(  # noqa: S603 - our own command
        [*command, *extra],
        env={"PYTHONWARNINGS": _QUIET, **os.environ, **environ},
        stdin=subprocess.DEVNULL,
        stdout=output or sys.stderr,
        stderr=output,
        start_new_session=True,
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - no threads run yet
    )


def await_ready(processes: Sequence["subprocess.Popen[bytes]"], signs: Sequence[Path]) -> None:
    """Wait until every worker is ready: its networks answer, and Redis knows which they are.

    Raises:
        LocalError: a worker ended, or one was not ready in time.
    """
    until = time.monotonic() + READY_WITHIN_S
    while not all(ready_file(sign).exists() for sign in signs):
        for process in processes:
            if process.poll() is not None:
                raise LocalError(f"A worker ended with status {process.returncode} before it was ready; see above.")
        if time.monotonic() > until:
            raise LocalError(f"The workers were not ready within {READY_WITHIN_S:g} s.")
        time.sleep(0.05)


def stop(processes: Sequence["subprocess.Popen[bytes]"], within_s: float) -> None:
    """Ask every process to drain and end; kill what does not within ``within_s`` seconds."""
    for process in processes:
        process.terminate()
    until = time.monotonic() + within_s
    for process in processes:
        try:
            process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until_stopped(processes: Sequence["subprocess.Popen[bytes]"] = ()) -> None:
    """Return at SIGINT or SIGTERM, or when one of ``processes`` has ended."""
    told = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told.set())
    while not told.wait(0.5):
        if any(process.poll() is not None for process in processes):
            return


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
