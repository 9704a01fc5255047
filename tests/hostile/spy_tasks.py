"""Tasks that tell what their worker has loaded and keeps, and one to call; for ``-I tests.hostile.spy_tasks``."""

import gc
import sys
from collections import Counter

from celery import shared_task


@shared_task(name="spy.modules")
def modules() -> list[str]:
    """List the modules of this process."""
    return sorted(sys.modules)


@shared_task(name="spy.echo")
def echo(value: int) -> int:
    """Return what it is given."""
    return value


#: What carries a job, its message or its image.
CARRIERS = {"Job", "Detecting", "Inference", "Tiling", "Turn", "Stage", "Message", "Request"}


@shared_task(name="spy.collect")
def collect(*, rest: bool) -> tuple[dict[str, int], dict[str, int]]:
    """Count what carries jobs: what only Python's collector frees, and what is in use. Then let it rest, or work."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    freed = Counter(type(one).__name__ for one in gc.garbage)
    gc.garbage.clear()
    gc.collect()
    (gc.disable if rest else gc.enable)()
    used = Counter(type(one).__name__ for one in gc.get_objects())
    return {name: freed[name] for name in CARRIERS & freed.keys()}, {
        name: used[name] for name in CARRIERS & used.keys()
    }
