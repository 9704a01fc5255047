"""The command ``fleet``.

Stage: a front door for people; it uses :class:`producer.client.Client` like any application.

Exit status: 0 all well; 1 an image failed, or the fleet cannot be reached; 2 wrong usage; 130 after Ctrl-C.
"""

import contextlib
import importlib
import json
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TextIO, cast

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from producer.answers import Answer
from producer.cli_dead import dead
from producer.cli_status import status
from producer.cli_top import top
from producer.client import Client
from producer.errors import FleetError, InvalidImage, InvalidRequest, UnknownModel
from producer.local import LocalFleetError, local_fleet
from producer.paths import expand
from producer.terminal import SOME_FAILED, USAGE, end, url_option
from producer.wire import MAX_BATCH, Result

TERMINATED, INTERRUPTED = 143, 130


class Album(Protocol):
    """What :class:`producer.draw.Album` does; that module is loaded only when it is asked for."""

    def add(self, path: Path, result: Result) -> Path:
        """Draw a result."""
        ...


@dataclass(frozen=True, slots=True)
class Order:
    """The options of ``fleet detect``, as click gives them."""

    paths: tuple[str, ...]
    url: str
    model: str | None
    min_score: float | None
    draw: Path | None
    json_file: str | None
    batch: int
    window: int
    deadline: float
    local: bool


@dataclass(slots=True)
class Tally:
    """What happened so far."""

    images: int = 0
    failed: int = 0
    detections: int = 0
    started_at: float = field(default_factory=time.monotonic)

    def sentence(self) -> str:
        """Sum it up."""
        seconds = max(1e-3, time.monotonic() - self.started_at)
        failed = f", {self.failed} failed" if self.failed else ""
        return (
            f"{self.images} image{'s' * (self.images != 1)}, {self.detections} detection{'s' * (self.detections != 1)}"
            f"{failed} in {seconds:.1f} s ({self.images / seconds:.1f} images/s)"
        )


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="detection-fleet")
def main() -> None:
    """Send images to the detection fleet and read detections back."""


main.add_command(dead)
main.add_command(status)
main.add_command(top)


@main.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@url_option
@click.option("--model", help="Model to use; needed when the fleet serves several.")
@click.option("--min-score", type=click.FloatRange(0, 1), help="Least score of a detection; default: the model's.")
@click.option("--draw", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Draw copies into DIR.")
@click.option("--json", "json_file", metavar="FILE", help="Write JSON lines to FILE; - is standard output.")
@click.option("--batch", type=click.IntRange(1, MAX_BATCH), default=1, show_default=True, help="Images per message.")
@click.option("--window", type=click.IntRange(1), default=64, show_default=True, help="Most images under way.")
@click.option("--deadline", type=click.FloatRange(0, min_open=True), default=600.0, show_default=True, help="Seconds.")
@click.option("--local", is_flag=True, help="Start a worker with its own server on this computer for the occasion.")
def detect(**options: Any) -> None:
    """Detect objects in images: files, folders (with all below them) and quoted globs.

    Prints a line per detection: path, label, score and box (x1 y1 x2 y2, pixels), separated by tabs.

    Exit status: 0 all well; 1 an image failed, or the fleet cannot be reached; 2 wrong usage; 130 after Ctrl-C.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        tally = _detect(Order(**options))
    except KeyboardInterrupt:
        end(INTERRUPTED, "Interrupted; the images under way were cancelled.")
    except (InvalidRequest, UnknownModel) as error:
        end(USAGE, str(error))
    except (FleetError, LocalFleetError) as error:
        end(SOME_FAILED, str(error))
    click.echo(tally.sentence(), err=True)
    sys.exit(SOME_FAILED if tally.failed else 0)


def _detect(order: Order) -> Tally:
    paths = expand(order.paths)
    if not paths:
        end(USAGE, f"There is no image in {', '.join(order.paths)}.")
    album = _open_album(order.draw, paths) if order.draw is not None else None
    with contextlib.ExitStack() as stack:
        lines = stack.enter_context(_open_lines(order.json_file)) if order.json_file else None
        url = stack.enter_context(local_fleet(order.model)) if order.local else order.url
        client = stack.enter_context(Client(url, model=order.model))
        progress = stack.enter_context(_progress_bar())
        task = progress.add_task("detect", total=len(paths))
        answers = client.map(
            paths, window=order.window, batch=order.batch, min_score=order.min_score, deadline_s=order.deadline
        )
        tally = Tally()
        for answer in stack.enter_context(contextlib.closing(answers)):
            _report(answer, tally, album, lines, quiet=order.json_file == "-")
            progress.advance(task)
    return tally


def _report(answer: Answer, tally: Tally, album: Album | None, lines: TextIO | None, *, quiet: bool) -> None:
    """Write down one answer everywhere it is wanted."""
    path: Path = answer.image
    tally.images += 1
    error = answer.error
    if answer.result is not None:
        tally.detections += len(answer.result.detections)
        if not quiet:
            for line in _lines(path, answer.result):
                click.echo(line)
        if album is not None:
            try:
                album.add(path, answer.result)
            except InvalidImage as problem:
                error = problem
    if lines is not None:
        found = {"result": answer.result.to_json()} if answer.result is not None else {}
        failure = {"error": answer.error.to_json()} if answer.error is not None else {}
        lines.write(json.dumps({"path": str(path), **found, **failure}, ensure_ascii=False) + "\n")
    if error is not None:
        tally.failed += 1
        click.echo(f"{path}: {error} ({error.code})", err=True)


def _lines(path: Path, result: Result) -> Iterator[str]:
    for one in result.detections:
        box = " ".join(f"{edge:.1f}" for edge in one.box)
        yield f"{path}\t{one.label}\t{one.score:.3f}\t{box}"


def _open_lines(name: str) -> contextlib.AbstractContextManager[TextIO]:
    if name == "-":
        return contextlib.nullcontext(sys.stdout)
    try:
        return Path(name).open("w", encoding="utf-8")
    except OSError as error:
        end(USAGE, f"{name} cannot be written: {error.strerror}.")


def _open_album(folder: Path, paths: list[Path]) -> Album:
    """Load :mod:`producer.draw`, and with it OpenCV, now that somebody wants pictures."""
    try:
        draw = cast("Any", importlib.import_module("producer.draw"))
    except ImportError as error:
        end(USAGE, f'--draw needs OpenCV ({error}): pip install "detection-fleet[draw]"')
    try:
        album: Album = draw.Album(folder, paths)
    except OSError as error:
        end(USAGE, f"{folder} cannot be used for drawings: {error.strerror}.")
    return album


def _progress_bar() -> Progress:
    """Make a bar on standard error; without a terminal there it stays invisible."""
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("images"), TimeRemainingColumn())
    # On a terminal the lines printed meanwhile have to go through the bar, or it would break them.
    redirect = sys.stdout.isatty()
    return Progress(
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
        redirect_stdout=redirect,
        redirect_stderr=True,
    )
