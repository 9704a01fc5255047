"""OpenVINO's own ``benchmark_app`` on the same graph: the network alone, no image is decoded.

Stage: beside the contenders; not one of them, as it takes no images.
"""

import re
import subprocess
import sys

import openvino as ov

from worker.bench.contender import ContenderError
from worker.bench.task import Task

_START = "import sys; from openvino.tools.benchmark.main import main; sys.exit(main())"


def rate(task: Task, seconds: float) -> float:
    """Return images per second with a stream per core.

    Raises:
        ContenderError: it did not run, or said nothing that can be read.
    """
    if any(one.partial_shape.is_dynamic for one in ov.Core().read_model(str(task.graph)).inputs):
        raise ContenderError("It wants one size, and this network takes several.")
    wish = ["-hint", "none", "-nstreams", str(task.cores), "-nthreads", str(task.cores), "-pin", "NO"]
    if task.precision:
        wish += ["-infer_precision", task.precision]
    options = ["-m", str(task.graph), "-d", "CPU", "-t", str(max(1, round(seconds))), *wish]
    run = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", _START, *options], capture_output=True, text=True, check=False, cwd=task.folder
    )
    found = re.search(r"Throughput:\s+([\d.]+)", run.stdout)
    if run.returncode or found is None:
        raise ContenderError(f"benchmark_app failed: {(run.stderr or run.stdout).strip()[-300:]}")
    return float(found[1])
