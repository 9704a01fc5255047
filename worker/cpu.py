"""How many threads, streams and jobs fit this process's share of the host.

Stage: between the settings and everything that starts threads. OpenVINO starts a thread per host core and does not see
a container's CPU quota, so the quota is read here. What may really be used is the least of cgroup quota (v1 and v2),
affinity and ``FLEET_THREADS``.
"""

import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.settings import Settings

CGROUP = Path("/sys/fs/cgroup")

#: Names this process's own groups, one line a hierarchy: ``number:controllers:path``.
OWN_GROUPS = Path("/proc/self/cgroup")

#: A difference between arrangements that is worth a change.
WORTH = 0.03

#: Jobs whose inference is over and that wait to be finished with others (:mod:`worker.finishing`).
FINISHING = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """What this worker starts.

    Attributes:
        threads: CPU threads for inference.
        decoders: threads that fetch and decode.
        jobs: jobs held at once in all stages together.
        why: one sentence a decision.
    """

    threads: int
    decoders: int
    jobs: int
    why: tuple[str, ...]


def make_plan(settings: Settings, *, cgroup: Path = CGROUP) -> Plan:
    """Decide for this process; pure but for what it reads of the host."""
    host = os.cpu_count() or 1
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else host
    quota = cgroup_quota(cgroup)
    bounds = {"host cores": float(host), "CPU affinity": float(affinity)}
    if quota is not None:
        bounds["cgroup quota"] = quota
    if settings.threads:
        bounds["FLEET_THREADS"] = float(settings.threads)
    reason, least = min(bounds.items(), key=lambda item: item[1])
    threads = max(1, math.ceil(least))
    others = len(settings.models) - 1
    decoders = (settings.decoders or max(2, min(8, threads))) + others
    jobs = settings.jobs or 4 * threads + 2 * decoders + FINISHING
    decoding = "FLEET_DECODERS" if settings.decoders else "at least two, so that one can fetch while one decodes"
    if others:
        decoding += f"; {others} more, so that a model whose requests are all busy holds up no other"
    holding = "FLEET_JOBS" if settings.jobs else "enough to fill every stage"
    why = (
        f"{threads} inference thread{'s' * (threads > 1)}: {reason} allows {least:g}.",
        f"{decoders} decode thread{'s' * (decoders > 1)}: {decoding}.",
        f"{jobs} jobs at once: {holding}.",
        *(_sharing(len(settings.models), threads) if others else ()),
    )
    return Plan(threads=threads, decoders=decoders, jobs=jobs, why=why)


def _sharing(models: int, threads: int) -> tuple[str, ...]:
    """Say how several models share the cores; :mod:`worker.shares` sees to it."""
    return (
        f"{models} models share {threads} threads: one that is busy alone uses all, of several each runs its part.",
        "They share jobs likewise: a free place goes to the waiting model that has fewest.",
    )


def arrangement(
    together: Sequence[float], apart: Sequence[float], cores: int, *, for_workers: bool = True, noise: float = 0.0
) -> str:
    """Say which arrangement a measurement speaks for; only what nearly all rounds agree on counts.

    Args:
        together: how fast one process with several streams is, round by round, in any unit.
        apart: of one process a core with one stream each, in the same rounds.
        cores: how many those are.
        for_workers: whether workers were measured, so that their settings may be named.
        noise: part by which two that are equal differ in these rounds.
    """
    if cores == 1 or not together:
        return "there is one core, and so one arrangement."
    ratios = [one / other for one, other in zip(apart, together, strict=False)]
    times, apart_won = statistics.median(ratios), sum(ratio > 1 for ratio in ratios)
    least = len(ratios) - len(ratios) // 5
    said = f"one process a core does {times:.2f} times what one process with several streams does"
    if len(ratios) < 3:
        return f"{said}, too few rounds to tell."
    if max(apart_won, len(ratios) - apart_won) < least and max(ratios) - min(ratios) > WORTH:
        return f"{said} by the median, and more in {apart_won} of {len(ratios)} rounds: run more of them to tell."
    if abs(times - 1) < max(WORTH, noise):
        return f"{said}: no clear difference; one process needs less memory."
    if times > 1:
        said = f"one process a core with one stream each is faster, {times:.2f} times."
        return f"{said} So: {cores} of them with FLEET_THREADS=1 and FLEET_STREAMS=1." if for_workers else said
    return f"one process with several streams is faster: one process a core does {times:.2f} times as much."


def cgroup_quota(root: Path = CGROUP) -> float | None:
    """Return the cores that the cgroup's CPU quota allows, or None where there is none.

    The strictest quota from this process's own group up to the root counts, as the kernel enforces them all.
    """
    groups = _own_groups(root)
    quotas = [quota for group in groups for quota in (_quota_v2(group), _quota_v1(group)) if quota is not None]
    return min(quotas, default=None)


def _own_groups(root: Path) -> list[Path]:
    """List the folders of this process's cgroup and its ancestors; a container usually sees only the root."""
    groups = [root, root / "cpu", root / "cpu,cpuacct"]
    try:
        lines = OWN_GROUPS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return groups
    for line in lines:
        _, controllers, path = line.split(":", 2)
        base = root / controllers if controllers else root
        if not controllers or "cpu" in controllers.split(","):
            own = Path(path.strip("/"))
            groups += [base / part for part in (own, *own.parents)]
    return groups


def _quota_v2(group: Path) -> float | None:
    try:
        quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(group: Path) -> float | None:
    try:
        quota = int((group / "cpu.cfs_quota_us").read_text(encoding="ascii"))
        period = int((group / "cpu.cfs_period_us").read_text(encoding="ascii"))
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
