"""``fleet-worker``: run workers, fetch models, look at this host.

Stage: the operator's hand. Neighbours: :mod:`worker.app` for a worker, :mod:`worker.local` for a fleet on one machine.
"""

import dataclasses
import importlib.util
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import click

from producer.wire import check_model_name
from worker import assets, cpu, embedded, footprint, health, local, memory, models, settings, slices, starting
from worker.cli_timeline import timeline
from worker.complaints import checked as _checked
from worker.complaints import chosen_settings as _settings
from worker.models_cli import models_group


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="detection-fleet")
def main() -> None:
    """Workers of the detection fleet."""


main.add_command(models_group)
main.add_command(timeline)


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("celery_options", nargs=-1, type=click.UNPROCESSED)
def run(celery_options: tuple[str, ...]) -> None:
    """Run one worker; CELERY_OPTIONS are those of `celery worker`."""
    _settings()
    starting.start(celery_options, "fleet-worker run")


@main.command(name="local")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Worker processes.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of the server; 0: any free one.")
@click.option("--model", "names", multiple=True, help="Model to serve; may be given more than once.")
@click.option("--verbose", is_flag=True, help="Let the workers log every job.")
def run_local(workers: int, port: int, names: tuple[str, ...], verbose: bool) -> None:
    """Run an embedded Valkey and workers in the foreground; Ctrl-C stops all.

    Prints the single line `ready redis://127.0.0.1:PORT/0` when jobs can be sent; logs go to stderr.
    """
    chosen = _settings()
    if names:
        chosen = dataclasses.replace(chosen, models=tuple(_checked(check_model_name, name) for name in names))
    for name in chosen.models:
        if name in models.KNOWN and not (chosen.model_store / name / "model.toml").exists():
            click.echo(f"Fetching the model {name} …", err=True)
            _checked(models.fetch, name, chosen.model_store)
        _checked(models.read, name, chosen.model_store)
    extra = ("-l", "INFO") if verbose else ()
    signal.signal(signal.SIGTERM, _as_interrupt)  # so that what was started is stopped while it still starts, too
    try:
        with local.fleet(chosen, workers=workers, port=port, extra=extra) as running:
            click.echo(f"ready {running.url}")
            sys.stdout.flush()
            local.until_stopped(running.workers)
            _complain_of_lost(running.workers)
    except KeyboardInterrupt:
        sys.exit(130)
    except (local.LocalError, embedded.ServerError) as error:
        raise click.ClickException(str(error)) from error


@main.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.argument("names", nargs=-1)
def samples(folder: Path, names: tuple[str, ...]) -> None:
    """Fetch sample photos into FOLDER: astronaut and grace_hopper, or those that are named."""
    chosen = names or ("astronaut", "grace_hopper")
    photos = [name for name in assets.ASSETS if name not in models.KNOWN]
    if unknown := [name for name in chosen if name not in photos]:
        raise click.ClickException(f"There is no sample {unknown[0]!r}; there are {', '.join(photos)}.")
    for path in _checked(assets.fetch_all, chosen, folder).values():
        click.echo(path)


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def bench(options: tuple[str, ...]) -> None:
    """Measure a network with your own photos on this host, and say what limits it; see `bench --help`."""
    _settings()
    if importlib.util.find_spec("psutil") is None:
        raise click.ClickException('The bench needs more packages: pip install "detection-fleet[local]"')
    sys.argv[1:] = options
    runpy.run_module("worker.bench", run_name="__main__")  # here, for signals are meant for this process


@main.command()
def doctor() -> None:
    """Print the settings, the plan for this host with the reasons, and what the models take."""
    chosen = _settings()
    for name, value in settings.describe(chosen).items():
        click.echo(f"{name:22} {value}")
    click.echo()
    plan = cpu.make_plan(chosen)
    bound = memory.explain(chosen.max_pixels, chosen.max_image_bytes, plan.decoders, len(chosen.models))
    for sentence in (*plan.why, slices.explain(chosen.slice_ms), bound):
        click.echo(sentence)
    for sentence in footprint.explain(chosen.models):
        click.echo(sentence)


@main.command(name="health")
@click.option("--live", is_flag=True, help="Only whether a restart would help: its loop turns and its networks answer.")
def tell_health(live: bool) -> None:
    """Exit with 0 if this host's worker is ready: its loop turns, its networks answer, Redis answers, it takes jobs."""
    path = _settings().health_file
    if (problem := health.problem_of(path)) is not None:
        raise click.ClickException(f"{problem}: the worker has not started yet, hangs, or its networks fail.")
    if not live and (problem := health.problem_of(health.ready_file(path))) is not None:
        raise click.ClickException(f"{problem}: the worker cannot reach Redis, or stops.")
    click.echo("alive" if live else "ready")


def _complain_of_lost(workers: "list[subprocess.Popen[bytes]]") -> None:
    lost = [worker.returncode for worker in workers if worker.poll() is not None]
    if lost:
        raise click.ClickException(f"A worker ended by itself with status {lost[0]}; the others were stopped.")


def _as_interrupt(*_: object) -> None:
    raise KeyboardInterrupt
