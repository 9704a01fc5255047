"""One producer of a chaos run, a process: ``python -m tests.soak.feeder`` with its orders as JSON on standard input.

It sends its images at a steady rate, tries again when Redis does not answer, and writes one line of JSON an image:
``{"index", "id", "tries", "code" or "detections"}``. A job that Redis accepted and nobody answered is a line with the
code of its client's error, ``deadline_exceeded``.
"""

import json
import queue
import sys
import threading
import time
from pathlib import Path
from typing import Any

from producer import Client, Job
from producer.errors import FleetError, Overloaded, Unreachable
from tests.soak import pictures

Sent = tuple[int, int, Job[Any]]


def main(orders: dict[str, Any]) -> None:
    """Send every image of the orders and write what became of it."""
    photos = pictures.variants(Path(orders["samples"]))
    sent: queue.Queue[Sent | None] = queue.Queue(maxsize=orders["window"])
    with Client(orders["url"], model=orders["model"]) as client, Path(orders["log"]).open("w") as log:
        writer = threading.Thread(target=_write, args=(sent, log))
        writer.start()
        began = time.monotonic()
        for number, index in enumerate(orders["indexes"]):
            time.sleep(max(0.0, began + number / orders["per_s"] - time.monotonic()))
            data = pictures.picture(photos, orders["seed"], index, fatal=orders["fatal"])
            sent.put((index, *_send(client, data, orders["deadline_s"])))
        sent.put(None)
        writer.join()


def _send(client: Client, data: bytes, deadline_s: float) -> tuple[int, Job[Any]]:
    tries = 1
    while True:
        try:
            return tries, client.submit(data, deadline_s=deadline_s)
        except (Unreachable, Overloaded):
            tries += 1
            time.sleep(0.2)


def _write(sent: "queue.Queue[Sent | None]", log: Any) -> None:
    while (one := sent.get()) is not None:
        index, tries, job = one
        line: dict[str, Any] = {"index": index, "id": job.id, "tries": tries}
        try:
            line["detections"] = [found.to_json() for found in job.result().detections]
        except FleetError as error:
            line |= {"code": error.code, "text": str(error)}
        log.write(json.dumps(line) + "\n")
        log.flush()


if __name__ == "__main__":
    main(json.load(sys.stdin))
