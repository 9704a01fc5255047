"""Starts Celery's worker without the rest of Celery's command line.

Stage: behind ``python -m worker`` and ``fleet-worker run``. ``celery`` loads all of its commands, a shell's prompt, and
Flower where it is installed, before it looks at which is wanted: that was a fifth of the time in which a worker becomes
ready. The options are Celery's own.

Mirrors Celery 5.7 ``celery.bin.celery.celery`` and ``main``.
"""

import os
import sys
from collections.abc import Sequence

from celery.bin.base import CLIContext
from celery.bin.worker import worker

from worker import pool, tasks  # noqa: F401 - what Celery would import by name, a little later
from worker.app import app


def start(options: Sequence[str], prog_name: str) -> None:
    """Run a worker with Celery's ``options``, and end this process with its status."""
    # Celery starts itself anew from these: Python with all at SIGHUP, its own command with all but the first to detach.
    is_to_detach = bool({"-D", "--detach"} & set(options))
    sys.argv = ["celery", "-A", "worker.app", "worker"] if is_to_detach else ["-P", "-m", "worker"]
    sys.argv += options
    context = CLIContext(app=app, no_color=bool(os.environ.get("NO_COLOR")), workdir=None, quiet=True)
    worker.main(list(options), prog_name=prog_name, auto_envvar_prefix="CELERY_WORKER", obj=context)
