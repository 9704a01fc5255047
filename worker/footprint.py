"""What a model takes in a worker: measured, in a process of its own that loads it and keeps it busy once.

Stage: for ``fleet-worker doctor``. OpenVINO packs weights anew for the processor and each request has its own buffers,
so the size of the files says little.
"""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import openvino as ov

from worker import cpu, models, network, settings
from worker.infer_queue import InferQueue
from worker.settings import Settings

#: Longest wait for a model to be compiled and run.
LIMIT_S = 120.0

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a model takes in a worker.

    Attributes:
        size_bytes: memory beside the worker's own.
        streams: inferences that OpenVINO computes at once.
        requests: most inferences in flight.
    """

    size_bytes: int
    streams: int
    requests: int

    def __str__(self) -> str:
        return f"{self.streams} streams, {self.requests} requests, {self.size_bytes / 2**20:,.0f} MiB"


def explain(names: tuple[str, ...]) -> list[str]:
    """Say in a sentence each what the models take beside the worker's own memory, and what they take together."""
    found = {name: of(name) for name in names}
    said = [
        f"Model {name}: {one or f'cannot be loaded; fleet-worker models show {name} says why'}."
        for name, one in found.items()
    ]
    known = [one for one in found.values() if one]
    if len(known) > 1:
        parts = (sum(one.streams for one in known), sum(one.requests for one in known))
        said.append(f"Together: {Footprint(sum(one.size_bytes for one in known), *parts)}.")
    return said


def of(name: str) -> Footprint | None:
    """Measure the model ``name`` of the store; None where it cannot be loaded or the system does not tell."""
    command = [sys.executable, "-m", "worker.footprint", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)  # noqa: S603
        return Footprint(**json.loads(done.stdout)) if done.returncode == 0 else None
    except (subprocess.TimeoutExpired, OSError, ValueError, TypeError):
        return None


def measure(name: str, chosen: Settings) -> Footprint:
    """Load the model as a worker does, have every request run once, and see what this process has grown by."""
    ov.Core().get_property("CPU", "FULL_DEVICE_NAME")  # OpenVINO's own part is loaded once, for all models
    before = _resident_bytes()
    spec, path = models.read(name, chosen.model_store)
    loaded = network.load(spec, path, chosen, cpu.make_plan(chosen).threads)
    requests = InferQueue(loaded.compiled, network.requests_of(loaded, chosen))
    tensor = np.zeros((1, *spec.input_size, 3), np.uint8)
    for flight in [requests.submit(tensor) for _ in range(requests.size)]:
        flight.result(LIMIT_S)
    after = _resident_bytes()
    requests.close()
    return Footprint(max(0, after - before), loaded.optimal_requests, requests.size)


def _resident_bytes() -> int:
    line = next(line for line in _STATUS.read_text(encoding="ascii").splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    print(json.dumps(asdict(measure(sys.argv[1], settings.load()))))  # noqa: T201 - read by the process that asked
