"""A longer time slice for this process's threads, so that busy workers do not push each other out of the caches.

Stage: at start, before OpenVINO starts its threads, for threads inherit it. Where more threads want to run than there
are cores, Linux changes between them every few milliseconds, in the middle of inferences that each fill a core's
cache. With a longer slice most inferences run to their end. Whoever has a short slice, as Redis and clients have, is
still let through at once: the scheduler goes by deadlines, and a short slice's is near.

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
_RUNTIME = 5

#: SCHED_OTHER, SCHED_BATCH and SCHED_IDLE; whoever has chosen another policy knows what he wants.
_FAIR = (0, 3, 5)


def lengthen(slice_ms: int) -> bool:
    """Give the calling thread, and all that it will start, a slice of at least ``slice_ms``; policy and nice stay.

    Args:
        slice_ms: milliseconds, at most 100, which is the kernel's bound.

    Returns:
        Whether its slice is that long now; True for 0, which asks for nothing.
    """
    if slice_ms == 0:
        return True
    attributes = _read()
    if attributes is None or attributes[1] not in _FAIR:
        return False
    wanted = slice_ms * 1_000_000
    if attributes[_RUNTIME] < wanted:
        attributes[_RUNTIME] = wanted
        _call(0, ctypes.create_string_buffer(_ATTRIBUTES.pack(*attributes)), 0)
    return slice_of() >= slice_ms


def slice_of(thread: int = 0) -> float:
    """Return the milliseconds of a thread's slice, the calling thread's for 0; 0.0 where the system does not say."""
    attributes = _read(thread)
    return 0.0 if attributes is None else attributes[_RUNTIME] / 1e6


def explain(slice_ms: int) -> str:
    """Say whether this host keeps to it; the calling thread has the longer slice afterwards."""
    if slice_ms == 0:
        return "FLEET_SLICE_MS=0: the kernel decides how long a thread keeps a core that others wait for."
    if lengthen(slice_ms):
        return (
            f"A thread keeps a core that others wait for up to {slice_ms} ms: so several busy workers here push each "
            "other out of the caches less often."
        )
    return (
        "Threads change every few milliseconds when more want to run than there are cores (Linux before 6.12, or "
        "another system): several busy workers here may do less than one."
    )


def _read(thread: int = 0) -> list[int] | None:
    buffer = ctypes.create_string_buffer(_ATTRIBUTES.size)
    if not _call(1, buffer, _ATTRIBUTES.size, 0, thread=thread):
        return None
    return list(_ATTRIBUTES.unpack(buffer.raw))


def _call(which: int, buffer: "ctypes.Array[ctypes.c_char]", *rest: int, thread: int = 0) -> bool:
    numbers = _CALLS.get(platform.machine()) if sys.platform == "linux" else None
    if numbers is None:
        return False
    arguments = (ctypes.c_long(one) for one in rest)
    return bool(
        ctypes.CDLL(None).syscall(ctypes.c_long(numbers[which]), ctypes.c_long(thread), buffer, *arguments) == 0
    )
