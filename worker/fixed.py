"""A pool whose number of jobs stays: more of them do not make inference faster.

Stage: beside :mod:`worker.pool`, which is one. ``worker_autoscaler = "worker.fixed:NoAutoscaler"``.
"""

import sys
from typing import Any


class Fixed:
    """Mixed into a pool of Celery's: what remote control asks of a pool that grows is refused."""

    def grow(self, n: int = 1) -> None:
        """Refuse: the number of jobs does not make inference faster."""
        raise ValueError("This pool does not grow: set FLEET_JOBS or --concurrency, or start another worker.")

    def shrink(self, n: int = 1) -> None:
        """Refuse, as :meth:`grow` does."""
        raise ValueError("This pool does not shrink: set FLEET_JOBS or --concurrency.")


class NoAutoscaler:
    """Stands where Celery would make its autoscaler, and says why there is none."""

    def __init__(self, *_: Any, **__: Any) -> None:
        sys.exit(
            "--autoscale does not fit this pool: it runs no child processes, and more jobs do not make inference "
            "faster. Leave it out; to scale, start more workers (docker compose up --scale worker=N)."
        )
