"""One fleet of :mod:`benchmarks.trees`: of the tree that ``PYTHONPATH`` names, whichever that is.

Reads numbers of images from standard input, a line each; writes what serving them cost, a line of JSON each, and ends
with standard input.
"""

import json
import sys
import tempfile
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
                spent = cost.of(lambda images=images: running.serve(images), running.processes())
                print(json.dumps({"wall": spent.seconds, **spent.cpu_s}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
