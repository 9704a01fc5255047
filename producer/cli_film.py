"""Films and cameras on the command line: ``fleet detect film.mp4`` and ``fleet watch``.

Stage: beside :mod:`producer.cli`. Frames go out asynchronously and come back in order. OpenCV is loaded when a film or
a camera is there, not before.
"""

import contextlib
import signal
import statistics
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import click
from rich.progress import TextColumn

from producer.answers import Answer
from producer.client import Client
from producer.errors import FleetError, InvalidImage, InvalidRequest, UnknownModel
from producer.live import Live, Seen
from producer.local import LocalFleetError, local_fleet
from producer.paths import is_film
from producer.report import (
    TERMINATED,
    Rate,
    Tally,
    json_line,
    lines_of,
    open_lines,
    progress_bar,
    say,
    shown,
    with_opencv,
)
from producer.terminal import SOME_FAILED, USAGE, end, url_option
from producer.wire import Result

#: Most bytes of pixels that wait to be drawn into.
_KEPT_BYTES = 256 * 1024 * 1024

#: Of so many answers the age is remembered.
_AGES = 1000


@dataclass(slots=True)
class Pages:
    """Where answers are written down: lines on standard output, JSON lines, drawings into a film."""

    name: str
    lines: TextIO | None
    film: Any = None
    annotate: Callable[..., Any] | None = None
    tally: Tally = field(default_factory=lambda: Tally("frame"))
    written: int = 0

    def add(self, number: int, time_s: float, pixels: Any, result: Result | None, error: FleetError | None) -> None:
        """Write down what one frame gave; frames missing before it are filled with copies of it, to keep the time."""
        self.tally.images += 1
        if result is not None:
            self.tally.detections += len(result.detections)
            if self.lines is not sys.stdout:
                for line in lines_of(f"{self.name}:{number}", result):
                    say(line)
        if error is not None:
            self.tally.failed += 1
            say(f"{self.name}:{number}: {error} ({error.code})", err=True)
        if self.lines is not None:
            place = {"path": self.name, "frame": number, "time_s": round(time_s, 3)}
            self.lines.write(json_line(place, result, error))
            self.lines.flush()
        if self.film is not None and self.annotate is not None:
            drawn = pixels if result is None else self.annotate(pixels, result.detections)
            self.film.write(drawn, times=number + 1 - self.written)
            self.written = number + 1


def detect_films(
    client: Client, films: list[Path], draw: Path | None, lines: TextIO | None, *, window: int, **options: Any
) -> Tally:
    """Detect in every frame of ``films``; ``draw`` is the film to write, or a folder for one of each."""
    total = Tally("frame")
    film_module = with_opencv("producer.film", "A film")
    if draw is not None and is_film(draw) and len(films) > 1:
        end(USAGE, f"{draw} is one film; name a folder for the drawings of {len(films)}.")
    for path in films:
        try:
            film = film_module.Film(path)
        except InvalidImage as error:
            total.failed += 1
            click.echo(f"{path}: {error} ({error.code})", err=True)
            continue
        target = None if draw is None else draw if is_film(draw) else draw / path.name
        with _pages(str(path), film, target, lines) as pages:
            _detect_film(client, film, pages, window, options)
        total.images += pages.tally.images
        total.detections += pages.tally.detections
        total.failed += pages.tally.failed
    return total


def _detect_film(client: Client, film: Any, pages: Pages, window: int, options: dict[str, Any]) -> None:
    kept: deque[Any] = deque()
    window = max(4, min(window, _KEPT_BYTES // (film.width * film.height * 3)))
    with film.reading() as frames, progress_bar("frames") as progress:
        task = progress.add_task("detect", total=film.frames or None)
        answers = client.map(_encoded(frames, kept), window=window, **options)
        with contextlib.closing(answers):
            answer: Answer
            for answer in answers:
                frame = kept.popleft()
                pages.add(frame.number, frame.time_s, frame.pixels, answer.result, answer.error)
                progress.advance(task)
    if pages.tally.images < film.frames * 0.98:
        said = f"{pages.name}: only {pages.tally.images} of the {film.frames} frames that it announces can be read."
        click.echo(said, err=True)


def _encoded(frames: Iterable[Any], kept: "deque[Any]") -> Iterator[bytes]:
    """Give the frames' JPEGs and keep the frames until their answers are there."""
    for frame in frames:
        kept.append(frame)
        yield frame.jpeg


@contextlib.contextmanager
def _pages(name: str, source: Any, target: Path | None, lines: TextIO | None) -> Iterator[Pages]:
    """Open the film for drawings, with the size and speed of ``source``, and end it properly."""
    if target is None:
        yield Pages(name, lines)
        return
    if target.exists() and Path(name).exists() and target.samefile(name):
        end(USAGE, f"{target} is the film itself; draw into another.")
    film_module, draw = (with_opencv(f"producer.{module}", "--draw") for module in ("film", "draw"))
    try:
        writer = film_module.FilmWriter(target, source.fps, source.width, source.height)
    except OSError as error:
        end(USAGE, f"{error}.")
    with writer:
        yield Pages(name, lines, writer, draw.annotate)


@dataclass(frozen=True, slots=True)
class Watch:
    """The options of ``fleet watch``, as click gives them."""

    source: str
    url: str
    model: str | None
    min_score: float | None
    draw: Path | None
    json_file: str | None
    max_age: float
    window: int
    seconds: float | None
    local: bool


@click.command()
@click.argument("source")
@url_option
@click.option("--model", help="Model to use; needed when the fleet serves several.")
@click.option("--min-score", type=click.FloatRange(0, 1), help="Least score of a detection; default: the model's.")
@click.option("--draw", type=click.Path(dir_okay=False, path_type=Path), metavar="FILM", help="Draw into FILM.")
@click.option("--json", "json_file", metavar="FILE", help="Write JSON lines to FILE; - is standard output.")
@click.option("--max-age", type=click.FloatRange(0.01, 60), default=1.0, show_default=True, help="Seconds; drop older.")
@click.option("--window", type=click.IntRange(1), default=16, show_default=True, help="Most frames under way.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Stop after that; default: at Ctrl-C.")
@click.option("--local", is_flag=True, help="Start a worker with its own server on this computer for the occasion.")
def watch(**options: Any) -> None:
    """Watch SOURCE live: rtsp://…, http://…, a device (0, /dev/video0), or a film played at its own speed.

    Frames are answered in order. What cannot be answered within --max-age is dropped and counted: the picture never
    falls behind. A lost stream is opened again. Prints lines as `fleet detect` does, as SOURCE:FRAME.

    Exit status: 0 at the end of the source or Ctrl-C; 1 a frame failed, or the fleet or source cannot be reached;
    2 wrong usage.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        status = _watch(Watch(**options))
    except (InvalidRequest, UnknownModel) as error:
        end(USAGE, str(error))
    except (FleetError, LocalFleetError) as error:
        end(SOME_FAILED, str(error))
    except KeyboardInterrupt:  # before there was anything to see
        status = 0
    sys.exit(status)


def _watch(order: Watch) -> int:
    module, film = with_opencv("producer.camera", "A camera"), with_opencv("producer.film", "A camera")
    with contextlib.ExitStack() as stack:
        lines = stack.enter_context(open_lines(order.json_file)) if order.json_file else None
        url = stack.enter_context(local_fleet(order.model)) if order.local else order.url
        client = stack.enter_context(Client(url, model=order.model, when_full="refuse"))
        camera = module.Camera(order.source)
        stack.callback(camera.close)
        pages = stack.enter_context(_pages(order.source, camera, order.draw, lines))
        live = Live(
            camera,
            film.to_jpeg,
            client,
            max_age_s=order.max_age,
            window=order.window,
            min_score=order.min_score,
        )
        ages_ms: deque[float] = deque(maxlen=_AGES)
        if order.seconds is not None:
            timer = threading.Timer(order.seconds, camera.close)
            timer.daemon = True
            timer.start()
            stack.callback(timer.cancel)
        with contextlib.suppress(KeyboardInterrupt):
            _follow(live, pages, ages_ms)
    click.echo(_summary(live, pages.tally, ages_ms, camera.reopened), err=True)
    return SOME_FAILED if pages.tally.failed else 0


def _follow(live: Live, pages: Pages, ages_ms: "deque[float]") -> None:
    columns = (TextColumn("{task.completed} frames"), Rate(), TextColumn("{task.fields[age]:.0f} ms old"))
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(shown(*columns, TextColumn("{task.fields[dropped]} dropped")))
        task = progress.add_task("watch", total=None, age=0.0, dropped=0)
        seen: Seen
        for seen in stack.enter_context(contextlib.closing(live.answers())):
            shot = seen.shot
            ages_ms.append(1000 * shot.age_s())
            pages.add(shot.number, shot.time_s, shot.pixels, seen.result, seen.error)
            progress.update(task, advance=1, age=ages_ms[-1], dropped=live.counts.dropped)


def _summary(live: Live, tally: Tally, ages_ms: "deque[float]", reopened: int) -> str:
    counts = live.counts
    age = f", {statistics.median(ages_ms):.0f} ms old (median)" if ages_ms else ""
    dropped = f"{counts.dropped} dropped ({counts.skipped} never sent, {counts.late} too late)"
    again = f", opened again {reopened} times" if reopened else ""
    return f"{tally.sentence()}{age}; {counts.taken} taken, {dropped}{again}"
