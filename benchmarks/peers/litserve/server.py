"""LitServe: FastAPI in front, a process with a network per core."""

import os

import litserve

from worker.bench import task
from worker.bench.engine import Answer, Engine


class Detect(litserve.LitAPI):
    """One process: decode and infer, one image after the other."""

    def setup(self, device: str) -> None:
        """Load the network."""
        self._engine = Engine(task.read(), threads=1, streams=1)
        self._own_request = self._engine.request()

    def decode_request(self, request) -> bytes:
        """Take the photo out of the form; an annotation would tell LitServe to look for it elsewhere."""
        data: bytes = request["image"].file.read()
        return data

    def predict(self, data: bytes) -> Answer:
        """Do everything."""
        return self._engine.detect(data, self._own_request)

    def encode_response(self, output: Answer) -> Answer:
        """Give the boxes as they are."""
        return output


if __name__ == "__main__":
    server = litserve.LitServer(Detect(), accelerator="cpu", workers_per_device=task.read().cores, timeout=120)
    server.run(port=int(os.environ["BENCH_PORT"]), host="127.0.0.1", generate_client_file=False, log_level="warning")
