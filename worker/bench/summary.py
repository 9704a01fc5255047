"""From all turns to one line a contender: medians and spread.

Stage: between :mod:`worker.bench.runner` and :mod:`worker.bench.report`, :mod:`worker.bench.sentences`. Pure.
"""

import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from worker.bench.contender import Kind
from worker.bench.runner import Turn


@dataclass(frozen=True, slots=True)
class Line:
    """One contender over all rounds; medians where nothing else is said.

    Attributes:
        kind: what it is.
        rates: images per second of each round, in order.
        cpu_ms: CPU milliseconds an image by role.
        busy: cores that its own processes kept busy.
        others: cores that the rest of the host kept busy.
        memory_mb: of its processes, the client's left out.
        p50_ms: of images asked for one by one.
        p99_ms: likewise.
    """

    kind: Kind
    rates: tuple[float, ...]
    cpu_ms: dict[str, float]
    busy: float
    others: float
    memory_mb: float
    p50_ms: float
    p99_ms: float

    @property
    def rate(self) -> float:
        """Images per second."""
        return statistics.median(self.rates)

    @property
    def total_ms(self) -> float:
        """CPU milliseconds an image of all roles together."""
        return sum(self.cpu_ms.values())

    def differs_from(self, other: "Line") -> bool:
        """Whether the difference is more than the noise: in nearly all rounds the same one was faster."""
        pairs = list(zip(self.rates, other.rates, strict=False))
        faster = sum(one > two for one, two in pairs)
        return len(pairs) >= 3 and (faster <= len(pairs) // 5 or faster >= len(pairs) - len(pairs) // 5)

    def times(self, other: "Line") -> float:
        """How many times as fast it is: the median of the rounds' ratios, which a slow minute moves less."""
        return statistics.median(one / two for one, two in zip(self.rates, other.rates, strict=False))

    def to_json(self) -> dict[str, Any]:
        """Give all of it as plain JSON."""
        return asdict(self) | {"rate": self.rate, "total_ms": self.total_ms}


def summarise(turns: Iterable[Turn]) -> list[Line]:
    """Give a line for each contender, in the order of their first turns."""
    by_name: dict[str, list[Turn]] = {}
    for turn in turns:
        by_name.setdefault(turn.kind.name, []).append(turn)
    return [_line(one) for one in by_name.values()]


def _line(turns: list[Turn]) -> Line:
    roles = sorted({role for turn in turns for role in turn.cost.cpu_s})
    alone = sorted(seconds * 1000 for turn in turns for seconds in turn.alone_s)
    return Line(
        kind=turns[0].kind,
        rates=tuple(turn.images / turn.cost.seconds for turn in sorted(turns, key=lambda one: one.round)),
        cpu_ms={
            role: statistics.median(turn.cost.cpu_s[role] / turn.images * 1000 for turn in turns) for role in roles
        },
        busy=statistics.median(sum(turn.cost.cpu_s.values()) / turn.cost.seconds for turn in turns),
        others=statistics.median(turn.cost.others for turn in turns),
        memory_mb=statistics.median(turn.cost.memory_bytes for turn in turns) / 1e6,
        p50_ms=statistics.median(alone),
        p99_ms=alone[min(len(alone) - 1, int(len(alone) * 0.99))],
    )
