"""A fleet of one on this computer: ``fleet-worker local`` as a child process, with its own embedded server.

Stage: what ``fleet detect --local`` puts before everything else. The child prints one line, ``ready <url>``; this
package never imports the worker's.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

#: Seconds that the child gets to finish after SIGINT.
STOP_TIMEOUT_S = 45.0

#: Linux: the signal a process gets when its parent dies (``prctl(2)``).
_PR_SET_PDEATHSIG = 1


class LocalFleetError(Exception):
    """The local fleet did not start."""


@contextmanager
def local_fleet(model: str | None) -> Iterator[str]:
    """Start a worker with its own server, give its URL, and stop it at the end.

    Raises:
        LocalFleetError: there is no ``fleet-worker``, or it ended before it was ready.
    """
    command = [_program(), "local", *(["--model", model] if model else [])]
    with tempfile.TemporaryFile() as log:
        # A session of its own: Ctrl-C must reach us first, so that jobs are cancelled before their worker goes.
        process = subprocess.Popen(  # noqa: S603 - the program of this very package
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - no threads run yet
        )
        try:
            yield _wait_ready(process, log)
        finally:
            _stop(process)


def _die_with_parent() -> None:
    """A terminal that is closed, or a SIGKILL, ends us without a word to the child: the kernel tells it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


def _program() -> str:
    """Find ``fleet-worker``: beside this Python first, then on the PATH."""
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    found = shutil.which("fleet-worker", path=os.pathsep.join(places))
    if found is None:
        raise LocalFleetError(
            '--local needs fleet-worker, which is not installed: pip install "detection-fleet[local]"'
        )
    return found


def _wait_ready(process: "subprocess.Popen[str]", log: IO[bytes]) -> str:
    for line in process.stdout or ():
        word, _, url = line.strip().partition(" ")
        if word == "ready" and url:
            return url
    status = process.wait()
    log.seek(0)
    said = log.read().decode("utf-8", "replace").strip().splitlines()[-5:]
    raise LocalFleetError("\n".join([f"fleet-worker ended with status {status} before it was ready.", *said]))


def _stop(process: "subprocess.Popen[str]") -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        # Closes the child's stdin too, which says the same to a child that missed the signal.
        process.communicate(timeout=STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.terminate()
        try:
            process.communicate(timeout=STOP_TIMEOUT_S / 4)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
