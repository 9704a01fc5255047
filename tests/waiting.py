"""The one place in which a test waits for what gives no event: the state of another process, or of another thread."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Longest wait for anything; far more than it takes.
SOON_S = 30.0

#: Between two looks.
LOOK_EVERY_S = 0.005


def eventually(condition: Callable[[], T], what: str = "it", within_s: float = SOON_S) -> T:
    """Look again and again until ``condition`` gives something true, and return that."""
    until = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < until, f"{what} never happened"
        time.sleep(LOOK_EVERY_S)
    return value
