"""A worker's threads keep a core for longer where the kernel can be asked for that; nothing else of them changes."""

import platform
import re
import subprocess
import sys

import pytest

from worker import slices

#: Version of the kernel; only from 6.12 on are slices kept to.
KERNEL = tuple(int(number) for number in re.findall(r"\d+", platform.release())[:2])

#: Run apart, for the slice of this process's threads should stay as it is.
SCRIPT = """
import os, threading
from worker import slices

os.nice(3)
os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
before = slices.slice_of()
kept = slices.lengthen(20)
inherited = []
thread = threading.Thread(target=lambda: inherited.append(slices.slice_of()))
thread.start()
thread.join()
print(kept, before, slices.slice_of(), inherited[0], os.nice(0), os.sched_getscheduler(0) == os.SCHED_BATCH)
print(slices.lengthen(50), slices.slice_of())
print(slices.lengthen(20), slices.slice_of())
print(slices.lengthen(0), slices.slice_of())
"""


@pytest.mark.skipif(sys.platform != "linux" or KERNEL < (6, 12), reason="the kernel has one slice for all")
def test_a_thread_and_those_that_it_starts_have_the_longer_slice() -> None:
    """Given a process with a niceness and a policy, then both stay, and a slice is never made shorter."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    first, *others = (line.split() for line in done.stdout.splitlines())

    before = float(first[1])
    assert first == ["True", str(before), "20.0", "20.0", "3", "True"]
    assert 0 < before < 20
    assert others == [["True", "50.0"]] * 3


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("sys.platform", "darwin"),
        ("platform.machine", lambda: "alpha"),
        ("_CALLS", {platform.machine(): (99_999, 99_999)}),
    ],
)
def test_where_it_cannot_be_asked_for_nothing_happens(
    monkeypatch: pytest.MonkeyPatch, what: str, value: object
) -> None:
    """Given another system, an unknown machine or a kernel that refuses, then it is said, and nobody raises."""
    monkeypatch.setattr(f"worker.slices.{what}", value)

    assert not slices.lengthen(20)
    assert slices.slice_of() == 0.0
    assert "may do less than one" in slices.explain(20)


def test_zero_leaves_it_to_the_kernel() -> None:
    """Given 0 milliseconds, then nothing is asked for, and that is said."""
    before = slices.slice_of()

    assert slices.lengthen(0)
    assert slices.slice_of() == before
    assert slices.explain(0).startswith("FLEET_SLICE_MS=0")
