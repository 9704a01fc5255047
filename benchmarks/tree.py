"""One fleet of :mod:`benchmarks.trees`: of the tree that ``PYTHONPATH`` names, whichever that is.

Reads numbers of images from standard input, a line each; writes what serving them cost, a line of JSON each, and ends
with standard input.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from worker import cpu, models, settings
from worker.bench import cost, task
from worker.bench.__main__ import samples
from worker.bench.contender import Kind
from worker.bench.fleet import Fleet


def main(model: str, batch: int) -> None:
    """Serve turns with one worker."""
    chosen = settings.load()
    if model in models.KNOWN:
        models.fetch(model, chosen.model_store)
    with tempfile.TemporaryDirectory(prefix="fleet-bench-") as folder:
        subject = task.make(chosen, model, samples(), cpu.make_plan(chosen).threads, Path(folder))
        with Fleet(Kind("tree", "fleet", durable=True), 1, batch).open(subject) as running:
            for line in sys.stdin:
                images = int(line)
                running.serve(max(4, images // 10))
                workers = running.processes()["worker"]
                before = _loop_s(workers)
                spent = cost.of(lambda images=images: running.serve(images), running.processes())
                loop = {"loop": _loop_s(workers) - before}
                print(json.dumps({"wall": spent.seconds, **spent.cpu_s, **loop}), flush=True)


def _loop_s(pids: Sequence[int]) -> float:
    """Give the CPU seconds that the first threads of processes have had: a worker's event loop. 0 if nobody tells."""
    told = [Path(f"/proc/{pid}/task/{pid}/schedstat") for pid in pids]
    return sum(int(path.read_text().split()[0]) for path in told if path.exists()) / 1e9


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
