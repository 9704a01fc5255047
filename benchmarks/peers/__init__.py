"""Other servers as contenders, each in an environment of its own below ``.venv/peers``, made on demand.

Stage: beside :mod:`benchmarks.celery_alone`. A peer is a folder here: ``server.py``, pinned ``requirements.txt``.
All run the same graph, one thread and one stream in a process per core, by :mod:`worker.bench.engine`.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import venv
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import celery_alone, processes
from benchmarks.http_client import Http
from worker.bench.contender import Contender, ContenderError, Kind
from worker.bench.task import Task

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ENVIRONMENTS = ROOT / ".venv" / "peers"

#: How BentoML is started; the others have a script.
BENTOML = ("-m", "bentoml", "serve", "server:Detect", "--port", "{port}", "--host", "127.0.0.1")

#: Ray reports nothing home, and asks its own processes on this host for no token.
RAY = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}

#: What all but one of them lack.
NOT_DURABLE = "no durable queue: requests die with the process"


@dataclass(frozen=True, slots=True)
class HttpPeer:
    """A server that takes a JPEG over HTTP and gives the boxes as JSON."""

    kind: Kind
    folder: str
    path: str
    field: str = ""
    command: Sequence[str] = ("server.py",)

    @contextmanager
    def open(self, task: Task) -> Iterator[Http]:
        """Start the server in its environment; it is ready when it has answered for every photo."""
        python = environment(self.folder)
        port = _free_port()
        with ExitStack() as stack:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fleet-bench-")))
            log = stack.enter_context((scratch / "peer.log").open("wb"))
            words = [word.format(port=port) for word in self.command]
            process = subprocess.Popen(
                [python, *words],
                cwd=HERE / self.folder,
                env=_environ(task, python, port, scratch),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            stack.callback(processes.end, process)
            server = Http(port, self.path, self.field, process.pid, task)
            stack.callback(server.close)
            try:
                server.await_ready(lambda: process.poll() is None)
            except ContenderError as error:
                raise ContenderError(f"{error} {(scratch / 'peer.log').read_text(errors='replace')[-800:]}") from error
            yield server


@dataclass(frozen=True, slots=True)
class CeleryBatches:
    """Celery 5.6 with celery-batches: messages one by one, worked on many at a time."""

    kind: Kind

    @contextmanager
    def open(self, task: Task) -> Iterator[celery_alone.Running]:
        """Run it in its own environment; its module stands alone there, for this package needs more."""
        worker = ["-m", "celery", "-A", "server", "worker", "-l", "WARNING", "-P", "prefork", "-c", str(task.cores)]
        path = os.pathsep.join([str(ROOT), str(HERE / "celery_batches")])
        with celery_alone.served([environment("celery_batches"), *worker], task, {"PYTHONPATH": path}) as running:
            yield running


@dataclass(frozen=True, slots=True)
class RayServe:
    """Ray Serve's asynchronous inference, asked as any Celery program would."""

    kind: Kind

    @contextmanager
    def open(self, task: Task) -> Iterator[celery_alone.Running]:
        """Run it in its own environment."""
        command = [environment("ray_serve"), str(HERE / "ray_serve" / "server.py")]
        with celery_alone.served(command, task, RAY) as running:
            yield running


def contenders() -> list[Contender]:
    """List the peers."""
    return [
        HttpPeer(
            Kind("mosec", "peer", note=NOT_DURABLE),
            "mosec",
            "/inference",
            command=("server.py", "--port", "{port}", "--address", "127.0.0.1", "--timeout", "60000"),
        ),
        HttpPeer(Kind("LitServe", "peer", note=NOT_DURABLE), "litserve", "/predict", "image"),
        HttpPeer(Kind("BentoML", "peer", note=NOT_DURABLE), "bentoml", "/detect", "image", BENTOML),
        RayServe(Kind("Ray Serve, asynchronous", "peer", durable=True, note="Celery and Redis underneath")),
        CeleryBatches(
            Kind("celery-batches", "peer", note="acknowledges late; a batch that raises leaves callers waiting")
        ),
    ]


def environment(name: str) -> str:
    """Return the Python of the peer's environment, made from its pinned requirements if they have changed.

    Raises:
        ContenderError: it cannot be installed here.
    """
    folder, wanted = ENVIRONMENTS / name, HERE / name / "requirements.txt"
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    if stamp.exists() and stamp.read_bytes() == wanted.read_bytes():
        return str(python)
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    options = ["--quiet", "--disable-pip-version-check", "--require-hashes", "-r", str(wanted)]
    run = subprocess.run([python, "-m", "pip", "install", *options], capture_output=True, text=True, check=False)
    if run.returncode:
        raise ContenderError(f"It cannot be installed here: {run.stderr.strip()[-300:]}")
    shutil.copy(wanted, stamp)
    return str(python)


def _environ(task: Task, python: str, port: int, scratch: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PATH": f"{Path(python).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(scratch),
        "BENCH_TASK": str(task.folder),
        "BENCH_PORT": str(port),
    }


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
