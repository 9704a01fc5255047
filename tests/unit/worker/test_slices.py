"""A worker's threads keep a core for longer where the kernel can be asked for that; nothing else of them changes."""

import platform
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from worker import slices

#: The kernel's own slice, in nanoseconds; and what a thread has beside it.
KERNELS_NS = 1_400_000
PLAIN = dict.fromkeys(("size", "policy", "flags", "nice", "priority", "runtime", "deadline", "period"), 0) | {
    "size": 48,
    "nice": 3,
    "runtime": KERNELS_NS,
}

#: Run apart, for the slice of this process's threads should stay as it is.
SCRIPT = """
import os, threading
from worker import slices

os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
nice = os.nice(3)
kept = slices.lengthen(20)
inherited = []
thread = threading.Thread(target=lambda: inherited.append(slices.slice_of()))
thread.start()
thread.join()
print(kept, slices.slice_of() >= 20, inherited[0] == slices.slice_of(), os.nice(0) - nice)
print(os.sched_getscheduler(0) == os.SCHED_BATCH)
print(slices.lengthen(100), slices.slice_of())
print(slices.lengthen(20), slices.slice_of())
"""


def test_a_thread_and_those_that_it_starts_have_the_longer_slice() -> None:
    """Given a process with a niceness and a policy, then both stay, and a slice is never made shorter."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)

    if slices.slice_of():
        assert done.stdout.splitlines() == ["True True True 0", "True", "True 100.0", "True 100.0"]
    else:  # a kernel before 6.12
        assert done.stdout.splitlines() == ["False False True 0", "True", "False 0.0", "False 0.0"]


class Kernel:
    """Stands for the two system calls; knows one thread."""

    def __init__(self, own: Mapping[str, int], *, forbids: bool = False) -> None:
        self.plain = PLAIN | own
        self.attributes = dict(self.plain)
        self.writes: list[dict[str, int]] = []
        self._forbids = forbids

    def __call__(self, which: int, buffer: Any, *rest: int, thread: int = 0) -> bool:
        if which == 1:
            buffer.raw = slices._ATTRIBUTES.pack(*self.attributes.values())
            return True
        self.writes.append(dict(zip(self.attributes, slices._ATTRIBUTES.unpack(buffer.raw), strict=True)))
        if not self._forbids:
            self.attributes = self.writes[-1]
        return not self._forbids


@pytest.mark.parametrize(
    ("kernel", "slice_ms", "kept", "said"),
    [
        (Kernel({}), 20, True, "up to 20 ms"),
        (Kernel({"policy": 3}), 20, True, "up to 20 ms"),
        (Kernel({"runtime": 50_000_000}), 20, True, "up to 50 ms"),
        (Kernel({}), 1, True, "up to 1.4 ms"),
        (Kernel({}), 0, True, "as FLEET_SLICE_MS is 0"),
        (Kernel({}, forbids=True), 20, False, "as the system forbids more"),
        (Kernel({"policy": 1}), 20, False, "as this process has a real-time policy"),
        (Kernel({"flags": 1}), 20, False, "SCHED_RESET_ON_FORK"),
        (Kernel({"runtime": 0}), 20, False, "since 6.12"),
    ],
)
def test_what_is_kept_is_said(
    monkeypatch: pytest.MonkeyPatch, kernel: Kernel, slice_ms: int, kept: bool, said: str
) -> None:
    """Given a thread and a kernel, then only the slice is written, only to make it longer, and doctor says what is."""
    monkeypatch.setattr(slices, "_call", kernel)

    assert slices.lengthen(slice_ms) is kept
    assert said in slices.explain(slice_ms)
    assert all(one == kernel.plain | {"runtime": slice_ms * 1_000_000} for one in kernel.writes)
    assert all(one["runtime"] > KERNELS_NS for one in kernel.writes)


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("sys.platform", "darwin"),
        ("sys.maxsize", 2**31 - 1),
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
    assert slices.lengthen(0)
    assert slices.slice_of() == 0.0
    assert "may do less than one" in slices.explain(20)
