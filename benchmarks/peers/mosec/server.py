"""mosec: a Rust front end, a process with a network per core. ``server.py --port PORT --address 127.0.0.1``."""

from mosec import Server
from mosec import Worker as MosecWorker

from worker.bench import task
from worker.bench.engine import Answer, Engine


class Detect(MosecWorker):
    """One process: decode and infer, one image after the other."""

    def __init__(self) -> None:
        self._engine = Engine(task.read(), threads=1, streams=1)
        self._request = self._engine.request()

    def deserialize(self, data: bytes) -> bytes:
        """Take the body as it is."""
        return data

    def forward(self, data: bytes) -> Answer:
        """Do everything."""
        return self._engine.detect(data, self._request)


if __name__ == "__main__":
    server = Server()
    server.append_worker(Detect, num=task.read().cores)
    server.run()
