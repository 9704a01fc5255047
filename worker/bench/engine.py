"""Decode, network and boxes for whoever wants to call them directly: the limit, the three servers, the peers.

Stage: under every contender but the fleet, which has its own. Knows no queue and no Celery.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov

from producer import wire
from worker import compiled_cache, outcome
from worker.bench.task import Task
from worker.decode import to_input
from worker.memory import Room
from worker.resize import Frame, Pixels

Answer = list[list[float]]

_ALL = wire.Options()


class Engine:
    """A compiled graph and what goes before and after it. Thread-safe, but for the requests it makes.

    Args:
        task: what is measured.
        threads: CPU threads of this process.
        streams: OpenVINO's streams; 0 leaves them to ``hint``.
        hint: ``LATENCY``, which is what OpenVINO's CPU device does when it is told nothing, or ``THROUGHPUT``.
        precision: asked of OpenVINO; None means the task's.
    """

    def __init__(
        self, task: Task, *, threads: int, streams: int = 0, hint: str = "LATENCY", precision: str | None = None
    ) -> None:
        self.task = task
        self._room = Room(task.limits.max_pixels)
        core = ov.Core()
        wanted: dict[str, Any] = {
            "PERFORMANCE_HINT": hint,
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,
        }
        if streams:
            wanted["NUM_STREAMS"] = streams
        if precision if precision is not None else task.precision:
            wanted["INFERENCE_PRECISION_HINT"] = precision if precision is not None else task.precision
        with compiled_cache.turn(task.folder / "compiled") as ours:  # processes of one contender start at once
            if ours:
                core.set_property({"CACHE_DIR": str(task.folder / "compiled")})
            self.compiled: Any = core.compile_model(str(task.graph), "CPU", wanted)
        # From one thread, before there are others: when two make OpenVINO's first `Type.to_dtype()` at once, one waits
        # for the GIL inside a C++ static's initialiser and the other, with the GIL, for that static: a deadlock.
        self.detect(task.photos[0].read_bytes(), self.request())

    @property
    def properties(self) -> Mapping[str, str]:
        """What OpenVINO made of the wishes."""
        names = ("NUM_STREAMS", "OPTIMAL_NUMBER_OF_INFER_REQUESTS", "INFERENCE_NUM_THREADS", "INFERENCE_PRECISION_HINT")
        return {name.lower(): _plain(self.compiled.get_property(name)) for name in names}

    def prepare(self, data: bytes) -> tuple[Pixels, Frame]:
        """Give the network's input for an encoded image, and how the image lies in it."""
        return to_input(data, self.task.limits, self.task.spec.fit, self._room)

    def request(self) -> Any:
        """Make an infer request; it belongs to one thread."""
        return self.compiled.create_infer_request()

    def detect(self, data: bytes, request: Any) -> Answer:
        """Do everything for one image, in the calling thread."""
        tensor, frame = self.prepare(data)
        request.infer({0: tensor}, share_inputs=True)
        return self.answer(request.get_output_tensor(0).data, frame)

    def answer(self, rows: npt.NDArray[np.float32], frame: Frame) -> Answer:
        """Give ``[label_id, score, x1, y1, x2, y2]`` per object, pixels of the original image."""
        found = outcome.to_detections(rows, frame, self.task.spec, _ALL)
        return [[one.label_id, one.score, *one.box] for one in found]


def _plain(value: Any) -> str:
    """Give a property as text; a type of number is ``<Type: 'bfloat16'>`` in Python."""
    return value.to_string() if hasattr(value, "to_string") else str(value)
