"""Loaded into a worker, it ends the process at one hop of a job's way: after the real work of that hop is done.

``DIES_AT`` names the hop, ``DIES_OF`` the signal. With ``DIES_ON`` only jobs with that text in their image are fatal.
"""

import faulthandler
import os
import resource
import signal
from collections.abc import Callable
from typing import Any

from celery import signals

from producer import blobs
from worker import decode
from worker.infer_queue import InferQueue
from worker.leases import LeaseQoS

HOP = os.environ["DIES_AT"]
SIGNAL = signal.Signals[os.environ.get("DIES_OF", "SIGKILL")]
MARK = os.environ.get("DIES_ON", "").encode()


def die(*_: Any, **__: Any) -> None:
    """End as a power cut or a fault in native code would."""
    if SIGNAL != signal.SIGKILL:
        faulthandler.disable()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.kill(os.getpid(), SIGNAL)


def dying(real: Callable[..., Any]) -> Callable[..., Any]:
    """Do the work, then die; with a mark, die of the images that have it, and of no other."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if MARK and any(isinstance(one, bytes) and MARK in one for one in args):
            die()
        value = real(*args, **kwargs)
        if not MARK and "timeout_s" not in kwargs:  # as the self-test has
            die()
        return value

    return wrapper


if HOP == "pop":
    LeaseQoS.append = die  # type: ignore[method-assign]
elif HOP == "fetch":
    blobs.read = dying(blobs.read)
elif HOP == "decode":
    decode.to_input = dying(decode.to_input)
elif HOP == "inference":
    InferQueue.submit = dying(InferQueue.submit)  # type: ignore[method-assign]
elif HOP == "body":
    signals.task_prerun.connect(die, weak=False)
elif HOP == "result":
    signals.task_success.connect(die, weak=False)
elif HOP == "tidied":
    signals.task_postrun.connect(die, weak=False)
else:
    raise ValueError(HOP)
