"""All that was measured, and what of it is noise.

Stage: between :mod:`worker.bench.summary` and :mod:`worker.bench.report`, :mod:`worker.bench.sentences`. Pure.
"""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

from worker.bench.anatomy import Anatomy
from worker.bench.inprocess import LIMIT
from worker.bench.summary import Line

#: Least part by which two figures differ, however quiet the machine.
LEAST_DIFFERENCE = 0.02


@dataclass(frozen=True, slots=True)
class Figures:
    """All that was measured.

    Attributes:
        cores: that inference may use.
        why_cores: why so many.
        anatomy: of one image.
        lines: by contender.
        benchmark_app: images/s, or None.
        allowed: CPUs that processes may run on here; there may be more of them than ``cores``.
        told: settings that the fleet went by and the limit does not know.
        left_out: contenders that failed, and why.
    """

    cores: int
    why_cores: str
    anatomy: Anatomy
    lines: Mapping[str, Line]
    benchmark_app: float | None
    allowed: int = 0
    told: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Line | None:
        return self.lines.get(name)

    @property
    def noise(self) -> float:
        """How far the limit's second process was off the first, in the median; or a little, if that was less."""
        off = [abs(ratio - 1) for ratio in self.lines[LIMIT].ratios] if LIMIT in self.lines else []
        return max(LEAST_DIFFERENCE, statistics.median(off) if off else 0.0)

    @property
    def cpu_noise(self) -> float:
        """Likewise of what an image costs, as a part of it."""
        limit = self.lines.get(LIMIT)
        off = [abs(more) / limit.total_ms for more in limit.more_ms] if limit else []
        return max(LEAST_DIFFERENCE, statistics.median(off) if off else 0.0)

    def disturbing(self, line: Line) -> float:
        """Cores that others kept busy, but for those that the bench may not use, which stand free for them."""
        return max(0.0, line.others - max(0, self.allowed - self.cores))
