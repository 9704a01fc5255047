"""One arrangement in a process of its own: ``python -m worker.bench.child TASK ARRANGEMENT``.

Stage: below :mod:`worker.bench.inprocess`, which starts it and talks to it, a line of JSON each way. A process of its
own, so that its CPU time is its own, and so that no contender meets the threads of another. It ends with its input.
"""

import itertools
import json
import signal
import sys
import time
from collections.abc import Sequence

from worker import settings, slices
from worker.bench import task
from worker.bench.arrangements import ARRANGEMENTS, Serve


def main(folder: str, name: str) -> None:
    """Say ``ready``, then answer ``[what, count, first, step]`` lines until standard input ends.

    Of ``count`` images, the photos in turn, this process is number ``first`` of ``step`` that share them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this ends it
    slices.lengthen(settings.load().slice_ms)  # as a worker does
    subject = task.read(folder)
    images = subject.images()
    serve = ARRANGEMENTS[name](subject)
    serve(images)
    print(json.dumps("ready"), flush=True)  # noqa: T201 - the parent reads it
    for line in sys.stdin:
        what, count, first, step = json.loads(line)
        print(json.dumps(_do(what, serve, _share(images, count, first, step))), flush=True)  # noqa: T201


def _share(images: Sequence[bytes], count: int, first: int, step: int) -> list[bytes]:
    """Give this process's part: all photos as often as each other, or once more, from another one on than others'."""
    own = count // step + (first < count % step)
    begun = first * len(images) // step
    return list(itertools.islice(itertools.cycle(images), begun, begun + own))


def _do(what: str, serve: Serve, work: Sequence[bytes]) -> object:
    if what == "answers":
        return serve(work)
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
