"""Opens infer queues over tiny real networks."""

import contextlib
from collections.abc import Iterator
from types import FunctionType
from typing import Any

from tests.hazards.networks import compiled, number_of, tensor
from worker.infer_queue import InferQueue

#: Longest wait for what takes milliseconds on a machine that has nothing else to do.
SOON_S = 20.0

#: Rounds of the lasting network that take a good part of a second.
LONG = 600


@contextlib.contextmanager
def queue_of(network: Any, requests: int = 2, **options: Any) -> Iterator[InferQueue]:
    """Open a queue for a network, by the function that builds it or compiled, for the length of the block."""
    queue = InferQueue(compiled(network) if isinstance(network, FunctionType) else network, requests, **options)
    try:
        yield queue
    finally:
        queue.close()


def answer(queue: InferQueue, number: int) -> int:
    """Run one inference and return the number that came back."""
    return number_of(queue.submit(tensor(number), timeout_s=SOON_S).result(SOON_S))
