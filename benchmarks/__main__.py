"""``make bench``: everything ``fleet-worker bench`` measures, Celery alone and other servers, and plots.

Stage: the front door. ``python -m benchmarks --help``.
"""

import functools
import signal
from pathlib import Path

import click
from rich.console import Console

from benchmarks import celery_alone, peers, plots
from worker import assets, models, settings
from worker.bench import fleet, inprocess
from worker.bench.__main__ import as_exit, find, options, samples, select
from worker.bench.contender import ContenderError
from worker.bench.measure import Wish, measure

RESULTS = Path("benchmarks/results")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@options(seconds=10.0)
def main(  # noqa: PLR0913 - a command has its options
    *, model: str, folder: Path | None, rounds: int, count: int | None, seconds: float, only: tuple[str, ...]
) -> None:
    """Measure MODEL and write benchmarks/results/MODEL.json, .png and .txt."""
    console = Console(width=160, record=True)
    signal.signal(signal.SIGTERM, as_exit)
    chosen = settings.load()
    listed = [*inprocess.contenders(), *celery_alone.contenders(), *fleet.contenders(), *peers.contenders()]
    path = RESULTS / f"{model}.json"
    try:
        if model in models.KNOWN:
            models.fetch(model, chosen.model_store)
        contenders = select(listed, only)
        photos = (
            find(folder, chosen, count, say=functools.partial(console.print, markup=False)) if folder else samples()
        )
        measure(chosen, Wish(model, photos, rounds, count or 0, seconds), contenders, console, path)
    except (settings.SettingsError, models.ModelError, assets.AssetError, ContenderError) as error:
        raise click.ClickException(str(error)) from error
    path.with_suffix(".txt").write_text(console.export_text(), encoding="utf-8")
    click.echo(f"{path}, {path.with_suffix('.txt')}, {plots.draw(path)}")


if __name__ == "__main__":
    main()
