"""``fleet status``: the state of the fleet for people and for machines.

Stage: a front door for people. Neighbour: :mod:`producer.status` reads it.

Exit status: 0 at least one worker lives; 1 none does, or Redis cannot be reached; 2 wrong usage.
"""

import json
import sys
from typing import Any

import click

from producer.status import Status, read_status
from producer.terminal import SOME_FAILED, connected, printable, show_table, url_option


@click.command()
@url_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def status(url: str, *, as_json: bool) -> None:
    """Say what the fleet is doing: workers, models, backlog, jobs in flight and dead, memory.

    Exit status: 0 at least one worker lives; 1 none does, or Redis cannot be reached; 2 wrong usage.
    """
    with connected(url) as redis:
        found = read_status(redis)
    if as_json:
        click.echo(json.dumps(found.to_json(), ensure_ascii=False))
    else:
        _show(found)
    sys.exit(0 if found.workers else SOME_FAILED)


def _versions(said: dict[str, Any]) -> str:
    """Name the versions that serve a model, and their shares where there are several; workers say what they like."""
    versions = said.get("versions")
    if not isinstance(versions, list) or not all(isinstance(one, dict) for one in versions):
        return ""
    named = [
        f"@{one.get('version')} {one.get('digest')}" + (f" {one.get('share')}" if len(versions) > 1 else "")
        for one in versions
    ]
    return f" ({printable(', '.join(named))})"


def _show(found: Status) -> None:
    workers = ", ".join(f"{printable(name)} ({age_s:.0f} s ago)" for name, age_s in sorted(found.workers.items()))
    models = ", ".join(
        printable(name) + (_versions(said) if said["served"] else " (not served now)")
        for name, said in sorted(found.models.items())
    )
    click.echo(f"workers: {workers or 'none'}")
    click.echo(f"models: {models or 'none'}")
    click.echo(f"in flight: {found.in_flight}, not ended: {found.ledger}, dead: {found.dead}")
    if found.counters:
        click.echo(", ".join(f"{printable(name)}: {count}" for name, count in sorted(found.counters.items())))
    if found.memory:
        limit = f" of {found.memory['limit_bytes']:,}" if found.memory["limit_bytes"] else ""
        click.echo(f"Redis memory: {found.memory['used_bytes']:,}{limit} bytes")
    rows = [
        (one.queue, one.waiting, "" if one.oldest_s is None else f"{one.oldest_s:.1f} s", f"{one.bytes:,}")
        for one in found.queues
    ]
    if rows:
        show_table(("queue", "waiting", "oldest", "bytes"), rows)
