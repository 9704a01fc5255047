"""``fleet top``: watch the fleet.

Stage: a front door for people. Neighbour: :mod:`producer.top` shows it.

Exit status: 0 when it was ended with Ctrl-C; 1 Redis cannot be reached; 2 wrong usage.
"""

import contextlib
import importlib
from typing import Any, cast

import click
from rich.console import Console

from producer.terminal import connected, url_option


@click.command()
@url_option
@click.option("--interval", type=click.FloatRange(0.1, 60), default=1.0, show_default=True, help="Seconds.")
@click.option("--once", is_flag=True, help="Look for one interval, print what was seen, and end.")
def top(url: str, interval: float, *, once: bool) -> None:
    """Watch workers, queues, rates and failures, live in the terminal; Ctrl-C ends it.

    Rates are those of the last ten seconds, by the workers' events; all else stands in Redis. No worker is asked.
    """
    screen = cast("Any", importlib.import_module("producer.top"))  # and with it Celery
    with connected(url) as redis, contextlib.suppress(KeyboardInterrupt):
        screen.watch(redis, url, interval_s=interval, once=once, console=Console())
