"""One whole measurement: from a model and photos to figures, a table, JSON and sentences.

Stage: what ``fleet-worker bench`` and ``make bench`` share; the latter gives more contenders.
"""

import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from worker import cpu
from worker.bench import anatomy, benchmark_app, cost, report, runner, sentences, summary, task
from worker.bench.contender import Contender, ContenderError
from worker.bench.figures import Figures
from worker.settings import Settings

#: CPU milliseconds of a message, about: with a network that costs next to nothing, a fleet is to take its time as well.
MESSAGE_MS = 1.5

#: Settings that a fleet goes by and the limit and the servers do not know.
OF_FLEETS = ("HINT", "STREAMS", "REQUESTS", "PINNING", "BATCH", "BATCH_WAIT_MS", "DECODERS", "JOBS")

#: Seconds of each run of ``benchmark_app``, and how many there are, at most.
APP_S = 5.0
APP_RUNS = 3


@dataclass(frozen=True, slots=True)
class Wish:
    """What to measure.

    Attributes:
        model: a model of the store.
        photos: files with encoded images.
        rounds: turns of each contender.
        images: per turn; 0 means as many as the cores could do in ``seconds``. All photos equally often.
        seconds: about how long each contender serves in a turn then; the yardstick serves as long beside it. And the
            longest run of ``benchmark_app``.
    """

    model: str
    photos: tuple[Path, ...]
    rounds: int
    images: int = 0
    seconds: float = 5.0


def measure(
    settings: Settings, wish: Wish, contenders: Sequence[Contender], console: Console, json_path: Path | None = None
) -> Figures:
    """Measure, print table and sentences, and write the JSON.

    Raises:
        models.ModelError: the model is not there or does not run.
        ContenderError: the network cannot be measured at all.
    """
    if settings.device != "CPU":
        raise ContenderError(f"The bench measures processors; FLEET_DEVICE is {settings.device}.")
    plan = cpu.make_plan(settings)

    def tell(line: str) -> None:
        console.print(line, style="dim", highlight=False, markup=False)

    out: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="fleet-bench-") as folder:
        subject = task.make(settings, wish.model, wish.photos, plan.threads, Path(folder))
        tell("what an image costs, apart")
        parts = anatomy.measure(subject, wish.seconds)
        images = wish.images or max(20, round(wish.seconds * plan.threads * 1000 / (parts.total_ms + MESSAGE_MS)))
        turns = list(runner.run(subject, contenders, images=images, rounds=wish.rounds, tell=tell, out=out))
        if not turns:
            raise ContenderError(" ".join(f"{name}: {why}" for name, why in out.items()))
        parts = _once_more(subject, parts, wish.seconds, tell)
        tell("benchmark_app")
        alone = None
        try:
            alone = _app(subject, min(wish.rounds, APP_RUNS), min(wish.seconds, APP_S))
        except ContenderError as error:
            out["benchmark_app"] = str(error)
            tell(str(error))
    lines = {line.kind.name: line for line in summary.summarise(turns)}
    images = max(turn.images for turn in turns)
    figures = Figures(
        plan.threads,
        plan.why[0],
        parts,
        lines,
        alone,
        allowed=len(cost.allowed()),
        told={f"FLEET_{name}": os.environ[f"FLEET_{name}"] for name in OF_FLEETS if os.environ.get(f"FLEET_{name}")},
        left_out=out,
    )
    said = sentences.explain(figures)
    about: dict[str, Any] = {
        "model": wish.model,
        "input_size": subject.spec.input_size,
        "photos": [path.name for path in wish.photos],
        "images": images,
        "rounds": wish.rounds,
        "cores_used": plan.threads,
        "cores_allowed": figures.allowed,
        "settings_of_fleets": figures.told,
        "left_out": figures.left_out,
    }
    cores = f"{plan.threads} core{'s' * (plan.threads > 1)}"
    title = f"{wish.model}, {images} images a turn, {wish.rounds} alternating rounds, {cores}"
    if json_path is not None:
        report.write(json_path, about, figures, said)
    console.print(report.table(title, figures))
    for sentence in said:
        console.print(f"- {sentence}", highlight=False, markup=False)
    return figures


def _once_more(
    subject: task.Task, before: anatomy.Anatomy, seconds: float, tell: Callable[[str], None]
) -> anatomy.Anatomy:
    """Measure what an image costs again, minutes later, and give the best; where that fails, what there is."""
    tell("what an image costs, apart, once more")
    try:
        return before.best(anatomy.measure(subject, seconds))
    except ContenderError as error:
        tell(str(error))
        return before


def _app(subject: task.Task, runs: int, seconds: float) -> float:
    return statistics.median(benchmark_app.rate(subject, seconds) for _ in range(runs))
