"""``fleet-worker timeline``: a picture of what a worker does when, and the same as a trace for Chrome.

Stage: the operator's hand; :mod:`worker.recording` records, :mod:`worker.timeline` reckons.
"""

import importlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import click

from worker import embedded, local, models, settings
from worker.recording import record_workers
from worker.timeline import Recording, RecordingError, chrome_trace, figures, steady


@click.command()
@click.argument("photos", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--seconds", type=click.FloatRange(0.5, 60), default=3.0, show_default=True, help="How long to record.")
@click.option("--window-ms", type=click.FloatRange(20, 10_000), default=400.0, show_default=True, help="What is drawn.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("timeline"), show_default=True)
@click.option("--worker", help="Record this worker only; default: all that answer.")
def timeline(photos: tuple[Path, ...], seconds: float, window_ms: float, out: Path, worker: str | None) -> None:
    """Record what workers do for some seconds; draw which request ran which job when, and what waited.

    Without PHOTOS it records the workers at FLEET_URL, whatever their clients send. With PHOTOS it starts a worker of
    its own and feeds it with them; then a bare server of four threads that start an inference and wait, and the same
    server when nobody waits.
    Writes into the folder --out: a picture a server, and trace.json for ui.perfetto.dev or chrome://tracing.
    """
    try:
        picture = _load_picture()  # who lacks it is told before anything is recorded
        _write(_record(settings.load(), photos, seconds, worker), picture, window_ms / 1000, out)
    except (RecordingError, settings.SettingsError, models.ModelError, local.LocalError, embedded.ServerError) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{out} cannot be written: {error.strerror}.") from error


def _record(
    chosen: settings.Settings, photos: Sequence[Path], seconds: float, worker: str | None
) -> Sequence[Recording]:
    """Load :mod:`worker.contest`, and with it OpenVINO, only where servers are to be started."""
    if not photos:
        return record_workers(chosen.url, seconds, worker)
    contest = cast("Any", importlib.import_module("worker.contest"))
    images = [path.read_bytes() for path in photos]
    ours: Recording = contest.record_fleet(chosen, images, seconds)
    with embedded.server() as url:
        return [ours, *(contest.record_bare(chosen, url, images, seconds, waits=waits) for waits in (True, False))]


def _load_picture() -> Any:
    try:
        return cast("Any", importlib.import_module("worker.timeline_picture"))
    except ImportError as error:
        raise RecordingError(f'Pictures need matplotlib ({error}): pip install "detection-fleet[timeline]"') from error


def _write(recordings: Sequence[Recording], picture: Any, window_s: float, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "trace.json").write_text(json.dumps(chrome_trace(recordings)), encoding="utf-8")
    for recording in recordings:
        begin, end = steady(recording)
        summed = figures(recording, begin, end)
        middle = (begin + end) / 2
        path = out / f"{re.sub(r'[^A-Za-z0-9]+', '-', recording.name)}.png"
        picture.draw(recording, summed, (middle - window_s / 2, middle + window_s / 2), path)
        click.echo(
            f"{path}: {summed.images_per_s:.1f} images/s, {summed.in_flight:.1f} of {recording.requests} requests in "
            f"flight, the network is busy {summed.busy:.0%} of the time, threads wait {summed.blocked:.0%} of theirs, "
            f"images are read while others are in inference {summed.fed:.0%} of it"
        )
    click.echo(out / "trace.json")
