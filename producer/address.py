"""Where Redis is: the one URL that everything of the fleet is given, for one server or for a group behind Sentinel.

Stage: under every connection, the clients', the workers' and Celery's. ``redis://`` and ``rediss://`` are redis-py's
own. ``sentinel://user:password@host:port;host:port/0?master_name=fleet`` names the Sentinels and the group they watch;
user, password and database are the server's, not the Sentinels'. The master is asked for anew at each connecting.
"""

import re
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import parse_qs, unquote

import redis.asyncio
import redis.asyncio.sentinel
from redis import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

SENTINEL_SCHEME = "sentinel://"

#: The port of a Sentinel that is given without one.
SENTINEL_PORT = 26379

#: Seconds to connect to a Sentinel, and to wait for its answer; then the next is asked.
SENTINEL_TIMEOUT_S = 2.0

_SHAPE = re.compile(r"(?:(?P<user>[^:@/]*)(?::(?P<password>[^@/]*))?@)?(?P<hosts>[^@/?]+)(?:/(?P<db>\d*))?")


class SentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """A pool of connections to the present master; a thread that finds all of them busy waits for one."""

    def disconnect(self, inuse_connections: bool = True) -> None:
        """Close the connections, and those to the Sentinels as well when all are closed."""
        super().disconnect(inuse_connections)
        if inuse_connections:
            self.sentinel_manager.close()


class AsyncSentinelPool(redis.asyncio.sentinel.SentinelConnectionPool, redis.asyncio.BlockingConnectionPool):
    """The same for asyncio."""

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """Close the connections, and those to the Sentinels as well when all are closed."""
        await super().disconnect(inuse_connections)
        if inuse_connections:
            await self.sentinel_manager.aclose()


@dataclass(frozen=True, slots=True)
class SentinelAddress:
    """A URL that names Sentinels, taken apart.

    Attributes:
        sentinels: (host, port) of each.
        master: the name of the group they watch.
        login: username, password and db of the server itself, as far as they are given.
    """

    sentinels: tuple[tuple[str, int], ...]
    master: str
    login: dict[str, Any]

    @classmethod
    def parse(cls, url: str) -> Self:
        """Take ``url`` apart.

        Raises:
            ValueError: it is not of that form; the message does not contain it.
        """
        rest, _, query = url.removeprefix(SENTINEL_SCHEME).partition("?")
        shape, asked = _SHAPE.fullmatch(rest), parse_qs(query)
        if shape is None or list(asked) != ["master_name"]:
            raise ValueError("expected sentinel://host:port;host:port/0?master_name=NAME")
        login: dict[str, Any] = {"db": int(shape["db"] or 0)}
        if shape["password"]:
            login["password"] = unquote(shape["password"])
        if shape["user"]:
            login["username"] = unquote(shape["user"])
        return cls(tuple(_host_port(one) for one in re.split("[;,]", shape["hosts"])), asked["master_name"][0], login)

    def celery_url(self, url: str) -> str:
        """Write ``url``, of which this was made, as Celery wants it: everything again for each Sentinel."""
        rest = url.removeprefix(SENTINEL_SCHEME).partition("?")[0]
        login, at, _ = rest.rpartition("@")
        return ";".join(
            f"{SENTINEL_SCHEME}{login}{at}{host}:{port}/{self.login['db']}" for host, port in self.sentinels
        )


def sentinel_options(retry: Any) -> dict[str, Any]:
    """Return how to connect to a Sentinel: one that is down must not keep anybody from asking the next."""
    timeouts = {"socket_timeout": SENTINEL_TIMEOUT_S, "socket_connect_timeout": SENTINEL_TIMEOUT_S}
    return {**timeouts, "retry": retry}


def pool(url: str, **options: Any) -> BlockingConnectionPool:
    """Make a pool of connections to what ``url`` names; nothing is sent yet.

    Raises:
        ValueError: it is no such URL.
    """
    if not url.startswith(SENTINEL_SCHEME):
        return BlockingConnectionPool.from_url(url, **options)
    address = SentinelAddress.parse(url)
    asked = Sentinel(address.sentinels, sentinel_kwargs=sentinel_options(Retry(NoBackoff(), 0)))  # type: ignore[no-untyped-call]
    return SentinelPool(address.master, asked, **address.login, **options)  # type: ignore[no-untyped-call]


def async_pool(url: str, **options: Any) -> redis.asyncio.BlockingConnectionPool:
    """Do what :func:`pool` does, for asyncio.

    Raises:
        ValueError: it is no such URL.
    """
    if not url.startswith(SENTINEL_SCHEME):
        return redis.asyncio.BlockingConnectionPool.from_url(url, **options)
    address = SentinelAddress.parse(url)
    asked = redis.asyncio.sentinel.Sentinel(  # type: ignore[no-untyped-call]
        address.sentinels, sentinel_kwargs=sentinel_options(AsyncRetry(NoBackoff(), 0))
    )
    return AsyncSentinelPool(address.master, asked, **address.login, **options)  # type: ignore[no-untyped-call]


def connect(url: str, **options: Any) -> Redis:
    """Make a client with a pool of its own for ``url``; close it with ``close``.

    Raises:
        ValueError: it is no such URL.
    """
    return Redis.from_pool(pool(url, **options))


def _host_port(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon:
        host, port = text, str(SENTINEL_PORT)
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ValueError("expected sentinel://host:port;host:port/0?master_name=NAME")
    return host, int(port)
