"""What a model takes in a worker: measured, in a process of its own that loads it and keeps it busy once.

Stage: for ``fleet-worker doctor`` and ``models show``. OpenVINO packs weights anew for the processor and has buffers
for each stream, so the size of the files says little.
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
        requests_bytes: the part of the memory that they take with a picture in each.
    """

    size_bytes: int
    streams: int
    requests: int
    requests_bytes: int = 0

    def __str__(self) -> str:
        return f"{self.streams} streams, {self.requests} requests, {_mib(self.size_bytes)}"

    @property
    def sentence(self) -> str:
        """Say it with its parts."""
        network = _mib(self.size_bytes - self.requests_bytes)
        return (
            f"memory in a worker: {_mib(self.size_bytes)}, of which {network} for the network and "
            f"{_mib(self.requests_bytes)} for {self.requests} requests; measured here, now"
        )


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:,.0f} MiB"


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
    shape = (1, *spec.input_size, 3)
    for flight in [requests.submit(np.full(shape, 99, np.uint8)) for _ in range(loaded.optimal_requests)]:
        flight.result(LIMIT_S)  # the buffers of each stream belong to the network
    loaded_bytes = _resident_bytes()
    pictures = [np.full(shape, 99, np.uint8) for _ in range(requests.size)]
    for flight in [requests.submit(one) for one in pictures]:
        flight.result(LIMIT_S)
    after = _resident_bytes()
    requests.close()
    total_bytes = max(0, after - before)
    return Footprint(
        total_bytes, loaded.optimal_requests, requests.size, min(total_bytes, max(0, after - loaded_bytes))
    )


def _resident_bytes() -> int:
    line = next(line for line in _STATUS.read_text(encoding="ascii").splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    print(json.dumps(asdict(measure(sys.argv[1], settings.load()))))  # noqa: T201 - read by the process that asked
