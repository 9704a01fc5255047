"""``fleet-worker bench``, in a process of its own: ``python -m worker.bench``.

Stage: the front door. It needs the extra ``local``: an embedded server and psutil.
"""

import functools
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import platformdirs
from PIL import Image
from rich.console import Console

from producer.errors import FleetError
from worker import assets, decode, models, settings
from worker.bench import fleet, inprocess
from worker.bench.contender import Contender, ContenderError
from worker.bench.measure import Wish, measure

#: Photos when none are given.
SAMPLES = ("grace_hopper", "china", "flower", "astronaut")

#: Most photos that are served: each is in every piece of a turn, so that a turn of few images still has all of them.
MOST_PHOTOS = 32

_KINDS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def options(*, seconds: float) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options that say what to measure; a contender's turn takes ``seconds`` where none are said."""
    given = (
        click.option("--model", default="centerface", show_default=True, help="A model of the store."),
        click.option(
            "--images",
            "folder",
            type=click.Path(exists=True, path_type=Path),
            help="Folder with photos, or one photo; sample photos without it.",
        ),
        click.option(
            "--rounds", type=click.IntRange(1, 100), default=5, show_default=True, help="Turns of each contender."
        ),
        click.option(
            "--count",
            type=click.IntRange(1),
            help="About how many images per turn, and as many of the limit; by default what takes about --seconds.",
        ),
        click.option(
            "--seconds",
            type=click.FloatRange(0.5),
            default=seconds,
            show_default=True,
            help="About how long each contender serves in a turn; the limit serves as long beside it.",
        ),
        click.option(
            "--only", multiple=True, help="Part of a contender's name, or its group; may be given more than once."
        ),
    )

    def give(command: Callable[..., None]) -> Callable[..., None]:
        return functools.reduce(lambda done, option: option(done), reversed(given), command)

    return give


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@options(seconds=5.0)
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures here.")
def main(  # noqa: PLR0913, PLR0917 - a command has its options
    model: str,
    folder: Path | None,
    rounds: int,
    count: int | None,
    seconds: float,
    only: tuple[str, ...],
    json_path: Path | None,
) -> None:
    """Measure a network with your own photos on this host, and say what limits it.

    Runs one process without a queue (the limit), three servers (synchronous, start and wait, asynchronous) and fleets
    of 1, 2 and 4 workers in turn, several times, each beside the limit; prints a table and what it means.
    """
    console = Console(width=max(Console().width, 150))
    signal.signal(signal.SIGTERM, as_exit)
    try:
        chosen = settings.load()
        if model in models.KNOWN:
            models.fetch(model, chosen.model_store)
        if json_path is not None:
            check_writable(json_path)
        listed = select([*inprocess.contenders(), *fleet.contenders()], only)
        photos = (
            find(folder, chosen, count, say=functools.partial(console.print, markup=False)) if folder else samples()
        )
        measure(chosen, Wish(model, photos, rounds, count or 0, seconds), listed, console, json_path)
    except (settings.SettingsError, models.ModelError, assets.AssetError, ContenderError) as error:
        raise click.ClickException(str(error)) from error


def as_exit(number: int, _: object) -> None:
    """Take a signal as an exit in order, so that whatever was started is stopped."""
    sys.exit(128 + number)


def select(listed: list[Contender], only: tuple[str, ...]) -> list[Contender]:
    """Keep the limit, and what ``only`` names; all when it names nothing.

    Raises:
        click.ClickException: one of the words names nobody.
    """
    for word in only:
        if not any(word in one.kind.name or word == one.kind.group for one in listed):
            names = "; ".join(one.kind.name for one in listed)
            raise click.ClickException(f"No contender is called {word!r}. There are {names}.")
    wanted = [one for one in listed if any(word in one.kind.name or word == one.kind.group for word in only)]
    return [listed[0], *(one for one in wanted if one is not listed[0])] if only else listed


def check_writable(path: Path) -> None:
    """Make sure, before anything is measured, that the figures can be written.

    Raises:
        click.ClickException: they cannot.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("ab").close()
    except OSError as error:
        raise click.ClickException(f"The figures cannot be written to {path}: {error.strerror}.") from error


def find(folder: Path, chosen: settings.Settings, count: int | None, say: Callable[[str], object]) -> tuple[Path, ...]:
    """List photos at ``folder``: all, or some out of all parts of it where there are more than a turn can serve evenly.

    ``say`` is told how many there are, and of those that a worker would refuse, which are left out.

    Raises:
        click.ClickException: there is none.
    """
    paths = sorted(folder.rglob("*")) if folder.is_dir() else [folder]
    known = [path for path in paths if path.suffix.lower() in _KINDS and path.is_file()]
    most, photos = min(MOST_PHOTOS, count or MOST_PHOTOS), list[Path]()
    limits = decode.Limits(chosen.max_image_bytes, chosen.max_pixels)
    for path in _spread(known, most):
        if len(photos) == most:
            say(f"{most} of the {len(known):,} photos are served, from all parts of the list")
            break
        if problem := _problem_of(path, limits):
            say(f"{path} is left out: {problem}")
        else:
            photos.append(path)
    if not photos:
        raise click.ClickException(f"There is no photo in {folder} that a worker takes: JPEG, PNG, WebP or BMP.")
    return tuple(sorted(photos))


def _problem_of(path: Path, limits: decode.Limits) -> str:
    """Say why a worker would refuse a photo; nothing if it would not."""
    try:
        if (size := path.stat().st_size) > limits.max_bytes:
            return f"It has {size:,} bytes; at most {limits.max_bytes:,} are accepted."
        decode.decode(path.read_bytes(), limits)
    except (FleetError, OSError) as error:
        return str(error)
    return ""


def _spread(paths: Sequence[Path], most: int) -> Iterator[Path]:
    """Give all paths, and first ``most`` of them at equal distances."""
    first = {number * len(paths) // most for number in range(most)} if len(paths) > most else set(range(len(paths)))
    yield from (paths[place] for place in sorted(first))
    yield from (path for place, path in enumerate(paths) if place not in first)


def samples() -> tuple[Path, ...]:
    """Fetch the sample photos into the user's cache folder, all as JPEG."""
    folder = Path(platformdirs.user_cache_dir("detection-fleet", appauthor=False)) / "photos"
    chosen = assets.fetch_all(SAMPLES, folder)
    for name, path in chosen.items():
        if path.suffix != ".jpg":
            chosen[name] = path.with_suffix(".jpg")
            with Image.open(path) as photo:
                photo.convert("RGB").save(chosen[name], quality=90)
    return tuple(chosen.values())


if __name__ == "__main__":
    sys.exit(main(prog_name="fleet-worker bench"))
