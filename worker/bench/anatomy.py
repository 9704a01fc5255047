"""What one image costs, apart: decoding, the network on one core and on all, and in 32-bit floats.

Stage: before the contenders run, and after; :mod:`worker.bench.sentences` explains their figures with it. In a process
of its own: ``python -m worker.bench.anatomy TASK SECONDS`` prints JSON.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TypeAlias

from worker.bench import task
from worker.bench.contender import ContenderError
from worker.bench.engine import Engine
from worker.bench.task import Task
from worker.resize import Pixels

#: Most seconds for each figure, and of each of the turns that they take: the machine is faster and slower for seconds.
EACH_S = 2.0
TURN_S = 0.1

#: What is measured, and by which clock: on one core CPU time is what counts, and a neighbour moves it little; on all of
#: them it is wall time.
Work: TypeAlias = tuple[Callable[[], object], Callable[[], float]]


@dataclass(frozen=True, slots=True)
class Anatomy:
    """Figures of one process alone on the host.

    Attributes:
        decode_ms: decode and letterbox, one thread, mean of the photos.
        one_core_ms: the network on one thread, mean of the photos.
        all_cores_ms: the network on all threads, one image at a time: OpenVINO's LATENCY, its default on a CPU.
        f32_ms: as ``one_core_ms`` in 32-bit floats.
        precision: what OpenVINO chose, or was told.
        streams: what OpenVINO chooses for THROUGHPUT.
        requests: what it calls optimal for THROUGHPUT.
        latency_requests: what it calls optimal for LATENCY.
        told: whether the precision was asked for.
        free_ms: as ``one_core_ms`` in the precision that OpenVINO chooses when it is told nothing.
        free_precision: which that is.
    """

    decode_ms: float
    one_core_ms: float
    all_cores_ms: float
    f32_ms: float
    precision: str
    streams: int
    requests: int
    latency_requests: int
    told: bool
    free_ms: float
    free_precision: str

    @property
    def total_ms(self) -> float:
        """CPU milliseconds that an image costs at least: decode and network, each on one core."""
        return self.decode_ms + self.one_core_ms

    def best(self, other: "Anatomy") -> "Anatomy":
        """Give the shorter of each time: a machine may be slow for the whole of one measurement."""
        times = [field.name for field in fields(self) if field.name.endswith("_ms")]
        return replace(self, **{name: min(getattr(self, name), getattr(other, name)) for name in times})


def measure(subject: Task, seconds: float = EACH_S) -> Anatomy:
    """Measure in a process of its own, each figure for about ``seconds``, or ``EACH_S``, and all photos three times.

    Raises:
        ContenderError: it failed; the reason is on stderr.
    """
    command = [sys.executable, "-m", "worker.bench.anatomy", str(subject.folder), str(min(seconds, EACH_S))]
    try:
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603 - our own command
        if run.returncode:
            raise ContenderError("The network cannot be measured on its own; see above.")
        return Anatomy(**json.loads(run.stdout))
    except (OSError, ValueError, TypeError) as error:  # such as no memory for one more process
        raise ContenderError(f"The network cannot be measured on its own: {error}") from error


def main(folder: str, each_s: float) -> None:
    """Measure here and print."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this ends it
    subject = task.read(folder)
    images = subject.images()
    one, every = Engine(subject, threads=1, streams=1), Engine(subject, threads=subject.cores)
    full = Engine(subject, threads=1, streams=1, precision="f32")
    free = Engine(subject, threads=1, streams=1, precision="") if subject.precision else one
    many = Engine(subject, threads=subject.cores, hint="THROUGHPUT")
    tensors = _inputs(one, images)
    works: dict[str, Work] = {
        "decode": (lambda: [one.prepare(data) for data in images], time.process_time),
        "one core": (_network(one, tensors), time.process_time),
        "all cores": (_network(every, tensors), time.perf_counter),
        "f32": (_network(full, tensors), time.process_time),
    }
    if subject.precision:
        works["free"] = (_network(free, tensors), time.process_time)
    took_ms = in_turns(works, each_s)
    found = Anatomy(
        decode_ms=took_ms["decode"] / len(images),
        one_core_ms=took_ms["one core"] / len(tensors),
        all_cores_ms=took_ms["all cores"] / len(tensors),
        f32_ms=took_ms["f32"] / len(tensors),
        precision=one.properties["inference_precision_hint"],
        streams=int(many.properties["num_streams"]),
        requests=int(many.properties["optimal_number_of_infer_requests"]),
        latency_requests=int(every.properties["optimal_number_of_infer_requests"]),
        told=bool(subject.precision),
        free_ms=took_ms.get("free", took_ms["one core"]) / len(tensors),
        free_precision=free.properties["inference_precision_hint"],
    )
    print(json.dumps(asdict(found)))  # noqa: T201 - the parent reads it


def _inputs(engine: Engine, images: Sequence[bytes]) -> list[Pixels]:
    """Give the input of each photo; of one, where all are of one size and so cost the network the same."""
    tensors = [engine.prepare(data)[0] for data in images]
    return tensors if len({tensor.shape for tensor in tensors}) > 1 else tensors[:1]


def _network(engine: Engine, tensors: Sequence[Pixels]) -> Callable[[], object]:
    request = engine.request()
    return lambda: [request.infer({0: tensor}, share_inputs=True) for tensor in tensors]


def in_turns(works: Mapping[str, Work], each_s: float, turn_s: float = TURN_S) -> dict[str, float]:
    """Give the milliseconds that each work takes in a good moment: a tenth of its times are shorter.

    They take short turns, at least three, so that all of them meet the good moments.
    """
    times: dict[str, list[float]] = {name: [] for name in works}
    until, turns = time.perf_counter() + each_s * len(works), 0
    while turns < 3 or time.perf_counter() < until:
        turns += 1
        for name, (work, clock) in works.items():
            turn_ends = time.perf_counter() + turn_s
            while True:
                began = clock()
                work()
                times[name].append((clock() - began) * 1000)
                if time.perf_counter() >= turn_ends:
                    break
    return {name: sorted(found)[len(found) // 10] for name, found in times.items()}


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
