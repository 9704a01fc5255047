"""From all turns to one line a contender: medians and spread.

Stage: between :mod:`worker.bench.runner` and :mod:`worker.bench.report`, :mod:`worker.bench.sentences`. Pure.
"""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from worker.bench.contender import Kind
from worker.bench.runner import Served, Turn

#: Rounds from which on anything is told from noise.
LEAST_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Line:
    """One contender over all rounds; medians where nothing else is said.

    Attributes:
        kind: what it is.
        rates: images per second of each round, in order.
        ratios: the same, of the yardstick's in the same minute. The yardstick's own say how large the noise is.
        cpu_ms: CPU milliseconds an image by role.
        busy: cores that its own processes kept busy.
        others: cores that the rest of the host kept busy.
        memory_mb: of its processes, the client's left out.
        p50_ms: of images asked for one by one.
        p99_ms: likewise.
        more_ms: CPU milliseconds an image over the yardstick's in the same minute, of each round.
        more_p50_ms: likewise, of all rounds.
        more_p99_ms: likewise.
    """

    kind: Kind
    rates: tuple[float, ...]
    ratios: tuple[float, ...]
    cpu_ms: dict[str, float]
    busy: float
    others: float
    memory_mb: float
    p50_ms: float
    p99_ms: float
    more_ms: tuple[float, ...]
    more_p50_ms: float
    more_p99_ms: float

    @property
    def rate(self) -> float:
        """Images per second."""
        return statistics.median(self.rates)

    @property
    def total_ms(self) -> float:
        """CPU milliseconds an image of all roles together."""
        return sum(self.cpu_ms.values())

    @property
    def ratio(self) -> float:
        """How many times as fast as the yardstick it is."""
        return statistics.median(self.ratios)

    @property
    def more_cpu_ms(self) -> float:
        """CPU milliseconds an image over the yardstick's."""
        return statistics.median(self.more_ms)

    def gains_on(self, other: "Line") -> list[float]:
        """How much faster it is than ``other``, round by round: 0.1 is a tenth."""
        return [one / two - 1 for one, two in zip(self.ratios, other.ratios, strict=False)]

    def times(self, other: "Line") -> float:
        """How many times as fast it is: the median of the rounds, each measured by the yardstick."""
        return statistics.median(one / two for one, two in zip(self.ratios, other.ratios, strict=False))

    def to_json(self) -> dict[str, Any]:
        """Give all of it as plain JSON."""
        return asdict(self) | {
            "rate": self.rate,
            "ratio": self.ratio,
            "total_ms": self.total_ms,
            "more_cpu_ms": self.more_cpu_ms,
        }


def summarise(turns: Iterable[Turn]) -> list[Line]:
    """Give a line for each contender, in the order of their first turns."""
    by_name: dict[str, list[Turn]] = {}
    for turn in turns:
        by_name.setdefault(turn.kind.name, []).append(turn)
    return [_line(sorted(one, key=lambda turn: turn.round)) for one in by_name.values()]


def _line(turns: list[Turn]) -> Line:
    costs, median = [turn.own.cost for turn in turns], statistics.median
    alone, beside = (_sorted_ms(turns, of) for of in (lambda turn: turn.own, lambda turn: turn.yardstick))
    return Line(
        kind=turns[0].kind,
        rates=tuple(turn.images / turn.own.cost.seconds for turn in turns),
        ratios=tuple(turn.yardstick.cost.seconds / turn.own.cost.seconds for turn in turns),
        cpu_ms={
            role: median(turn.own.cost.cpu_s[role] / turn.images * 1000 for turn in turns)
            for role in sorted(costs[0].cpu_s)
        },
        busy=median(sum(one.cpu_s.values()) / one.seconds for one in costs),
        others=median(one.others for one in costs),
        memory_mb=median(one.memory_bytes for one in costs) / 1e6,
        p50_ms=median(alone),
        p99_ms=_p99(alone),
        more_ms=tuple((_cpu_s(turn.own) - _cpu_s(turn.yardstick)) / turn.images * 1000 for turn in turns),
        more_p50_ms=median(alone) - median(beside),
        more_p99_ms=_p99(alone) - _p99(beside),
    )


def doubt(differences: Sequence[float], least: float) -> str:
    """Say why differences, one a round, are not to be relied on; nothing where they are.

    Nearly all rounds have to agree on the sign, and the median must be ``least`` or more: two that are equal agree in
    four of five rounds, by chance, in three runs of eight.
    """
    if len(differences) < LEAST_ROUNDS:
        return "in too few rounds to tell that from noise"
    median = statistics.median(differences)
    agreeing = sum((one > 0) == (median > 0) for one in differences)
    if agreeing < len(differences) - len(differences) // 5 or abs(median) < least:
        return "which these rounds do not tell from noise"
    return ""


def _sorted_ms(turns: Iterable[Turn], of: Callable[[Turn], Served]) -> list[float]:
    return sorted(seconds * 1000 for turn in turns for seconds in of(turn).alone_s)


def _p99(ordered: Sequence[float]) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


def _cpu_s(served: Served) -> float:
    return sum(served.cost.cpu_s.values())
