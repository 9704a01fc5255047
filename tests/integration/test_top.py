"""`fleet top` shows what the fleet does while it does it."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from producer.wire import WORKERS_KEY
from tests.integration.kit import QUEUE, Fleet
from tests.waiting import eventually

FLEET = str(Path(sys.executable).with_name("fleet"))

#: The size that a terminal has unless somebody made it larger.
SIZE = {"COLUMNS": "80", "LINES": "24", "TERM": "xterm-256color"}


class Terminal:
    """A terminal in which a command runs; remembers all that was written to it."""

    def __init__(self, *command: str) -> None:
        ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, **SIZE}, start_new_session=True
        )
        os.close(theirs)
        self._ours = ours
        self._seen = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # at its end
            while data := os.read(self._ours, 65536):
                self._seen += data

    @property
    def text(self) -> str:
        """All that was written."""
        return self._seen.decode(errors="replace")

    def close(self) -> None:
        """End what runs in it."""
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@contextlib.contextmanager
def top(fleet: Fleet) -> Iterator[Terminal]:
    """Look at the fleet in a terminal."""
    terminal = Terminal(FLEET, "top", "--url", fleet.url, "--interval", "0.2")
    try:
        yield terminal
    finally:
        terminal.close()


def test_workers_queues_and_failures_are_seen_while_they_happen(fleet: Fleet) -> None:
    """Given a terminal, when a job fails, then worker, queue and the job's id are on the screen; Ctrl-C ends it."""
    with top(fleet) as terminal:
        eventually(lambda: fleet.worker.name in terminal.text and QUEUE in terminal.text, "the fleet")
        eventually(lambda: terminal.text.count("(no events yet)") < terminal.text.count("detection fleet"), "events")
        job = fleet.detect({"data": "bm90IGFuIGltYWdl"})
        why = "InvalidImage('The bytes are not an image"
        eventually(lambda: job.id in terminal.text and why in terminal.text, "the failure with its reason")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(20) == 0
    assert "Traceback" not in terminal.text
    assert terminal.text.rstrip().endswith("\x1b[?25h\x1b[?1049l")  # cursor and screen are as they were


def test_without_a_terminal_one_look_is_text(fleet: Fleet) -> None:
    """Given a pipe, when somebody looks once, then the frame is plain text."""
    fleet.detect().get(timeout=30)
    eventually(lambda: fleet.redis.zcard(WORKERS_KEY), "the worker's first sign of life")
    done = subprocess.run(
        [FLEET, "top", "--once", "--interval", "0.2", "--url", fleet.url],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, **SIZE},
    )
    assert fleet.worker.name in done.stdout
    assert QUEUE in done.stdout
    assert "\x1b" not in done.stdout


def test_a_server_that_is_not_there_is_one_sentence() -> None:
    """Given nobody at the address, then the command ends with status 1 and says so."""
    done = subprocess.run(
        [FLEET, "top", "--url", "redis://127.0.0.1:1/0"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Redis does not answer")
