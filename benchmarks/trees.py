"""What an image costs with one tree of this project and with another, or with other settings: all alive, taking turns.

Stage: beside the bench, for whoever changes the pool: ``python -m benchmarks.trees ../before .``. The bench starts a
contender for each of its turns, and two starts of one fleet differ by some hundredths; here each fleet is started once,
in a process that imports its own tree (:mod:`benchmarks.tree`), and short turns alternate.
"""

import json
import os
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click

#: What is compared, and in which unit the medians are.
COLUMNS = {"seconds": "ms", "worker": "ms of CPU", "redis": "ms of CPU", "client": "ms of CPU"}


@click.command()
@click.argument("variants", nargs=-1, required=True)
@click.option("--model", default="centerface", show_default=True)
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Images a message.")
@click.option("--images", type=click.IntRange(1), default=400, show_default=True, help="Of each turn.")
@click.option("--rounds", type=click.IntRange(1), default=12, show_default=True)
def main(*, variants: Sequence[str], model: str, batch: int, images: int, rounds: int) -> None:
    """Compare VARIANTS with the first: each a folder with a tree, and settings: ". FLEET_JOBS=8".

    Prints of each column the median an image, and median and quartiles of the ratios to the first one's turn beside it.
    """
    turns: list[list[dict[str, float]]] = [[] for _ in variants]
    with ExitStack() as stack:
        fleets = [stack.enter_context(_fleet(variant, model, batch)) for variant in variants]
        for number in range(rounds):
            order = list(enumerate(fleets))
            for which, fleet in order if number % 2 == 0 else reversed(order):
                turns[which].append(_ask(fleet, images))
    for variant, own in zip(variants, turns, strict=True):
        click.echo(variant)
        for name, unit in COLUMNS.items():
            median = statistics.median(turn[name] for turn in own) / images * 1000
            # CPU time comes in hundredths of a second: a few images may take none.
            ratios = [turn[name] / one[name] for turn, one in zip(own, turns[0], strict=True) if one[name]]
            click.echo(f"  {name:8} {median:8.3f} {unit:9} {_told(ratios)}")


@contextmanager
def _fleet(variant: str, model: str, batch: int) -> Iterator["subprocess.Popen[str]"]:
    """Start a variant's fleet; give the process that serves turns of it."""
    folder, *settings = shlex.split(variant)
    tree = Path(folder).resolve()
    environ = {**os.environ, **dict(one.split("=", 1) for one in settings), "PYTHONPATH": str(tree)}
    command = [sys.executable, "-P", str(Path(__file__).with_name("tree.py")), model, str(batch)]
    with subprocess.Popen(
        command, cwd=tree, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        try:
            _ask(process, 1)
            yield process
        finally:
            process.stdin.close()


def _ask(process: "subprocess.Popen[str]", images: int) -> dict[str, Any]:
    """Have some images served; return what they cost."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(f"{images}\n")
        process.stdin.flush()
    except BrokenPipeError:
        pass
    answer = process.stdout.readline()
    if not answer:
        raise click.ClickException("A fleet ended before its turn; see above.")
    found: dict[str, Any] = json.loads(answer)
    return found


def _told(ratios: Sequence[float]) -> str:
    if len(ratios) < 2:
        return ""
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"x {middle:.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
