"""Ends a contender's process with all that it started.

Stage: under :mod:`benchmarks.celery_alone` and :mod:`benchmarks.peers`.
"""

import subprocess

import psutil

from worker import local

#: Seconds to end in order.
ORDERLY_S = 20.0


def end(process: "subprocess.Popen[bytes]") -> None:
    """Stop ``process``, and then what it leaves behind."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    local.stop([process], ORDERLY_S)
    for one in psutil.wait_procs(family, timeout=2)[1]:
        one.kill()
