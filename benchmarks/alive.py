"""Contenders of the bench that are all alive at once and take short turns, many times; CPU time of each thread (Linux).

Stage: beside the bench, for docs/performance.md: ``python -m benchmarks.alive``. The bench starts a contender anew for
each round, for they may take all memory there is; what lies between two starts, and between two minutes of a machine
that others share, is in its figures. Here a turn is a few seconds beside those of all others.
"""

import statistics
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import click
import psutil

from worker import cpu, models, settings
from worker.bench import cost, fleet, inprocess, task
from worker.bench.__main__ import samples
from worker.bench.contender import Running

#: What the others are compared with, and who they are unless others are asked for.
LIMIT = "limit: streams"
CHOSEN = (fleet.ONE_WORKER, fleet.BATCHES)


@click.command()
@click.option("--model", default="centerface", show_default=True)
@click.option("--images", type=click.IntRange(1), default=200, show_default=True, help="Of each turn.")
@click.option("--rounds", type=click.IntRange(2), default=12, show_default=True)
@click.option("--with", "chosen", multiple=True, default=CHOSEN, show_default=True, help="Name of a contender.")
def main(*, model: str, images: int, rounds: int, chosen: Sequence[str]) -> None:
    """Print of each contender the rate, of the limit's, and CPU milliseconds an image: of all, and of busy threads."""
    known = {one.kind.name: one for one in (*inprocess.contenders(), *fleet.contenders())}
    if strange := set(chosen) - known.keys():
        raise click.BadParameter(f"There is no contender {min(strange)!r}; there are {', '.join(known)}.")
    own = settings.load()
    if model in models.KNOWN:
        models.fetch(model, own.model_store)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fleet-bench-")))
        subject = task.make(own, model, samples(), cpu.make_plan(own).threads, folder)
        running = {name: stack.enter_context(known[name].open(subject)) for name in dict.fromkeys((LIMIT, *chosen))}
        turns = {name: Turns(one, images) for name, one in running.items()}
        for number in range(rounds):
            for one in list(turns.values()) if number % 2 == 0 else reversed(turns.values()):
                one.take()
    for name, one in turns.items():
        of_limit = [limit / own_s for limit, own_s in zip(turns[LIMIT].seconds, one.seconds, strict=True)]
        low, middle, high = statistics.quantiles(of_limit, n=4, method="inclusive")
        click.echo(f"{name}: {one.rate():.1f} images/s, {middle:.3f} of the limit ({low:.3f} to {high:.3f})")
        click.echo("  CPU ms an image: " + ", ".join(f"{role} {ms:.2f}" for role, ms in one.cpu_ms().items()))
        click.echo("  threads of its workers: " + ", ".join(f"{ms:.2f}" for ms in one.threads_ms()))


class Turns:
    """The turns of one contender."""

    def __init__(self, running: Running, images: int) -> None:
        self._running = running
        self._images = images
        self._cpu_s: list[dict[str, float]] = []
        self._threads: Counter[str] = Counter()
        self.seconds: list[float] = []

    def take(self) -> None:
        """Serve a tenth of the images, to be warm, and then all of them."""
        self._running.serve(max(4, self._images // 10))
        workers = self._running.processes()["worker"]
        before = _threads(workers)
        spent = cost.of(lambda: self._running.serve(self._images), self._running.processes())
        self.seconds.append(spent.seconds)
        self._cpu_s.append(dict(spent.cpu_s))
        self._threads.update({key: ns - before.get(key, 0) for key, ns in _threads(workers).items()})

    def rate(self) -> float:
        """Return images per second, the median of the turns."""
        return self._images / statistics.median(self.seconds)

    def cpu_ms(self) -> dict[str, float]:
        """Return CPU milliseconds an image by role, medians of the turns."""
        roles = self._cpu_s[0]
        return {role: statistics.median(turn[role] for turn in self._cpu_s) / self._images * 1000 for role in roles}

    def threads_ms(self) -> list[float]:
        """Return CPU milliseconds an image of each thread that had a hundredth or more, most first."""
        total = self._images * len(self.seconds) * 1e6
        return [ns / total for _, ns in self._threads.most_common() if ns / total >= 0.01]


def _threads(pids: Sequence[int]) -> dict[str, int]:
    """Give the nanoseconds that each thread of processes and their children has run."""
    family = [one for pid in pids for one in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))]
    tasks = [path for one in family for path in Path(f"/proc/{one.pid}/task").iterdir()]
    return {path.name: int((path / "schedstat").read_text().split()[0]) for path in tasks}


if __name__ == "__main__":
    main()
