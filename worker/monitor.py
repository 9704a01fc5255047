"""The Celery application of whoever watches the workers: ``celery -A worker.monitor flower``.

Stage: beside the workers, in a process of its own. It takes the broker's URL from the same variables as a worker, so
that no password stands on a command line, and loads no network. Flower sets limits only for tasks that its own
application knows, so ours are known here by name.
"""

import sys
from typing import Any

from celery import Celery

from producer.errors import InvalidRequest
from producer.redis_url import check_url, tls_of, url_of
from producer.wire import TASK_DETECT, TASK_DETECT_MANY


def keys() -> dict[str, Any]:
    """Give the Celery keys that follow from the environment.

    Raises:
        SystemExit: the URL is bad; its text says how.
    """
    try:
        url = check_url(url_of())
    except InvalidRequest as error:
        sys.exit(f"FLEET_URL: {error}")
    return {"broker_url": url, "broker_use_ssl": tls_of(url)}


app = Celery("monitor")
app.add_defaults(keys)


def _elsewhere(*_: Any, **__: Any) -> None:
    """Stand for a task that only workers have; nobody calls it, for a monitor takes no jobs."""
    raise RuntimeError("A monitor does no jobs.")


for _name in (TASK_DETECT, TASK_DETECT_MANY):
    app.task(_elsewhere, name=_name)
