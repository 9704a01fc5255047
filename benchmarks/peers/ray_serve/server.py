"""Ray Serve's asynchronous inference: Celery and Redis underneath, a replica with a network per core."""

import base64
import os
import signal
import threading

import ray
from ray import serve
from ray.serve.schema import CeleryAdapterConfig, TaskProcessorConfig
from ray.serve.task_consumer import task_consumer, task_handler

from worker.bench import task
from worker.bench.engine import Answer, Engine

URL = os.environ["BENCH_URL"]

CONFIG = TaskProcessorConfig(
    queue_name="celery",
    adapter_config=CeleryAdapterConfig(broker_url=URL, backend_url=URL),
)


@serve.deployment(num_replicas=task.read().cores, ray_actor_options={"num_cpus": 0.1}, max_ongoing_requests=16)
@task_consumer(task_processor_config=CONFIG)
class Detect:
    """One replica: decode and infer, one image after the other."""

    def __init__(self) -> None:
        self._engine = Engine(task.read(), threads=1, streams=1)
        self._request = self._engine.request()

    @task_handler(name="detect")
    def detect(self, image: str) -> Answer:
        """Do everything for one image, given in base64."""
        return self._engine.detect(base64.b64decode(image), self._request)


if __name__ == "__main__":
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    passed_on = {name: value for name, value in os.environ.items() if name.startswith(("BENCH_", "PYTHONPATH"))}
    ray.init(include_dashboard=False, runtime_env={"env_vars": passed_on}, log_to_driver=True)
    serve.run(Detect.bind())
    over.wait()
    serve.shutdown()
    ray.shutdown()
