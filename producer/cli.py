"""The command ``fleet``.

Stage: a front door for people; it uses :class:`producer.client.Client` like any application.

Exit status: 0 all well; 1 an image failed, or the fleet cannot be reached; 2 wrong usage; 130 after Ctrl-C.
"""

import contextlib
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

import click

from producer.answers import Answer
from producer.cli_autoscale import autoscale
from producer.cli_dead import dead
from producer.cli_film import detect_films, watch
from producer.cli_status import status
from producer.cli_top import top
from producer.client import Client
from producer.errors import FleetError, InvalidImage, InvalidRequest, UnknownModel
from producer.local import LocalFleetError, local_fleet
from producer.paths import expand, is_film
from producer.report import (
    INTERRUPTED,
    TERMINATED,
    Tally,
    json_line,
    lines_of,
    open_lines,
    progress_bar,
    say,
    with_opencv,
)
from producer.terminal import SOME_FAILED, USAGE, end, url_option
from producer.wire import MAX_BATCH, Result, Tile


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
    tile: int | None
    tile_overlap: float
    draw: Path | None
    json_file: str | None
    batch: int
    window: int
    deadline: float
    local: bool

    def asked(self) -> dict[str, Any]:
        """Give what each job is asked for."""
        tile = None if self.tile is None else Tile(self.tile or None, self.tile_overlap)
        return {"min_score": self.min_score, "deadline_s": self.deadline, "tile": tile}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="detection-fleet")
def main() -> None:
    """Send images to the detection fleet and read detections back."""


main.add_command(autoscale)
main.add_command(dead)
main.add_command(status)
main.add_command(watch)
main.add_command(top)


@main.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@url_option
@click.option("--model", help="Model to use; needed when the fleet serves several.")
@click.option("--min-score", type=click.FloatRange(0, 1), help="Least score of a detection; default: the model's.")
@click.option(
    "--tile", type=click.IntRange(0), metavar="PX", help="Cut big images into tiles; 0: the model's input size."
)
@click.option("--tile-overlap", type=click.FloatRange(0, 0.5), default=0.2, show_default=True, help="Part of a tile.")
@click.option("--draw", type=click.Path(path_type=Path), metavar="DIR|FILM", help="Draw copies into DIR, or a FILM.")
@click.option("--json", "json_file", metavar="FILE", help="Write JSON lines to FILE; - is standard output.")
@click.option("--batch", type=click.IntRange(1, MAX_BATCH), default=1, show_default=True, help="Images per message.")
@click.option("--window", type=click.IntRange(1), default=64, show_default=True, help="Most images under way.")
@click.option("--deadline", type=click.FloatRange(0, min_open=True), default=600.0, show_default=True, help="Seconds.")
@click.option("--local", is_flag=True, help="Start a worker with its own server on this computer for the occasion.")
def detect(**options: Any) -> None:
    """Detect objects in images: files, folders (with all below them), quoted globs; or in each frame of films.

    Prints a line per detection: path (of a film path:frame), label, score and box (x1 y1 x2 y2, pixels), separated by
    tabs.

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
    films = [path for path in paths if is_film(path)]
    if films and len(films) < len(paths):
        end(USAGE, "Films and images go in commands of their own.")
    album = _open_album(order.draw, paths) if order.draw is not None and not films else None
    with contextlib.ExitStack() as stack:
        lines = stack.enter_context(open_lines(order.json_file)) if order.json_file else None
        url = stack.enter_context(local_fleet(order.model)) if order.local else order.url
        client = stack.enter_context(Client(url, model=order.model))
        if films:
            options = {"batch": order.batch, **order.asked()}
            return detect_films(client, films, order.draw, lines, window=order.window, **options)
        progress = stack.enter_context(progress_bar())
        task = progress.add_task("detect", total=len(paths))
        answers = client.map(paths, window=order.window, batch=order.batch, **order.asked())
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
            for line in lines_of(path, answer.result):
                say(line)
        if album is not None:
            try:
                album.add(path, answer.result)
            except InvalidImage as problem:
                error = problem
    if lines is not None:
        lines.write(json_line({"path": str(path)}, answer.result, answer.error))
    if error is not None:
        tally.failed += 1
        say(f"{path}: {error} ({error.code})", err=True)


def _open_album(folder: Path, paths: list[Path]) -> Album:
    """Load :mod:`producer.draw`, and with it OpenCV, now that somebody wants pictures."""
    draw = with_opencv("producer.draw", "--draw")
    try:
        album: Album = draw.Album(folder, paths)
    except OSError as error:
        end(USAGE, f"{folder} cannot be used for drawings: {error.strerror}.")
    return album
