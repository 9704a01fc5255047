"""A Celery application of one's own that has the fleet do one step of its task.

Its worker:  ``FLEET_URL=redis://… celery -A celery_app worker -Q shop``
Its caller:  ``FLEET_URL=redis://… python celery_app.py PHOTO...``

``shop.review`` replaces itself by a chain: detect, in the fleet, and then ``shop.judge``, here again. No worker waits
for the other. The application knows nothing of the fleet but a task's name and a queue.
"""

import os
import sys
from pathlib import Path
from typing import Any

from celery import Celery, Task

URL = os.environ.get("FLEET_URL", "redis://127.0.0.1:6379/0")

app = Celery("shop", broker=URL, backend=URL)
app.conf.task_routes = {"shop.*": {"queue": "shop"}, "fleet.detect": {"queue": "detect.centerface"}}
app.conf.broker_connection_retry_on_startup = True


@app.task(name="shop.review", bind=True)
def review(task: Task, photo: str) -> Any:
    """Judge a photo: its bytes go to the fleet, its detections to :func:`judge`."""
    image = {"data": Path(photo).read_bytes()}  # up to 256 KiB; larger ones by reference, see docs/contract.md
    return task.replace(app.signature("fleet.detect", args=[image]) | judge.s(photo).set(queue="shop"))


@app.task(name="shop.judge")
def judge(result: dict[str, Any], photo: str) -> str:
    """Say what the shop wants to know."""
    faces = len(result["detections"])
    return f"{photo}: {'fit for a passport' if faces == 1 else f'{faces} faces, not one'}"


def main(*photos: str) -> None:
    """Have photos judged, all at once."""
    for answer in [review.delay(photo) for photo in photos]:
        print(answer.get(timeout=60))


if __name__ == "__main__":
    main(*sys.argv[1:])
