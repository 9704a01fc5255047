"""A task that tells what its worker has loaded, and one to call; loaded with ``-I tests.hostile.spy_tasks``."""

import sys

from celery import shared_task


@shared_task(name="spy.modules")
def modules() -> list[str]:
    """List the modules of this process."""
    return sorted(sys.modules)


@shared_task(name="spy.echo")
def echo(value: int) -> int:
    """Return what it is given."""
    return value
