"""Loaded into a worker, it kills the process between the pop of a message and its record in `unacked`."""

import os
import signal
from typing import Any

from worker.leases import LeaseQoS


def die(*_: Any, **__: Any) -> None:
    """End as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)


LeaseQoS.append = die
