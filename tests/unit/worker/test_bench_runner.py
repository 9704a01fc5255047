"""Contenders take turns with the limit, which is their yardstick, and what fails is left out."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple, cast

import pytest

from worker.bench import child, cost, runner, summary
from worker.bench.contender import ContenderError, Kind
from worker.bench.cost import Cost
from worker.bench.engine import Answer
from worker.bench.runner import Served, Turn
from worker.bench.task import Task

#: No fake looks at it; it has one photo.
TASK = cast("Task", SimpleNamespace(photos=[Path("one.jpg")]))

BOX = [0, 0.90, 10.0, 10.0, 110.0, 110.0]


class Fake:
    """A contender that notes what is asked of it; ``breaks`` when it has served that many times."""

    def __init__(
        self, name: str, noted: list[str], *, box: Sequence[float] = BOX, breaks: int = 1000, photos: int = 1
    ) -> None:
        self.kind = Kind(name, "any")
        self._noted = noted
        self._box = box
        self._left = breaks
        self._photos = photos

    @contextmanager
    def open(self, task: Task) -> Iterator["Fake"]:
        """Start and stop."""
        self._noted.append(f"+{self.kind.name}")
        yield self
        self._noted.append(f"-{self.kind.name}")

    def serve(self, count: int) -> None:
        """Note it."""
        self._noted.append(f"{self.kind.name} {count}")
        self._left -= 1
        if self._left < 0:
            raise ContenderError(f"{self.kind.name} broke")

    def alone(self, count: int) -> Sequence[float]:
        """Answer each in 10 ms."""
        return [0.01] * count

    def answers(self) -> Sequence[Answer]:
        """Find one box on each photo."""
        return [[self._box]] * self._photos

    def processes(self) -> Mapping[str, Sequence[int]]:
        """There are none."""
        return {}


def test_each_has_its_turn_beside_the_limit() -> None:
    """Given two rounds, then each serves beside a limit that lives for a round, and the order moves on."""
    noted: list[str] = []
    limit, other = Fake("limit", noted), Fake("other", noted)
    turns = list(runner.run(TASK, [limit, other], images=300, rounds=2, tell=noted.append, out={}))

    assert [(turn.kind.name, turn.round, turn.images) for turn in turns] == [
        ("limit", 0, 300), ("other", 0, 300), ("other", 1, 300), ("limit", 1, 300),
    ]  # fmt: skip
    assert all(len(turn.own.alone_s) == len(turn.yardstick.alone_s) == 60 for turn in turns)
    second = noted[noted.index("round 2 of 2: other") - 2 :]
    pieces = ["limit 150", "other 150", "other 150", "limit 150"]
    assert second == [
        "+limit", "limit 60",
        "round 2 of 2: other", "+other", "other 60", *pieces, "-other",
        "round 2 of 2: limit", "+limit", "limit 60", *["limit 150"] * 4, "-limit", "-limit",
    ]  # fmt: skip


def test_pieces_make_up_the_turn() -> None:
    """Given numbers that do not divide, then every image is served once; a short turn is one piece."""
    for images, pieces in ((40, [40]), (299, [299]), (501, [251, 250]), (1001, [251, 250, 250, 250])):
        noted: list[str] = []
        list(runner.run(TASK, [Fake("limit", noted), Fake("other", noted)], images=images, rounds=1, tell=str, out={}))
        served = [int(one.split()[1]) for one in noted if one.startswith("other ")]
        assert served[1:] == pieces


def test_a_turn_and_each_piece_have_all_photos_equally_often() -> None:
    """Given seven photos, then a turn, its pieces and what is asked one by one are multiples of seven."""
    seven = cast("Task", SimpleNamespace(photos=[Path(f"{number}.jpg") for number in range(7)]))
    for images, pieces in ((40, [42]), (1, [7]), (400, [203, 196]), (1001, [252, 252, 252, 245])):
        noted: list[str] = []
        fakes = [Fake("limit", noted, photos=7), Fake("other", noted, photos=7)]
        turns = list(runner.run(seven, fakes, images=images, rounds=1, tell=str, out={}))
        assert [int(one.split()[1]) for one in noted if one.startswith("other ")][1:] == pieces
        assert all(turn.images == sum(pieces) and len(turn.own.alone_s) % 7 == 0 for turn in turns)


def test_each_of_several_processes_serves_all_photos() -> None:
    """Given images for some processes, then each has all photos as often, or once more, and together all images."""
    photos = [b"a", b"b", b"c", b"d"]
    assert child._share(photos, 13, 0, 2) == [*photos, b"a", b"b", b"c"]
    assert child._share(photos, 13, 1, 2) == [b"c", b"d", b"a", b"b", b"c", b"d"]
    for step, count in ((8, 28), (64, 252), (3, 2)):
        shares = [child._share(photos, count, first, step) for first in range(step)]
        assert sum(map(len, shares)) == count
        for share in shares:
            often = [share.count(photo) for photo in photos]
            assert max(often) - min(often) <= 1


def test_who_fails_is_left_out_and_told_of() -> None:
    """Given one that breaks in the second round and one that finds another box, then the others go on."""
    told: list[str] = []
    weak, wrong = Fake("weak", [], breaks=2), Fake("wrong", [], box=[1, *BOX[1:]])
    listed = [Fake("limit", []), weak, wrong, Fake("good", [])]
    out: dict[str, str] = {}
    turns = list(runner.run(TASK, listed, images=40, rounds=3, tell=told.append, out=out))

    assert out.keys() == {"weak", "wrong"}
    rounds = {name: [turn.round for turn in turns if turn.kind.name == name] for name in ("limit", "weak", "good")}
    assert rounds == {"limit": [0, 1, 2], "weak": [0], "good": [0, 1, 2]}
    left_out = [line for line in told if "left out" in line]
    assert left_out[0].startswith("wrong is left out: On one.jpg it finds")
    assert left_out[1:] == ["weak is left out: weak broke"]


@pytest.mark.parametrize("serves", [0, 4])
def test_without_the_limit_there_is_nothing_to_measure_by(serves: int) -> None:
    """Given a limit that breaks in the first round, at once or in another's turn, then the run ends with its error."""
    told: list[str] = []
    listed = [Fake("limit", [], breaks=serves), Fake("other", [])]
    with pytest.raises(ContenderError, match="limit broke"):
        list(runner.run(TASK, [listed[0], listed[1]], images=40, rounds=1, tell=told.append, out={}))
    assert not [line for line in told if "left out" in line]


def test_rounds_that_are_done_outlive_the_limit() -> None:
    """Given a limit that breaks in another's turn of the second round, then the first round's figures are kept."""
    told: list[str] = []
    listed = [Fake("limit", [], breaks=6), Fake("other", [])]
    turns = list(runner.run(TASK, listed, images=40, rounds=3, tell=told.append, out={}))
    assert [(turn.kind.name, turn.round) for turn in turns] == [("limit", 0), ("other", 0)]
    assert told[-1] == "limit has ended, and with it the rounds: limit broke"


def test_ratios_go_by_the_limit_of_the_same_seconds() -> None:
    """Given a host that halves its speed in the second round, then ratios and costs are as in the first."""

    def turn(name: str, number: int, seconds: float, cpu_s: float, alone_ms: float) -> Turn:
        slow = number + 1.0
        own = Served(Cost(seconds * slow, {"worker": cpu_s, "client": 0.1}, 0, 0.0), (alone_ms / 1000,))
        beside = Served(Cost(1.0 * slow, {"worker": 2.0, "client": 0.0}, 0, 0.0), (0.010,))
        return Turn(Kind(name, "any"), number, 100, own, beside)

    fast = [turn("fast", number, 0.5, 2.1, 12.0) for number in (1, 0)]
    even = [turn("even", number, 1.0, 2.9, 11.0) for number in (0, 1)]
    one, other = summary.summarise([*fast, *even])

    assert one.ratios == (2.0, 2.0)
    assert one.times(other) == 2.0
    assert one.rates == (200.0, 100.0)
    assert one.more_cpu_ms == pytest.approx(2.0)
    assert one.more_p50_ms == pytest.approx(2.0)
    assert other.cpu_ms == pytest.approx({"client": 1.0, "worker": 29.0})


def test_a_contender_with_other_boxes_is_refused() -> None:
    """Given answers, then rounding passes and a missing, moved or renamed box does not."""
    wanted = [[[0, 0.90, 10.0, 10.0, 110.0, 110.0]], []]
    task = cast("Task", SimpleNamespace(photos=[Path("one.jpg"), Path("two.jpg")]))
    runner.check(task, [[[0, 0.91, 11.0, 10.0, 111.0, 110.0]], []], wanted)
    for found in ([], [[0, 0.9, 60.0, 10.0, 160.0, 110.0]], [[1, 0.9, 10.0, 10.0, 110.0, 110.0]]):
        with pytest.raises(ContenderError, match=r"On one\.jpg"):
            runner.check(task, [found, []], wanted)


@pytest.mark.parametrize(
    ("online", "ours", "busy_s"),
    [([0, 1, 2, 3], {1, 3}, 20.0 + 40.0), ([0, 2, 3], {2, 3}, 100.0)],
)
def test_only_cpus_that_may_be_used_count(
    monkeypatch: pytest.MonkeyPatch, online: list[int], ours: set[int], busy_s: float
) -> None:
    """Given two CPUs of four, then theirs counts; where one is offline, a place is no number, and all count."""
    times = {number: SimpleTimes(user=10.0 * (number + 1), idle=500.0) for number in online}
    monkeypatch.setattr(cost, "allowed", lambda: ours)
    monkeypatch.setattr(cost.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(
        cost.psutil, "cpu_times", lambda percpu=False: list(times.values()) if percpu else SimpleTimes(100.0, 900.0)
    )
    assert cost._host_s() == busy_s


class SimpleTimes(NamedTuple):
    """What psutil says of a CPU."""

    user: float
    idle: float
