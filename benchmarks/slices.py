"""What longer time slices gain several workers on one host, and what they cost in latency.

Stage: beside the bench, for docs/performance.md: ``python -m benchmarks.slices``. Each number of workers takes its turn
with each slice; it serves as fast as it goes, and then images that come at random times.
"""

import itertools
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from worker import cpu, models, settings
from worker.bench import cost, task
from worker.bench.__main__ import samples
from worker.bench.contender import Kind
from worker.bench.fleet import Fleet


@click.command()
@click.option("--model", default="centerface", show_default=True)
@click.option("--workers", "counts", type=click.IntRange(1), multiple=True, default=(1, 4), show_default=True)
@click.option("--slice-ms", "slices", type=click.IntRange(0, 100), multiple=True, default=(0, 100), show_default=True)
@click.option("--images", type=click.IntRange(1), default=200, show_default=True, help="As fast as it goes.")
@click.option("--per-s", default=35.0, show_default=True, help="Images a second at random times.")
@click.option("--seconds", default=5.0, show_default=True, help="Of those.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
def main(  # noqa: PLR0913
    *, model: str, counts: Sequence[int], slices: Sequence[int], images: int, per_s: float, seconds: float, rounds: int
) -> None:
    """Print images per second, of the first arrangement's, and latencies; 0 ms are the kernel's own slices."""
    chosen = settings.load()
    models.fetch(model, chosen.model_store)
    ways: dict[str, Fleet] = {}
    for count, ms in itertools.product(counts, slices):
        name = f"{count} worker{'s' * (count > 1)}, {ms} ms"
        while name in ways:
            name += ", again"
        ways[name] = _fleet(count, ms)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    waits: dict[str, list[Sequence[float]]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory(prefix="fleet-bench-") as folder:
        subject = task.make(chosen, model, samples(), cpu.make_plan(chosen).threads, Path(folder))
        for number in range(rounds):
            names = list(ways)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                with ways[name].open(subject) as running:
                    running.serve(max(1, images // 4))
                    spent = cost.of(lambda running=running: running.serve(images), running.processes()).seconds
                    rates[name].append(images / spent)
                    waits[name].append(sorted(running.at_random(per_s, seconds)))
    first = rates[next(iter(ways))]
    for name in ways:
        times = statistics.median(rate / other for rate, other in zip(rates[name], first, strict=True))
        told = ", ".join(f"p{part} {_quantile(waits[name], part):.0f} ms" for part in (50, 95, 99))
        click.echo(f"{name:20} {statistics.median(rates[name]):7.1f} images/s, {times:.2f} of the first; {told}")


def _fleet(workers: int, slice_ms: int) -> Fleet:
    return Fleet(Kind("slices", "fleet", durable=True), workers, environ={"FLEET_SLICE_MS": str(slice_ms)})


def _quantile(rounds: Sequence[Sequence[float]], part: int) -> float:
    """Give the median of the rounds' percentiles, milliseconds."""
    return statistics.median(one[min(len(one) - 1, len(one) * part // 100)] for one in rounds if one) * 1000


if __name__ == "__main__":
    main()
