"""``fleet-worker models quantize``: a model in 8-bit integers, measured against the one in floats.

Stage: the operator's hand; :mod:`worker.quantize` does it, and is loaded only when it is asked for.
"""

import importlib
import os
from pathlib import Path
from typing import Any, cast

import click

from worker.complaints import checked, chosen_settings


@click.command()
@click.argument("name")
@click.option(
    "--images",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Folder with pictures of the kind it is for, with all below it; 300 are good.",
)
@click.option("--as", "target", metavar="NAME", help="Name of the new model; default: NAME-int8.")
@click.option(
    "--max-drop", type=click.FloatRange(0, 1), default=0.02, show_default=True, help="Most loss of mAP at IoU 0.5."
)
@click.option("--keep", multiple=True, metavar="REGEX", help="Operations of such names stay in floats.")
@click.option("--rounds", type=click.IntRange(3, 100), default=7, show_default=True, help="Turns when timing.")
@click.option("--seconds", type=click.FloatRange(0.05, 60), default=1.0, show_default=True, help="Of each turn.")
@click.option("--replace", is_flag=True, help="Take the place of a model of that name.")
def quantize(name: str, images: Path, target: str | None, **how: Any) -> None:
    """Make a model in 8-bit integers out of the model NAME, and keep it if its boxes are those of NAME.

    Two thirds of the pictures calibrate it. On the others its boxes are compared with those of NAME (mean average
    precision), and both are timed in turns. Prints what that gave and stores it with the new model.
    """
    module = _load()
    order = module.Order(
        name=name,
        images=images,
        target=target or f"{name}-int8",
        max_drop=how["max_drop"],
        keep=how["keep"],
        rounds=how["rounds"],
        seconds=how["seconds"],
        replaces=how["replace"],
    )
    chosen = chosen_settings()
    report = checked(module.quantize, order, chosen)
    for line in report.sentences():
        click.echo(line)
    click.echo(f"{order.target}: it is in {chosen.model_store / order.target}")


def _load() -> Any:
    os.environ.setdefault("NNCF_CI", "1")  # NNCF would tell its makers of each use
    try:
        return cast("Any", importlib.import_module("worker.quantize"))
    except ImportError as error:
        raise click.ClickException(f'This needs NNCF ({error}): pip install "detection-fleet[quantize]"') from error
