"""Whether a worker that finds a CPU quota of one core does as well as one that was given one thread by hand.

Stage: beside the bench, for docs/performance.md: ``python -m benchmarks.quota``. The quota is a control group's, as a
container with ``cpus: 1`` has one; making it needs root on Linux. Three workers live throughout and take turns: one
that finds the quota; one with one core and one thread by hand; one under the quota with a stream and a decode thread
for each core of the host.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import cycle, islice
from pathlib import Path

import click

from producer import Client
from worker import embedded, local, models, settings
from worker.bench.__main__ import samples

V1, V2 = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
PERIOD_US = 100_000


BY_HAND = "one core and thread by hand"


@click.command()
@click.option("--model", default="centerface", show_default=True)
@click.option("--images", default=80, show_default=True, help="Per turn; of a few seconds at most.")
@click.option("--rounds", type=click.IntRange(2), default=15, show_default=True)
def main(*, model: str, images: int, rounds: int) -> None:
    """Print images per second of the three, and of the one by hand in the turn beside it."""
    store = settings.load().model_store
    models.fetch(model, store)
    photos = [path.read_bytes() for path in samples()]
    every = str(os.cpu_count() or 1)
    ways = {
        "quota of one core, found": (True, {}),
        BY_HAND: (False, {"FLEET_THREADS": "1"}),
        f"quota, {every} streams, {every} decode threads": (True, {"FLEET_STREAMS": every, "FLEET_DECODERS": every}),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    with ExitStack() as stack:
        clients = {}
        for number, (name, (limited, environ)) in enumerate(ways.items()):
            procs = stack.enter_context(_group(number)) if limited else None
            said = {"FLEET_MODELS": model, "FLEET_MODEL_STORE": str(store), **environ}
            clients[name] = stack.enter_context(_worker(procs, said))
            _serve(clients[name], photos, images)
        for _ in range(rounds):
            for name, client in clients.items():
                _serve(client, photos, 8)
                began = time.perf_counter()
                _serve(client, photos, images)
                found[name].append(images / (time.perf_counter() - began))
    for name, rates in found.items():
        ratios = [one / other for one, other in zip(rates, found[BY_HAND], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
        times = f"{middle:.2f} of one thread by hand, half of the rounds {low:.2f} to {high:.2f}"
        click.echo(f"{name:34} {statistics.median(rates):6.1f} images/s, {times}")


@contextmanager
def _worker(procs: Path | None, environ: Mapping[str, str]) -> Iterator[Client]:
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
        yield stack.enter_context(Client(url))


def _serve(client: Client, photos: list[bytes], count: int) -> None:
    for answer in client.map(islice(cycle(photos), count), window=64):
        assert answer.error is None, answer.error


@contextmanager
def _group(number: int) -> Iterator[Path]:
    """Make a control group of one core, of the first or second kind; give the file that takes processes."""
    first = (V1 / "cpu.cfs_quota_us").exists()
    group = (V1 if first else V2) / f"fleet-quota-{os.getpid()}-{number}"
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
