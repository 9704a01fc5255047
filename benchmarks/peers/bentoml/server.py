"""BentoML: a service with a worker process per core."""

from pathlib import Path

import bentoml

from worker.bench import task
from worker.bench.engine import Answer, Engine


@bentoml.service(workers=task.read().cores, threads=1, traffic={"timeout": 120})
class Detect:
    """One process: decode and infer, one image after the other."""

    def __init__(self) -> None:
        self._engine = Engine(task.read(), threads=1, streams=1)
        self._request = self._engine.request()

    @bentoml.api
    def detect(self, image: Path) -> Answer:
        """Do everything."""
        return self._engine.detect(image.read_bytes(), self._request)
