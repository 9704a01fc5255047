"""What an image costs with one tree of this project and with another, or with other settings: all alive, taking turns.

Stage: beside the bench, for whoever changes the pool: ``python -m benchmarks.trees ../before .``. The bench starts a
contender anew for each round, and what lies between two starts is in its figures; here each fleet is started once, in a
process that imports its own tree (:mod:`benchmarks.tree`), and turns of some seconds alternate. What one start happens
to give a fleet, such as where its memory lies, stays for the whole run: a tree that is named twice shows how much.
"""

import contextlib
import json
import os
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click

from worker import settings

#: What is compared, and in which unit the medians are. The loop is one of the worker's threads.
CPU = "ms of CPU"
COLUMNS = {"wall": "ms", "worker": CPU, "loop": CPU, "redis": CPU, "client": CPU}


class Variant(NamedTuple):
    """A folder with a tree, and what its fleet finds in the environment."""

    tree: Path
    environ: dict[str, str]

    @classmethod
    def parse(cls, text: str) -> "Variant":
        """Read ``FOLDER [NAME=VALUE ...]``.

        Raises:
            click.BadParameter: that is not what it says, or no tree of this project is there.
        """
        folder, *words = shlex.split(text) or [""]
        tree = Path(folder).resolve()
        if not (tree / "worker" / "bench" / "fleet.py").is_file():  # the installed tree would be taken instead
            raise click.BadParameter(f"There is no tree of this project in {folder!r}.")
        if bad := [word for word in words if "=" not in word]:
            raise click.BadParameter(f"{bad[0]!r} is no setting such as FLEET_JOBS=8.")
        return cls(tree, dict(word.split("=", 1) for word in words))


@click.command()
@click.argument("variants", nargs=-1, required=True)
@click.option("--model", default="centerface", show_default=True)
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Images a message.")
@click.option("--images", type=click.IntRange(1), default=400, show_default=True, help="Of each turn.")
@click.option("--rounds", type=click.IntRange(2), default=12, show_default=True)
def main(*, variants: Sequence[str], model: str, batch: int, images: int, rounds: int) -> None:
    """Compare VARIANTS with the first: each a folder with a tree, and settings for all of its fleet: ". FLEET_JOBS=8".

    Prints the medians an image, and median and quartiles of the ratios to the first one's turn in the same round.
    """
    read = [Variant.parse(text) for text in variants]
    turns: list[list[dict[str, float]]] = [[] for _ in read]
    with ExitStack() as stack:
        fleets = [stack.enter_context(_fleet(variant, model, batch)) for variant in read]
        for number in range(rounds):
            order = list(enumerate(fleets))
            for which, fleet in order if number % 2 == 0 else reversed(order):
                turns[which].append(_ask(fleet, images))
    for text, own in zip(variants, turns, strict=True):
        click.echo(text)
        for name, unit in COLUMNS.items():
            median = statistics.median(turn[name] for turn in own) / images * 1000
            pairs = [(turn[name], first[name]) for turn, first in zip(own, turns[0], strict=True)]
            click.echo(f"  {name:6} {median:8.3f} {unit:9}  {_times(pairs)}")


@contextmanager
def _fleet(variant: Variant, model: str, batch: int) -> Iterator["subprocess.Popen[str]"]:
    """Start a variant's fleet; give the process that serves turns of it."""
    store = {"FLEET_MODEL_STORE": str(settings.load().model_store.resolve())}
    environ = os.environ | store | variant.environ | {"PYTHONPATH": str(variant.tree)}
    command = [sys.executable, "-P", str(Path(__file__).with_name("tree.py")), model, str(batch)]
    with subprocess.Popen(
        command, cwd=variant.tree, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        try:
            _ask(process, 1)
            yield process
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()


def _ask(process: "subprocess.Popen[str]", images: int) -> dict[str, Any]:
    """Have some images served; return what they cost, in seconds."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(f"{images}\n")
        process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        raise click.ClickException("A fleet has ended; if it said why, that is above.")
    found: dict[str, Any] = json.loads(answer)
    return found


def _times(pairs: Sequence[tuple[float, float]]) -> str:
    if not all(first for _, first in pairs):
        return "(too few images: CPU time comes in hundredths of a second)"
    low, middle, high = statistics.quantiles([own / first for own, first in pairs], n=4, method="inclusive")
    return f"x {middle:.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
