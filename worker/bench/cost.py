"""What a stretch of work cost: wall time, CPU time of each role's processes, memory, and what others used meanwhile.

Stage: under :mod:`worker.bench.runner`. The client is this process itself.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one stretch.

    Attributes:
        seconds: wall time.
        cpu_s: CPU seconds by role: ``client``, ``worker``, ``redis``.
        memory_bytes: of all processes but this one, at the end: what is not of files, and of files as much as the one
            that has most of them, whoever else maps them.
        others: cores, of those that processes may run on here, that all other processes kept busy meanwhile; the
            system's own work and a hypervisor's other guests included.
    """

    seconds: float
    cpu_s: Mapping[str, float]
    memory_bytes: int
    others: float


def of(work: Callable[[], object], roles: Mapping[str, Sequence[int]]) -> Cost:
    """Do ``work`` and measure it; processes that those in ``roles`` started count with them."""
    families = {role: _families(pids) for role, pids in roles.items()} | {"client": [psutil.Process(os.getpid())]}
    before, host_before = {role: _cpu_s(members) for role, members in families.items()}, _host_s()
    began = time.perf_counter()
    work()
    seconds = time.perf_counter() - began
    cpu_s = {role: _cpu_s(members) - before[role] for role, members in families.items()}
    others = (_host_s() - host_before - sum(cpu_s.values())) / seconds
    memory = _memory([one for role, members in families.items() if role != "client" for one in members])
    return Cost(seconds, cpu_s, memory, max(0.0, others))


def together(costs: Sequence[Cost]) -> Cost:
    """Give the cost of stretches of the same processes as if they were one."""
    seconds = sum(one.seconds for one in costs)
    return Cost(
        seconds,
        {role: sum(one.cpu_s[role] for one in costs) for role in costs[0].cpu_s},
        max(one.memory_bytes for one in costs),
        sum(one.others * one.seconds for one in costs) / seconds,
    )


def _families(pids: Sequence[int]) -> list[psutil.Process]:
    heads = [psutil.Process(pid) for pid in pids]
    return heads + [child for head in heads for child in head.children(recursive=True)]


def _cpu_s(members: Sequence[psutil.Process]) -> float:
    total = 0.0
    for one in members:
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:  # a helper that ended; what it used in this stretch is lost
            continue
        total += times.user + times.system
    return total


def _host_s() -> float:
    """CPU seconds that were used since the start, of the CPUs that we may run on, with what a hypervisor took."""
    ours, each = allowed(), psutil.cpu_times(percpu=True)
    if max(ours) < len(each) == os.cpu_count():  # so that a place in the list is a number
        return sum(_busy_s(each[number]) for number in ours)
    return _busy_s(psutil.cpu_times())


def allowed() -> set[int]:
    """Give the CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _busy_s(times: Any) -> float:
    idle = times.idle + getattr(times, "iowait", 0.0)
    return float(sum(times) - idle - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0))


def _memory(members: Sequence[psutil.Process]) -> int:
    own, files = 0, 0
    for one in members:
        try:
            lines = Path(f"/proc/{one.pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
        except OSError:  # it has ended, or the system does not tell
            continue
        size = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
        shared = size.get("Pss_Anon", 0) + size.get("Pss_Shmem", 0)
        own += shared
        files = max(files, size["Rss"] - shared)
    return own + files
