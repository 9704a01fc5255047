"""Whether a worker that finds a CPU quota of one core does as well as one that was given one thread by hand.

Stage: beside the bench, for docs/performance.md: ``python -m benchmarks.quota``. The quota is a control group's, as a
container with ``cpus: 1`` has one; making it needs root on Linux. Three arrangements take turns: the quota, found; the
core and the thread given by hand; the quota with a thread for each core of the host, as OpenVINO alone would start.
"""

import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import cycle, islice
from pathlib import Path

import click

from producer import Client
from worker import embedded, local, models, settings
from worker.bench import cost
from worker.bench.__main__ import samples

V1, V2 = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
PERIOD_US = 100_000


@click.command()
@click.option("--model", default="centerface", show_default=True)
@click.option("--images", default=300, show_default=True)
@click.option("--rounds", default=3, show_default=True)
def main(*, model: str, images: int, rounds: int) -> None:
    """Print images per second and latencies of the three."""
    store = settings.load().model_store
    models.fetch(model, store)
    photos = [path.read_bytes() for path in samples()]
    every = str(os.cpu_count() or 1)
    ways = {
        "quota of one core, found": (True, {}),
        "one core and thread by hand": (False, {"FLEET_THREADS": "1"}),
        f"quota, {every} threads, {every} streams": (True, {"FLEET_STREAMS": every, "FLEET_DECODERS": every}),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    with _group() as procs:
        for _ in range(rounds):
            for name, (limited, environ) in ways.items():
                said = {"FLEET_MODELS": model, "FLEET_MODEL_STORE": str(store), **environ}
                found[name].append(_rate(procs if limited else None, said, photos, images))
    by_hand = found["one core and thread by hand"]
    for name, rates in found.items():
        times = statistics.median(one / other for one, other in zip(rates, by_hand, strict=True))
        click.echo(f"{name:32} {statistics.median(rates):6.1f} images/s, {times:.2f} of one thread by hand")


def _rate(procs: Path | None, environ: Mapping[str, str], photos: list[bytes], images: int) -> float:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fleet-quota-")))
        url = stack.enter_context(embedded.server())
        sign = folder / "health"
        worker = local.start_worker("quota@bench", {**environ, "FLEET_URL": url, "FLEET_HEALTH_FILE": str(sign)})
        stack.callback(local.stop, [worker], 15)
        if procs is None:
            os.sched_setaffinity(worker.pid, {max(os.sched_getaffinity(0))})
        else:
            procs.write_text(str(worker.pid), encoding="ascii")
        local.await_ready([worker], [sign])
        client = stack.enter_context(Client(url))
        _serve(client, photos, images // 5)
        return images / cost.of(lambda: _serve(client, photos, images), {"worker": [worker.pid]}).seconds


def _serve(client: Client, photos: list[bytes], count: int) -> None:
    for answer in client.map(islice(cycle(photos), count), window=64):
        assert answer.error is None, answer.error


@contextmanager
def _group() -> Iterator[Path]:
    """Make a control group of one core, of the first or second kind; give the file that takes processes."""
    first = (V1 / "cpu.cfs_quota_us").exists()
    group = (V1 if first else V2) / f"fleet-quota-{os.getpid()}"
    try:
        group.mkdir()
        if first:
            (group / "cpu.cfs_period_us").write_text(str(PERIOD_US), encoding="ascii")
            (group / "cpu.cfs_quota_us").write_text(str(PERIOD_US), encoding="ascii")
        else:
            (group / "cpu.max").write_text(f"{PERIOD_US} {PERIOD_US}", encoding="ascii")
    except OSError as error:
        sys.exit(f"No control group can be made here: {error}.")
    try:
        yield group / "cgroup.procs"
    finally:
        group.rmdir()


if __name__ == "__main__":
    main()
