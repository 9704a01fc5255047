"""Runs contenders in turn, several rounds, and keeps every figure.

Stage: the middle of the bench. Neighbours: :mod:`worker.bench.contender` before, :mod:`worker.bench.summary` after.

The first contender is the yardstick. It lives for a whole round, and in each contender's turn the two serve by turns,
a few seconds each: a host that others share is faster and slower for seconds at a time, which then hits both alike, and
their ratio stays. Contenders are started for their turn and stopped after it; each round begins with another one. The
first is a contender too, started a second time: how far from 1 it comes out is the noise of the method.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from worker.bench import cost
from worker.bench.contender import Contender, ContenderError, Kind, Running
from worker.bench.engine import Answer
from worker.bench.task import Task

#: Part of a turn's images that warms up.
WARM = 0.2

#: Pieces that a turn is cut into, even in number so that each of the two begins half of them, and images of each at
#: least: to fill and to empty all stages must not count for much. Each is made of all photos, as often as each other:
#: contenders begin with the first photo each time.
PIECES = 4
LEAST_PIECE = 150

#: Most images asked for one by one, for the latency of an idle server, and part of a turn's images.
ALONE = 60
ALONE_PART = 0.25

#: Two answers are the same when boxes overlap so much and scores differ so little. Streams and batches may round
#: differently where the network runs in bfloat16.
LEAST_IOU = 0.85
MOST_SCORE = 0.03


@dataclass(frozen=True, slots=True)
class Served:
    """What some images cost, and how long each of some others took that were asked for one by one."""

    cost: cost.Cost
    alone_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Turn:
    """One contender's figures of one round, and the yardstick's for as many images in the same minute."""

    kind: Kind
    round: int
    images: int
    own: Served
    yardstick: Served


def run(  # noqa: PLR0913 - all that a run is made of
    task: Task,
    contenders: Sequence[Contender],
    *,
    images: int,
    rounds: int,
    tell: Callable[[str], None],
    out: dict[str, str],
) -> Iterator[Turn]:
    """Give every contender a turn in each of ``rounds``; yield its figures as they come.

    Args:
        task: what is measured.
        contenders: the first is the yardstick, and its answers are what the others' must be.
        images: per turn, after warming up; about so many, for all photos are served as often as each other.
        rounds: how many.
        tell: is told in a line what goes on, and why a contender is left out.
        out: gets the names of those that are left out, and why.

    Raises:
        ContenderError: the yardstick does not run in the first round; later its end is the end of all rounds.
    """
    first = contenders[0]
    expected: Sequence[Answer] | None = None
    images = max(1, round(images / len(task.photos))) * len(task.photos)
    for number in range(rounds):
        shift = number % len(contenders)
        try:
            with first.open(task) as running:
                yardstick = _Yardstick(running)
                expected = yardstick.answers() if expected is None else expected
                _warm_up(yardstick, images)
                for one in [*contenders[shift:], *contenders[:shift]]:
                    if one.kind.name in out:
                        continue
                    tell(f"round {number + 1} of {rounds}: {one.kind.name}")
                    try:
                        yield _turn(task, one, yardstick, expected, number=number, images=images)
                    except ContenderError as error:
                        out[one.kind.name] = str(error)
                        tell(f"{one.kind.name} is left out: {error}")
        except (_YardstickError, ContenderError) as error:
            if number == 0:
                raise ContenderError(str(error)) from error
            tell(f"{first.kind.name} has ended, and with it the rounds: {error}")
            return


class _YardstickError(Exception):
    """The yardstick failed, in whoever's turn."""


class _Yardstick:
    """The first contender as all others are measured by it; what it raises is not taken for another's failure."""

    def __init__(self, running: Running) -> None:
        self._running = running

    def serve(self, count: int) -> None:
        with _as_yardstick():
            self._running.serve(count)

    def alone(self, count: int) -> Sequence[float]:
        with _as_yardstick():
            return self._running.alone(count)

    def answers(self) -> Sequence[Answer]:
        with _as_yardstick():
            return self._running.answers()

    def processes(self) -> Mapping[str, Sequence[int]]:
        return self._running.processes()


@contextmanager
def _as_yardstick() -> Iterator[None]:
    try:
        yield
    except ContenderError as error:
        raise _YardstickError(str(error)) from error


def _turn(  # noqa: PLR0913 - all that a turn is made of
    task: Task, one: Contender, yardstick: Running, expected: Sequence[Answer], *, number: int, images: int
) -> Turn:
    with one.open(task) as running:
        if number == 0:
            check(task, running.answers(), expected)
        _warm_up(running, images)
        own, beside = _by_turns(running, yardstick, images, len(task.photos), swapped=number % 2 == 1)
        return Turn(one.kind, number, images, own, beside)


def _warm_up(running: Running, images: int) -> None:
    running.serve(max(1, int(images * WARM)))


def _by_turns(own: Running, yardstick: Running, images: int, photos: int, *, swapped: bool) -> tuple[Served, Served]:
    """Have both serve ``images`` each, in pieces that alternate; who begins changes with each, as in ABBA."""
    pieces = max(1, min(PIECES, images // max(LEAST_PIECE, photos) // 2 * 2))
    times = images // photos
    sizes = [photos * (times // pieces + (number < times % pieces)) for number in range(pieces)]
    alone = math.ceil(min(ALONE, max(5, int(images * ALONE_PART))) / photos) * photos
    both, order = (own, yardstick), (1, 0) if swapped else (0, 1)
    asked: list[tuple[float, ...]] = [(), ()]
    costs: tuple[list[cost.Cost], list[cost.Cost]] = ([], [])
    for which in order:
        asked[which] = tuple(both[which].alone(alone))
    for size in sizes:
        for which in order:
            costs[which].append(_serve(both[which], size))
        order = order[::-1]
    first, second = (Served(cost.together(spent), alone_s) for spent, alone_s in zip(costs, asked, strict=True))
    return first, second


def _serve(running: Running, images: int) -> cost.Cost:
    try:
        return cost.of(lambda: running.serve(images), running.processes())
    except psutil.NoSuchProcess as error:
        raise ContenderError(f"A process has ended: {error}.") from error


def check(task: Task, answers: Sequence[Answer], expected: Sequence[Answer]) -> None:
    """Make sure that a contender finds what the limit finds.

    Raises:
        ContenderError: it does not.
    """
    for photo, found, wanted in zip(task.photos, answers, expected, strict=True):
        if len(found) != len(wanted) or not all(any(_same(one, other) for other in found) for one in wanted):
            raise ContenderError(f"On {photo.name} it finds {found}, and the limit {wanted}.")


def _same(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] == other[0] and abs(one[1] - other[1]) <= MOST_SCORE and _iou(one[2:6], other[2:6]) >= LEAST_IOU


def _iou(one: Sequence[float], other: Sequence[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    return shared / max(1e-9, _area(one) + _area(other) - shared)


def _area(box: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
