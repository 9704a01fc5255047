"""What one would write with Celery alone: an image in the message, a network in the worker, boxes as the result.

Stage: the workers of :mod:`benchmarks.celery_alone`. ``BENCH_POOL`` says which pool: with ``prefork`` each child has a
network on one thread; with ``threads`` all threads share one network and an infer queue, and each waits for its image.
"""

import base64
import os

from celery import Celery, signals

from worker.bench import task
from worker.bench.engine import Answer, Engine
from worker.infer_queue import InferQueue

URL = os.environ.get("BENCH_URL", "")

app = Celery("alone", broker=URL, backend=URL)

_loaded: dict[str, object] = {}


@signals.worker_process_init.connect
def load_in_child(**_: object) -> None:
    """Prefork: a network for each child, one thread each, so that children do not fight for the cores."""
    engine = Engine(task.read(), threads=1, streams=1)
    _loaded.update(engine=engine, request=engine.request())


@signals.worker_init.connect
def load_once(**_: object) -> None:
    """Threads: one network with as many streams as OpenVINO likes, and a queue in front of it."""
    if os.environ["BENCH_POOL"] == "threads":
        subject = task.read()
        engine = Engine(subject, threads=subject.cores, hint="THROUGHPUT")
        optimal = int(engine.properties["optimal_number_of_infer_requests"])
        _loaded.update(engine=engine, queue=InferQueue(engine.compiled, max(2, 2 * optimal)))


@app.task(name="detect")  # type: ignore[misc]
def detect(image: str) -> Answer:
    """Detect the objects of one image, given in base64."""
    engine, queue = _loaded["engine"], _loaded.get("queue")
    assert isinstance(engine, Engine)
    data = base64.b64decode(image)
    if not isinstance(queue, InferQueue):
        return engine.detect(data, _loaded["request"])
    tensor, frame = engine.prepare(data)
    return engine.answer(queue.submit(tensor).result(), frame)
