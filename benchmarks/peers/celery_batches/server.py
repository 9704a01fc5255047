"""celery-batches on the Celery that it wants: a child collects messages and works on them together.

Stage: the workers of :class:`benchmarks.peers.CeleryBatches`. A child has one network with one thread; what a batch
saves is Celery's own work per message.
"""

import base64
import os
from typing import Any

from celery import Celery, signals
from celery_batches import Batches

from worker.bench import task
from worker.bench.engine import Engine

app = Celery("batches", broker=os.environ["BENCH_URL"], backend=os.environ["BENCH_URL"])
app.conf.worker_prefetch_multiplier = 64  # it needs as many unacknowledged messages as a batch has, for each child
app.conf.task_acks_late = True

_loaded: dict[str, Any] = {}


@signals.worker_process_init.connect
def load(**_: object) -> None:
    """Load a network for each child."""
    engine = Engine(task.read(), threads=1, streams=1)
    _loaded.update(engine=engine, request=engine.request())


@app.task(name="detect", base=Batches, flush_every=16, flush_interval=0.01)
def detect(requests: Any) -> None:
    """Detect the objects of up to 16 images, each given in base64."""
    for request in requests:
        answer = _loaded["engine"].detect(base64.b64decode(request.args[0]), _loaded["request"])
        app.backend.mark_as_done(request.id, answer, request=request)
