"""Use the fleet from any Celery program, without a line of its client: ``python bare_celery.py URL PHOTO...``.

The contract is in docs/contract.md: task names, queues, the form of an image, of a result and of an error.
"""

import sys
from pathlib import Path

from celery import Celery


def main(url: str, *photos: str) -> None:
    """Send each photo as a task of its own, then print what was found."""
    app = Celery(broker=url, backend=url)
    app.conf.result_accept_content = ["json"]
    answers = {
        photo: app.send_task("fleet.detect", [{"data": Path(photo).read_bytes()}], queue="detect.centerface")
        for photo in photos
    }
    for photo, answer in answers.items():
        try:
            result = answer.get(timeout=60)
        except Exception as error:  # noqa: BLE001 - args are (sentence, code), whatever the class
            print(photo, *error.args)
            continue
        for found in result["detections"]:
            print(photo, found["label"], found["score"], found["box"])


if __name__ == "__main__":
    main(*sys.argv[1:])
