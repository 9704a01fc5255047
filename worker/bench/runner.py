"""Runs contenders in turn, several rounds, and keeps every figure.

Stage: the middle of the bench. Neighbours: :mod:`worker.bench.contender` before, :mod:`worker.bench.summary` after.
Each contender is started for its turn and stopped after it, so that none runs beside another; each round begins with
another one, so that a slow minute of the host does not hit the same one each time.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from worker.bench import cost
from worker.bench.contender import Contender, ContenderError, Kind, Running
from worker.bench.engine import Answer
from worker.bench.task import Task

#: Part of a turn's images that warms up.
WARM = 0.2

#: Most images asked for one by one, for the latency of an idle server, and part of a turn's images.
ALONE = 60
ALONE_PART = 0.25

#: Two answers are the same when boxes overlap so much and scores differ so little. Streams and batches may round
#: differently where the network runs in bfloat16.
LEAST_IOU = 0.85
MOST_SCORE = 0.03


@dataclass(frozen=True, slots=True)
class Turn:
    """One contender's figures of one round."""

    kind: Kind
    round: int
    images: int
    cost: cost.Cost
    alone_s: tuple[float, ...]


def run(
    task: Task, contenders: Sequence[Contender], *, images: int, rounds: int, tell: Callable[[str], None]
) -> Iterator[Turn]:
    """Give every contender a turn in each of ``rounds``; yield its figures as they come.

    Args:
        task: what is measured.
        contenders: the first one's answers are what the others' must be.
        images: per turn, after warming up.
        rounds: how many.
        tell: is told in a line what goes on, and why a contender is left out.
    """
    expected: Sequence[Answer] | None = None
    out: set[str] = set()
    for number in range(rounds):
        shift = number % len(contenders) if number else 0
        for one in [*contenders[shift:], *contenders[:shift]]:
            if one.kind.name in out:
                continue
            tell(f"round {number + 1} of {rounds}: {one.kind.name}")
            try:
                with one.open(task) as running:
                    if number == 0:
                        answers = running.answers()
                        expected = answers if expected is None else expected
                        check(one.kind.name, answers, expected)
                    yield _turn(one.kind, running, number, images)
            except ContenderError as error:
                out.add(one.kind.name)
                tell(f"{one.kind.name} is left out: {error}")


def _turn(kind: Kind, running: Running, number: int, images: int) -> Turn:
    running.serve(max(1, int(images * WARM)))
    alone = tuple(running.alone(min(ALONE, max(5, int(images * ALONE_PART)))))
    measured = cost.of(lambda: running.serve(images), running.processes())
    return Turn(kind, number, images, measured, alone)


def check(name: str, answers: Sequence[Answer], expected: Sequence[Answer]) -> None:
    """Make sure that a contender finds what the limit finds.

    Raises:
        ContenderError: it does not.
    """
    for photo, (found, wanted) in enumerate(zip(answers, expected, strict=True)):
        if len(found) != len(wanted) or not all(any(_same(one, other) for other in found) for one in wanted):
            raise ContenderError(f"On photo {photo + 1} it finds {found}, and the limit {wanted}.")


def _same(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] == other[0] and abs(one[1] - other[1]) <= MOST_SCORE and _iou(one[2:6], other[2:6]) >= LEAST_IOU


def _iou(one: Sequence[float], other: Sequence[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    return shared / max(1e-9, _area(one) + _area(other) - shared)


def _area(box: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
