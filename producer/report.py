"""How results are told: lines, JSON lines, a bar, a sentence at the end.

Stage: below :mod:`producer.cli` and :mod:`producer.cli_film`. Results go to standard output, all else to standard
error.

Exit status: 0 all well; 1 an image failed, or the fleet cannot be reached; 2 wrong usage; 130 after Ctrl-C.
"""

import contextlib
import importlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO, cast

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from producer.errors import FleetError
from producer.terminal import USAGE, end
from producer.wire import Result

TERMINATED, INTERRUPTED = 143, 130


def plural(number: int, noun: str) -> str:
    """Count ``noun``: ``1 image``, ``2 images``."""
    return f"{number} {noun}{'s' * (number != 1)}"


@dataclass(slots=True)
class Tally:
    """What happened so far."""

    noun: str = "image"
    images: int = 0
    failed: int = 0
    detections: int = 0
    started_at: float = field(default_factory=time.monotonic)

    def sentence(self) -> str:
        """Sum it up."""
        seconds = max(1e-3, time.monotonic() - self.started_at)
        failed = f", {self.failed} failed" if self.failed else ""
        return (
            f"{plural(self.images, self.noun)}, {plural(self.detections, 'detection')}"
            f"{failed} in {seconds:.1f} s ({self.images / seconds:.1f} {self.noun}s/s)"
        )


def lines_of(name: object, result: Result) -> Iterator[str]:
    """Give a line per detection: name, label, score and box, separated by tabs."""
    for one in result.detections:
        box = " ".join(f"{edge:.1f}" for edge in one.box)
        yield f"{name}\t{one.label}\t{one.score:.3f}\t{box}"


def say(line: str, *, err: bool = False) -> None:
    """Print a line at once, above a bar. ``click.echo`` would write past the bar on the same terminal, into it."""
    stream = sys.stderr if err else sys.stdout
    stream.write(f"{line}\n")
    stream.flush()


def json_line(place: dict[str, Any], result: Result | None, error: FleetError | None) -> str:
    """Give one JSON line: where it was, and the result or the error."""
    found = {"result": result.to_json()} if result is not None else {}
    failure = {"error": error.to_json()} if error is not None else {}
    return json.dumps({**place, **found, **failure}, ensure_ascii=False) + "\n"


def open_lines(name: str) -> contextlib.AbstractContextManager[TextIO]:
    """Open the file for JSON lines; ``-`` is standard output."""
    if name == "-":
        return contextlib.nullcontext(sys.stdout)
    try:
        return Path(name).open("w", encoding="utf-8")
    except OSError as error:
        end(USAGE, f"{name} cannot be written: {error.strerror}.")


class Rate(ProgressColumn):
    """Images per second, of the last half minute."""

    def render(self, task: Task) -> Text:
        """Draw the column."""
        return Text(f"{task.speed or 0.0:.1f}/s", style="progress.data.speed")


def progress_bar(noun: str = "images") -> Progress:
    """Make a bar on standard error: how many of how many, how fast, how long still."""
    return shown(BarColumn(), MofNCompleteColumn(), TextColumn(noun), Rate(), TimeRemainingColumn())


def shown(*columns: ProgressColumn) -> Progress:
    """Make a live line on standard error; without a terminal there it stays invisible."""
    console = Console(stderr=True)
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


def with_opencv(module: str, wanted_by: str) -> Any:
    """Load one of the modules that need OpenCV, now that somebody wants it."""
    try:
        return cast("Any", importlib.import_module(module))
    except ImportError as error:
        end(USAGE, f'{wanted_by} needs OpenCV ({error}): pip install "detection-fleet[draw]"')
