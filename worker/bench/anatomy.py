"""What one image costs, apart: decoding, the network on one core and on all, and in 32-bit floats.

Stage: before the contenders run; :mod:`worker.bench.sentences` explains their figures with it. In a process of its own:
``python -m worker.bench.anatomy TASK`` prints JSON.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from worker.bench import task
from worker.bench.contender import ContenderError
from worker.bench.engine import Engine
from worker.bench.task import Task

#: Seconds for each figure.
EACH_S = 1.5


@dataclass(frozen=True, slots=True)
class Anatomy:
    """Figures of one process alone on the host.

    Attributes:
        decode_ms: decode and letterbox, one thread, mean of the photos.
        one_core_ms: the network on one thread.
        all_cores_ms: the network on all threads, one image at a time: OpenVINO's LATENCY, its default on a CPU.
        f32_ms: as ``one_core_ms`` in 32-bit floats.
        precision: what OpenVINO chose, or was told.
        streams: what OpenVINO chooses for THROUGHPUT.
        requests: what it calls optimal for THROUGHPUT.
        latency_requests: what it calls optimal for LATENCY.
    """

    decode_ms: float
    one_core_ms: float
    all_cores_ms: float
    f32_ms: float
    precision: str
    streams: int
    requests: int
    latency_requests: int

    @property
    def total_ms(self) -> float:
        """CPU milliseconds that an image costs at least: decode and network, each on one core."""
        return self.decode_ms + self.one_core_ms


def measure(subject: Task) -> Anatomy:
    """Measure in a process of its own.

    Raises:
        ContenderError: it failed; the reason is on stderr.
    """
    command = [sys.executable, "-m", "worker.bench.anatomy", str(subject.folder)]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603 - our own command
    if run.returncode:
        raise ContenderError("The network cannot be measured on its own; see above.")
    return Anatomy(**json.loads(run.stdout))


def main(folder: str) -> None:
    """Measure here and print."""
    subject = task.read(folder)
    images = subject.images()
    one, every = Engine(subject, threads=1, streams=1), Engine(subject, threads=subject.cores)
    full = Engine(subject, threads=1, streams=1, precision="f32")
    many = Engine(subject, threads=subject.cores, hint="THROUGHPUT")
    found = Anatomy(
        decode_ms=_ms(lambda: [one.prepare(data) for data in images]) / len(images),
        one_core_ms=_ms(_network(one)),
        all_cores_ms=_ms(_network(every), time.perf_counter),
        f32_ms=_ms(_network(full)),
        precision=one.properties["inference_precision_hint"],
        streams=int(many.properties["num_streams"]),
        requests=int(many.properties["optimal_number_of_infer_requests"]),
        latency_requests=int(every.properties["optimal_number_of_infer_requests"]),
    )
    print(json.dumps(asdict(found)))  # noqa: T201 - the parent reads it


def _network(engine: Engine) -> Callable[[], object]:
    request = engine.request()
    tensor, _ = engine.prepare(engine.task.photos[0].read_bytes())
    return lambda: request.infer({0: tensor}, share_inputs=True)


def _ms(work: Callable[[], object], clock: Callable[[], float] = time.process_time) -> float:
    """Give what ``work`` takes, in a good moment: a tenth of the times are shorter.

    On one core CPU time is what counts, and a neighbour moves it little; on all of them it is wall time.
    """
    times: list[float] = []
    until = time.perf_counter() + EACH_S
    while time.perf_counter() < until or len(times) < 3:
        began = clock()
        work()
        times.append((clock() - began) * 1000)
    return sorted(times)[len(times) // 10]


if __name__ == "__main__":
    main(sys.argv[1])
