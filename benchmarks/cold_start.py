"""How long a worker takes from its start until it is ready, and what of that is CPU.

Stage: beside the bench, for docs/performance.md: ``python -m benchmarks.cold_start``. With an empty cache of compiled
networks and with a full one in turn; the server runs already, the files are in the page cache.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import psutil

from worker import embedded, local, models, settings
from worker.health import ready_file

#: Between two looks at the file that says "ready".
LOOK_EVERY_S = 0.002

#: What a worker imports before it does anything of its own.
IMPORTS = "from worker.entry import load; load('worker.starting')"


@click.command()
@click.option("--model", default="centerface", show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
def main(*, model: str, rounds: int) -> None:
    """Print wall and CPU seconds to ready, medians of alternating starts."""
    store = settings.load().model_store
    if model in models.KNOWN:
        models.fetch(model, store)
    found: dict[str, list[tuple[float, float]]] = {"imports alone": [], "empty cache": [], "full cache": []}
    with embedded.server() as url, tempfile.TemporaryDirectory(prefix="fleet-cold-") as folder:
        full = Path(folder) / "full"
        _start(url, model, store, full)
        for number in range(rounds):
            found["imports alone"].append(_imports())
            found["empty cache"].append(_start(url, model, store, Path(folder) / f"empty{number}"))
            found["full cache"].append(_start(url, model, store, full))
    for name, times in found.items():
        wall, cpu = (statistics.median(column) for column in zip(*times, strict=True))
        click.echo(f"{model}, {name:14} {wall:.2f} s to ready, {cpu:.2f} s of CPU (wall {_spread(times)})")


def _start(url: str, model: str, store: Path, cache: Path) -> tuple[float, float]:
    """Start a worker, wait until it is ready, and stop it."""
    with tempfile.TemporaryDirectory(prefix="fleet-cold-") as folder:
        sign = Path(folder) / "health"
        environ = {
            "FLEET_URL": url,
            "FLEET_MODELS": model,
            "FLEET_MODEL_STORE": str(store),
            "FLEET_CACHE_DIR": str(cache),
            "FLEET_HEALTH_FILE": str(sign),
        }
        began = time.perf_counter()
        with _running(local.start_worker("cold@bench", environ)) as process:
            while not ready_file(sign).exists():
                if process.poll() is not None:
                    raise click.ClickException("The worker ended before it was ready; see above.")
                time.sleep(LOOK_EVERY_S)
            wall = time.perf_counter() - began
            used = psutil.Process(process.pid).cpu_times()
            return wall, used.user + used.system


def _imports() -> tuple[float, float]:
    began, before = time.perf_counter(), os.times()
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - began, spent


@contextmanager
def _running(process: "subprocess.Popen[bytes]") -> Iterator["subprocess.Popen[bytes]"]:
    try:
        yield process
    finally:
        local.stop([process], 15)


def _spread(times: list[tuple[float, float]]) -> str:
    return f"{min(wall for wall, _ in times):.2f} to {max(wall for wall, _ in times):.2f}"


if __name__ == "__main__":
    main()
