"""A version takes over while jobs are sent: none is lost, and each is answered by the version that it names."""

import threading
import time
from collections import Counter
from itertools import count

import pytest

from producer import Client
from tests.integration.kit import eventually
from tests.swap.conftest import Marks
from tests.swap.versions import NAME, picture
from worker.rollout import RolloutError

#: Length of the run under load, and of its pauses; `make swaps` has the long one.
SECONDS, EVERY_S = 10.0, 2.0


class Load:
    """Sends pictures of changing colours all the time, one by one and in batches, and keeps the answers."""

    def __init__(self, marks: Marks, *, batch: int | None) -> None:
        self._marks, self._batch = marks, batch
        self.over = threading.Event()
        self.versions: Counter[int] = Counter()
        self.problems: list[str] = []
        self.sent = 0
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

    def _until_over(self, reds):
        self.asked = []
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
        said = marks.swap(2 if swaps % 2 == 0 else 1)
        assert all(one.done for one in said), said
        swaps += 1
        threading.Event().wait(max(0.0, until - time.monotonic()))
    for load in loads:
        load.end()
        assert load.problems == []
    versions = loads[0].versions + loads[1].versions
    return swaps, versions, sum(load.sent for load in loads)


def test_under_load_every_job_is_answered_by_the_version_that_it_names(marks: Marks) -> None:
    """Given two workers and clients that send all the time, when versions change again and again, then none is lost."""
    marks.start()
    marks.start()

    swaps, versions, sent = swap_under_load(marks, SECONDS, EVERY_S)

    assert swaps >= 3
    assert versions.total() == sent
    assert set(versions) == {1, 2}


def test_a_swap_is_seen_in_results_and_a_worker_that_comes_later_serves_the_same(marks: Marks) -> None:
    """Given a swap, then jobs get the new version, from the worker that was there, after a restart, and from new ones."""
    first = marks.start()
    assert marks.number_of(marks.ask(80), 80) == 1

    (said,) = marks.swap(2)

    assert said.done
    assert marks.digests[2] in said.sentence
    assert marks.number_of(marks.ask(80), 80) == 2
    first.stop()
    second = marks.start()
    assert marks.shares(second) == {2: 1.0}
    assert marks.number_of(marks.ask(80), 80) == 2
    assert all(one.done for one in marks.swap(1))
    assert marks.number_of(marks.ask(80), 80) == 1


def test_one_worker_that_cannot_keeps_all_at_the_old_version(marks: Marks) -> None:
    """Given a worker whose store lacks the version, then nobody changes, and the operator is told who and why."""
    other = marks.folder / "elsewhere"
    able = marks.start()
    unable = marks.start(model_store=_copy_of_first(marks, other))

    with pytest.raises(RolloutError) as told:
        marks.swap(2)

    assert f"{unable.name}: There is no version 'marks@2'" in str(told.value)
    assert f"{able.name}: marks@2 ready" in str(told.value)
    assert marks.shares(able) == marks.shares(unable) == {1: 1.0}
    assert marks.number_of(marks.ask(), 100) == 1


def _copy_of_first(marks: Marks, other):
    import shutil

    shutil.copytree(marks.store / NAME, other / NAME)
    return other


def test_a_worker_that_heard_no_command_follows(marks: Marks, redis) -> None:
    """Given a worker that stood still while the others changed, when it goes on, then it changes as well."""
    deaf, other = marks.start(), marks.start()
    marks.served()
    import signal

    deaf.signal(signal.SIGSTOP)
    eventually(lambda: set(marks.served()) == {other.name}, "only one worker that lives", 60)
    assert [one.worker for one in marks.swap(2)] == [other.name]
    deaf.signal(signal.SIGCONT)

    eventually(lambda: marks.served().get(deaf.name) and marks.shares(deaf) == {2: 1.0}, "the change", 60)
