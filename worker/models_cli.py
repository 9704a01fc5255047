"""``fleet-worker models``: bring a network of one's own, look at it, try it on a photo, take it away.

Stage: the operator's hand, below :mod:`worker.cli`. Neighbours: :mod:`worker.store`, :mod:`worker.models`.
"""

import dataclasses
import json
import tomllib
from pathlib import Path
from typing import Any

import click
import cv2

from producer import draw
from producer.wire import Detection, Options
from worker import cpu, decode, footprint, models, network, quantized, resize, store
from worker.cli_quantize import quantize
from worker.complaints import checked, chosen_settings
from worker.heads.nms import SCORE_FLOOR
from worker.model_toml import ModelSpec, check_field
from worker.outcome import to_detections
from worker.swaps_cli import canary, served, swap

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(name="models")
def models_group() -> None:
    """The networks this host has."""


models_group.add_command(quantize)


@models_group.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="Name of the model, also of its queue.")
@click.option("--labels", type=_FILE, help="Names of the classes, a line each or a JSON list.")
@click.option("--head", help="Family of the network, where it is not sure by itself.")
@click.option(
    "--set", "fields", multiple=True, metavar="FIELD=VALUE", help="A field of model.toml, as options.bins=16."
)
@click.option("--extra", multiple=True, type=_FILE, help="One more file that the head reads.")
@click.option("--replace", is_flag=True, help="Take the place of a model of that name, instead of standing beside it.")
@click.option("--sample", type=_FILE, help="Photo in which it must find something: now, and before it is swapped in.")
def add(  # noqa: PLR0913, PLR0917 - an option each
    file: Path,
    name: str,
    labels: Path | None,
    head: str | None,
    fields: tuple[str, ...],
    extra: tuple[Path, ...],
    replace: bool,
    sample: Path | None,
) -> None:
    """Add the network FILE: IR (.xml), ONNX, TFLite, Paddle, a SavedModel's folder, or a folder with one of them.

    Says what it was taken for and why. What is not sure is asked for, and what is no detector is refused.
    """
    given = checked(_parse, fields)
    names = checked(store.read_labels, labels) if labels else tuple(given.pop("labels", ()))
    wish = store.Wish(name, names, head or given.pop("head", None), given, extra, replace, sample)
    chosen = chosen_settings()
    found = checked(store.add, file, wish, chosen)
    for reason in found.why:
        click.echo(reason)
    label = found.folder.name
    click.echo(f"{label}: {_line(found.spec)}")
    click.echo(f"It is in {found.folder}. Try it: fleet-worker models check {label} PHOTO")
    if label != name:
        click.echo(f"Workers go on with the version they have, until you say: fleet-worker models swap {label}")


@models_group.command()
@click.argument("names", nargs=-1, required=True)
def fetch(names: tuple[str, ...]) -> None:
    """Fetch known models into the store."""
    folder = chosen_settings().model_store
    for name in names:
        click.echo(f"{name}: {checked(models.fetch, name, folder)}")


@models_group.command(name="list")
def list_models() -> None:
    """List the store's models and the known ones that could be fetched."""
    folder = chosen_settings().model_store
    there = store.present(folder)
    for name in sorted({*there, *models.KNOWN}):
        click.echo(f"{name:24} {_describe(name, folder) if name in there else 'known, not fetched'}")


@models_group.command()
@click.argument("name")
def show(name: str) -> None:
    """Show the model NAME: its files, version and digest, the memory that it takes in a worker, and its model.toml.

    The memory is measured by loading it in a process of its own, with this environment's settings.
    """
    folder = chosen_settings().model_store
    spec, path = checked(models.read, name, folder)
    click.echo(f"{name}: {_line(dataclasses.replace(spec, digest=models.digest(path)))}")
    for part in models.files(path):
        click.echo(f"{part}  {part.stat().st_size:,} bytes")
    taken = footprint.of(name)
    click.echo(taken.sentence if taken else f"memory in a worker: not known; models check {name} PHOTO says why")
    report = quantized.read(folder / name)
    for line in report.sentences() if report else ():
        click.echo(line)
    click.echo()
    click.echo((models.folder_of(name, folder) / "model.toml").read_text(encoding="utf-8").rstrip())


@models_group.command()
@click.argument("name")
@click.argument("photo", type=_FILE)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Where the picture with boxes goes.")
@click.option("--min-score", type=click.FloatRange(SCORE_FLOOR, 1), help="Instead of the model's own.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON for each detection.")
def check(name: str, photo: Path, out: Path | None, min_score: float | None, as_json: bool) -> None:
    """Run the model NAME on PHOTO, print its detections and write the picture with boxes."""
    pixels, found = checked(_run, name, photo, Options(min_score=min_score))
    for one in found:
        click.echo(json.dumps(dataclasses.asdict(one), ensure_ascii=False) if as_json else _shown(one))
    target = out or Path(f"{photo.stem}-{name}.png")
    if not cv2.imwrite(str(target), draw.annotate(pixels, found)):
        raise click.ClickException(f"{target} cannot be written.")
    click.echo(f"{len(found)} detections; {target}", err=as_json)


@models_group.command()
@click.argument("name")
def remove(name: str) -> None:
    """Remove the model NAME with its files."""
    checked(store.remove, name, chosen_settings().model_store)
    click.echo(f"{name}: removed")


for _command in (swap, canary, served):
    models_group.add_command(_command)


def _run(name: str, photo: Path, options: Options) -> tuple[decode.Pixels, tuple[Detection, ...]]:
    chosen = chosen_settings()
    spec, path = models.read(name, chosen.model_store)
    net = network.load(spec, path, chosen, cpu.make_plan(chosen).threads)
    pixels = decode.decode(photo.read_bytes(), decode.Limits(chosen.max_image_bytes, chosen.max_pixels))
    tensor, frame = resize.fit(pixels, spec.fit)
    (rows,) = net.compiled({0: tensor}).values()
    return pixels, to_detections(rows, frame, spec, options)


def _parse(fields: tuple[str, ...]) -> dict[str, Any]:
    """Read ``field=value`` and ``options.key=value``; a value is TOML, or else a text."""
    given: dict[str, Any] = {}
    for one in fields:
        key, _, text = one.partition("=")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        if key.startswith("options."):
            given.setdefault("options", {})[key.removeprefix("options.")] = value
            continue
        try:
            check_field(key, value)
        except ValueError as error:
            raise models.ModelError(f"--set {one}: {error}.") from error
        given[key] = {**given.get(key, {}), **value} if key == "options" else value
    return given


def _shown(one: Detection) -> str:
    x1, y1, x2, y2 = one.box
    return f"{one.label:24} {one.score:.3f}  {x1:8.1f} {y1:8.1f} {x2:8.1f} {y2:8.1f}"


def _describe(name: str, folder: Path) -> str:
    try:
        spec, path = models.read(name, folder)
    except models.ModelError as error:
        return f"unusable: {error}"
    return _line(dataclasses.replace(spec, digest=models.digest(path)))


def _line(spec: ModelSpec) -> str:
    height, width = spec.input_size
    known = f"version {spec.version}, digest {spec.digest}"
    return f"{spec.head}, input {width} x {height}, {len(spec.labels)} labels, {known}"
