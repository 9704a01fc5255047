"""``fleet-worker models swap | canary | served``: change versions while the fleet works.

Stage: the operator's hand, beside :mod:`worker.models_cli`. Neighbour: :mod:`worker.rollout`.
"""

import sys
from collections.abc import Callable
from typing import Any

import click
from redis.exceptions import RedisError

from worker.complaints import chosen_settings
from worker.rollout import Rollout, RolloutError
from worker.versions import Order, split

_WITHIN = click.option(
    "--timeout", "within_s", type=click.FloatRange(1, 3600), default=120.0, show_default=True, help="Seconds a step."
)
_OTHER_LABELS = click.option("--other-labels", is_flag=True, help="Let it have other labels than the running version.")


@click.command()
@click.argument("version", metavar="NAME@NUMBER")
@_OTHER_LABELS
@_WITHIN
def swap(version: str, other_labels: bool, within_s: float) -> None:
    """Let version NAME@NUMBER take over in all workers, without losing a job.

    Each worker loads it beside the running version and tries it; only when all are ready, all change.
    """
    name, number = _split(version)
    _change(Order(name, number, other_labels=other_labels), within_s)


@click.command()
@click.argument("version", metavar="NAME@NUMBER")
@click.option("--share", type=click.FloatRange(0, 1), required=True, help="Part of the jobs that it gets; 0 ends it.")
@_OTHER_LABELS
@_WITHIN
def canary(version: str, share: float, other_labels: bool, within_s: float) -> None:
    """Give version NAME@NUMBER a share of the jobs, beside the running version."""
    name, number = _split(version)
    _change(Order(name, number, share=share, other_labels=other_labels), within_s)


@click.command()
def served() -> None:
    """Say which versions each worker serves, with what share, and what became of its last change."""
    silent = False
    with _rollout(10.0) as rollout:
        for worker, said in _tried(rollout.served).items():
            silent |= not said
            click.echo(worker + ("" if said else ": no answer"))
            for model, versions in said.get("models", {}).items():
                for one in versions:
                    share = "draining" if one["draining"] else f"{one['share']:.0%} of the jobs"
                    click.echo(f"  {model}@{one['version']}  {one['digest']}  {share}, {one['in_flight']} in flight")
            if reason := said.get("last", {}).get("reason"):
                click.echo(f"  last change, to {said['last']['version']}, failed: {reason}")
            for model, record in said.get("last", {}).get("not_followed", {}).items():
                click.echo(f"  {model}: cannot follow the fleet's record {record}")
    sys.exit(int(silent))


def _change(order: Order, within_s: float) -> None:
    with _rollout(within_s) as rollout:
        said = _tried(rollout.change, order)
    for one in said:
        click.echo(f"{one.worker}: {one.sentence}")
    if not all(one.done for one in said):
        raise click.ClickException("Not every worker changed; those that did not go on as before.")


def _split(version: str) -> tuple[str, int]:
    try:
        return split(version)
    except ValueError as error:
        raise click.ClickException(str(error)) from error


def _rollout(within_s: float) -> Rollout:
    return Rollout(chosen_settings().url, within_s=within_s)


def _tried(work: Callable[..., Any], *args: Any) -> Any:
    try:
        return work(*args)
    except RolloutError as error:
        raise click.ClickException(str(error)) from error
    except (RedisError, OSError) as error:
        raise click.ClickException(f"Redis cannot be reached: {error}.") from error
