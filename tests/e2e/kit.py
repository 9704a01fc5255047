"""Programs that these tests start as a user would, and wait for."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx

from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"

#: Where grace_hopper.jpg has her face, to a few pixels.
FACE = (174, 128, 358, 334)


def answers(url: str) -> bool:
    """Tell whether a web server is there."""
    try:
        httpx.get(url, timeout=5)
    except httpx.TransportError:
        return False
    return True


def program(name: str) -> str:
    """Give the path of a command that is installed beside this Python."""
    return str(Path(sys.executable).with_name(name))


def run(
    command: Sequence[object], url: str, *, cwd: Path = EXAMPLES, **more: str
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end."""
    words, environ = [str(word) for word in command], {**os.environ, "FLEET_URL": url, **more}
    return subprocess.run(words, cwd=cwd, env=environ, capture_output=True, text=True, timeout=100, check=False)


@contextmanager
def running(
    command: Sequence[object], url: str, ready: Callable[[], bool], log: Path, *, cwd: Path = EXAMPLES, **more: str
) -> Iterator[None]:
    """Run a server for the length of the block, from when it is ``ready``."""
    words = [str(word) for word in command]
    environ = {**os.environ, "FLEET_URL": url, "PYTHONUNBUFFERED": "1", **more}
    with log.open("wb") as said, subprocess.Popen(words, cwd=cwd, env=environ, stdout=said, stderr=said) as process:
        try:

            def is_ready() -> bool:
                assert process.poll() is None, log.read_text()
                return ready()

            eventually(is_ready, f"a server that is ready ({log})", 60)
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
