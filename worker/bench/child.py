"""One arrangement in a process of its own: ``python -m worker.bench.child TASK ARRANGEMENT``.

Stage: below :mod:`worker.bench.inprocess`, which starts it and talks to it, a line of JSON each way. A process of its
own, so that its CPU time is its own, and so that no contender meets the threads of another. It ends with its input.
"""

import itertools
import json
import sys
import time
from collections.abc import Sequence

from worker import settings, slices
from worker.bench import task
from worker.bench.arrangements import ARRANGEMENTS, Serve


def main(folder: str, name: str) -> None:
    """Say ``ready``, then answer ``[what, number]`` lines until standard input ends."""
    slices.lengthen(settings.load().slice_ms)  # as a worker does
    subject = task.read(folder)
    images = subject.images()
    serve = ARRANGEMENTS[name](subject)
    serve(images)
    print(json.dumps("ready"), flush=True)  # noqa: T201 - the parent reads it
    for line in sys.stdin:
        what, number = json.loads(line)
        print(json.dumps(_do(what, number, serve, images)), flush=True)  # noqa: T201


def _do(what: str, number: int, serve: Serve, images: Sequence[bytes]) -> object:
    work = list(itertools.islice(itertools.cycle(images), number))
    if what == "answers":
        return serve(images)
    if what == "alone":
        return [_time_one(serve, data) for data in work]
    serve(work)
    return None


def _time_one(serve: Serve, data: bytes) -> float:
    began = time.perf_counter()
    serve([data])
    return time.perf_counter() - began


if __name__ == "__main__":
    main(*sys.argv[1:])
