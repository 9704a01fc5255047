"""Versions change again and again under load: for ten seconds in the suite, for a minute by hand.

By hand: ``python -m tests.swap.load [SECONDS]``.
"""

import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from producer import Client
from tests.swap.conftest import Marks
from tests.swap.versions import NAME, picture
from worker import embedded


class Load:
    """Sends pictures of changing colours all the time, one by one and in batches, and keeps the answers."""

    def __init__(self, marks: Marks, *, batch: int | None) -> None:
        self._marks, self._batch = marks, batch
        self.over = threading.Event()
        self.versions: Counter[int] = Counter()
        self.problems: list[str] = []
        self.sent = 0
        self.asked: list[int] = []
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        reds = (one * 7 % 256 for one in count())
        with Client(self._marks.url, model=NAME) as client:
            sending = self._until_over(reds)
            for answer in client.map(sending, window=32, **({"batch": self._batch} if self._batch else {})):
                red = self.asked.pop(0)
                if answer.result is None:
                    self.problems.append(repr(answer.error))
                    continue
                self.versions[self._marks.number_of(answer.result, red)] += 1

    def _until_over(self, reds: Iterator[int]) -> Iterator[bytes]:
        for red in reds:
            if self.over.is_set():
                return
            self.asked.append(red)
            self.sent += 1
            yield picture(red)

    def end(self) -> None:
        """Stop sending and wait for what was sent."""
        self.over.set()
        self.thread.join(60)
        assert not self.thread.is_alive()


def swap_under_load(marks: Marks, seconds: float, every_s: float) -> tuple[int, Counter[int], int]:
    """Swap between two versions under load; return how often, the answers of each version, and what was sent."""
    loads = [Load(marks, batch=None), Load(marks, batch=8)]
    began, swaps = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        until = time.monotonic() + every_s
        said = marks.try_to_swap(f"{NAME}@{2 if swaps % 2 == 0 else 1}")
        assert said["state"] == "serving", said
        swaps += 1
        threading.Event().wait(max(0.0, until - time.monotonic()))
    for load in loads:
        load.end()
        assert load.problems == []
    versions = loads[0].versions + loads[1].versions
    return swaps, versions, sum(load.sent for load in loads)


def main(seconds: float) -> None:
    """Run for so long and print what came of it."""
    with tempfile.TemporaryDirectory() as folder, embedded.server() as url:
        marks = Marks(url, Path(folder), {})
        marks.add(1)
        marks.add(2)
        marks.start()
        swaps, versions, sent = swap_under_load(marks, seconds, 2.0)
        print(f"{seconds:g} s, {swaps} swaps, {sent} images sent, answered by version: {dict(versions)}")
        marks.workers[0].stop()
    assert versions.total() == sent


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)
