"""The Celery application of the workers: ``celery -A worker.app worker``.

Stage: start. Neighbours: ``celeryconfig.py`` has Celery's keys that are the same everywhere; those that depend on
``FLEET_*`` are given here as defaults, read when Celery first asks for its configuration and not at import.
"""

from typing import Any

from celery import Celery
from kombu.entity import Queue

from producer import wire
from worker import cpu, settings

#: Queue of tasks that are not detections: a user's own tasks in the same workers.
OTHER_QUEUE = "fleet"


def keys() -> dict[str, Any]:
    """Give the Celery keys that follow from the settings of this process."""
    chosen = settings.load()
    return {
        "broker_url": chosen.url,
        "result_backend": chosen.url,
        "task_default_queue": OTHER_QUEUE,
        "task_queues": [Queue(wire.queue_of(model)) for model in chosen.models] + [Queue(OTHER_QUEUE)],
        "worker_concurrency": cpu.make_plan(chosen).jobs,
    }


app = Celery("fleet", include=["worker.tasks"])
app.config_from_object("celeryconfig")
app.add_defaults(keys)
