"""A longer time slice for this process's threads, so that busy workers do not push each other out of the caches.

Stage: at start, before OpenVINO starts its threads, for threads inherit it. Where more threads want to run than there
are cores, Linux changes between them every few milliseconds, in the middle of inferences that each fill a core's
cache. With a longer slice most inferences run to their end. Whoever has a short slice, as Redis and clients have, is
let through sooner: the scheduler goes by deadlines, and a short slice's is near.

Linux keeps to it since 6.12 (``sched_setattr(2)``: ``sched_runtime`` of a thread that has no real-time policy). Before,
and elsewhere, nothing changes.
"""

import ctypes
import platform
import struct
import sys

#: Numbers of sched_setattr and sched_getattr by machine; C libraries before 2025 have no functions for them.
_CALLS = {"x86_64": (314, 315), "aarch64": (274, 275), "riscv64": (274, 275)}

#: ``struct sched_attr``: size, policy, flags, nice, priority, runtime, deadline, period.
_ATTRIBUTES = struct.Struct("IIQiIQQQ")
_POLICY, _FLAGS, _RUNTIME = 1, 2, 5

#: SCHED_OTHER, SCHED_BATCH and SCHED_IDLE; whoever has chosen another policy knows what he wants.
_FAIR = (0, 3, 5)

#: SCHED_FLAG_RESET_ON_FORK: threads do not inherit.
_RESET = 1


def lengthen(slice_ms: int) -> bool:
    """Give the calling thread, and all that it will start, a slice of at least ``slice_ms``; policy and nice stay.

    Args:
        slice_ms: milliseconds, at most 100, which is the kernel's bound; 0 asks for nothing.

    Returns:
        Whether their slices are that long now.
    """
    attributes = _read()
    if slice_ms == 0 or _obstacle(attributes):
        return slice_ms == 0
    wanted = slice_ms * 1_000_000
    if attributes[_RUNTIME] < wanted:
        attributes[_RUNTIME] = wanted
        _call(0, ctypes.create_string_buffer(_ATTRIBUTES.pack(*attributes), _ATTRIBUTES.size), 0)
    return slice_of() >= slice_ms


def slice_of(thread: int = 0) -> float:
    """Return the milliseconds of a thread's slice, the calling thread's for 0; 0.0 where the system does not say."""
    attributes = _read(thread)
    return attributes[_RUNTIME] / 1e6 if attributes else 0.0


def explain(slice_ms: int) -> str:
    """Say how long a thread keeps a core, and why it is no longer; the calling thread has the longer slice then."""
    kept, reason = lengthen(slice_ms), _obstacle(_read())
    if kept and slice_ms:
        return (
            f"A thread keeps a core that others wait for up to {slice_of():g} ms, so that several busy workers here "
            "push each other out of the caches less often."
        )
    why = reason or ("FLEET_SLICE_MS is 0" if kept else "the system forbids more")
    return (
        f"How long a thread keeps a core that others wait for is left to the kernel, as {why}: several busy workers "
        "here may do less than one."
    )


def _obstacle(attributes: list[int]) -> str:
    if not attributes:
        return "this system cannot be asked or forbids it"
    if attributes[_POLICY] not in _FAIR:
        return "this process has a real-time policy"
    if attributes[_FLAGS] & _RESET:
        return "this process's threads inherit nothing (SCHED_RESET_ON_FORK)"
    return "" if attributes[_RUNTIME] else "Linux can be asked since 6.12"


def _read(thread: int = 0) -> list[int]:
    buffer = ctypes.create_string_buffer(_ATTRIBUTES.size)
    done = _call(1, buffer, _ATTRIBUTES.size, 0, thread=thread)
    return list(_ATTRIBUTES.unpack(buffer.raw)) if done else []


def _call(which: int, buffer: "ctypes.Array[ctypes.c_char]", *rest: int, thread: int = 0) -> bool:
    # A Python of 32 bits has other numbers than the machine that it runs on.
    numbers = _CALLS.get(platform.machine()) if sys.platform == "linux" and sys.maxsize > 2**32 else None
    if numbers is None:
        return False
    number, tid, *others = (ctypes.c_long(one) for one in (numbers[which], thread, *rest))
    return bool(ctypes.CDLL(None).syscall(number, tid, buffer, *others) == 0)
