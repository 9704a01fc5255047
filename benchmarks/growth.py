"""What a job costs as the backlog, the payload and the number of workers grow, with a network that costs nothing.

Stage: beside the bench, for docs/performance.md and docs/scaling.md: ``python -m benchmarks.growth``. Each line is
measured in a process of its own, with a server of its own, and prints CPU milliseconds a job by role.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import click

from benchmarks import trivial
from producer import Client
from producer.wire import JOBS_KEY
from worker.bench import cost

BACKLOGS = (10, 100, 1_000, 10_000, 100_000)
PAYLOADS = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
WORKERS = (1, 2, 4, 8)

#: Bytes of images under way while payloads grow.
WINDOW_BYTES = 160_000_000

#: Bytes of the image where its size is not what grows: too large to ride in the message, as every photo is.
SMALL = 4_000

#: Jobs before anything is measured, and answers that may lie unread then; how often these are read at most; and
#: seconds between two urgent jobs.
WARM = 300
MOST_PASSES = 20
URGENT_EVERY_S = 0.1


@click.group()
def main() -> None:
    """Measure growth."""


@main.command()
@click.option("--jobs", default=3000, show_default=True, help="Jobs measured at each backlog.")
@click.option("--most", default=BACKLOGS[-1], show_default=True)
def backlog(*, jobs: int, most: int) -> None:
    """Keep 10 to 100,000 jobs waiting; urgent jobs are asked for one by one meanwhile."""
    for waiting in (one for one in BACKLOGS if one <= most):
        found = _apart("backlog", waiting, jobs)
        click.echo(
            f"backlog {waiting:7,}: {_costs(found)}; an urgent job takes {found['urgent_ms']:.1f} ms; sending one "
            f"{found['fill_ms']:.2f} ms of the client and {found['fill_redis_ms']:.2f} of Redis; a waiting job is "
            f"{found['bytes']:,.0f} bytes in Redis"
        )


@main.command()
@click.option("--jobs", default=1500, show_default=True, help="Jobs at each size; fewer of large ones.")
def payload(*, jobs: int) -> None:
    """Send images of 1 kB to 10 MB."""
    for size in PAYLOADS:
        found = _apart("payload", size, max(40, min(jobs, 600_000_000 // size)))
        click.echo(
            f"payload {size / 1000:8,.0f} kB: {_costs(found)}; {found['rate'] * size / 1e6:,.0f} MB/s; "
            f"{found['commands']:.1f} commands, {found['in_bytes'] / size:.2f} x the image in, "
            f"{found['out_bytes'] / size:.2f} x out"
        )


@main.command()
@click.option("--jobs", default=3000, show_default=True)
def workers(*, jobs: int) -> None:
    """Run 1, 2, 4 and 8 workers, one image a message and sixteen."""
    for batch in (1, 16):
        for count in WORKERS:
            found = _apart("workers", count, jobs, batch)
            click.echo(
                f"{count} workers, {batch:2} images a message: {_costs(found)}; {found['commands']:.1f} commands, "
                f"{found['in_bytes'] / 1000:.2f} kB in, {found['out_bytes'] / 1000:.2f} kB out, an image; "
                f"one core of Redis carries {1000 / found['redis']:,.0f} images/s; "
                f"{found['connections']:.0f} connections a worker"
            )


@main.command(hidden=True)
@click.argument("what", type=click.Choice(["backlog", "payload", "workers"]))
@click.argument("size", type=int)
@click.argument("jobs", type=int)
@click.argument("batch", type=int)
def one(*, what: str, size: int, jobs: int, batch: int) -> None:
    """Measure one line, print JSON, and leave without cancelling what still waits."""
    with tempfile.TemporaryDirectory(prefix="fleet-growth-") as folder:
        count = size if what == "workers" else 1
        with trivial.stand(Path(folder), count) as stand:
            window = size if what == "backlog" else 256
            data = trivial.picture(SMALL)
            if what == "payload":
                data = trivial.picture(size)
                window = max(4, min(256, WINDOW_BYTES // size))
            client = Client(stand.url, model=trivial.NAME, max_backlog=1_000_000, max_backlog_bytes=1 << 40)
            flow = Flow(client, data, window, jobs, batch)
            print(json.dumps(_measure(stand, flow)), flush=True)
        # The client would take back every job that still waits, of a server that is gone.
    os._exit(0)


@dataclass(frozen=True, slots=True)
class Flow:
    """Jobs to measure, and how many are under way."""

    client: Client
    data: bytes
    window: int
    jobs: int
    batch: int

    def answers(self) -> Iterator[Any]:
        """Send without end; urgent jobs go before these."""
        return self.client.map(
            repeat(self.data), window=self.window, ordered=False, batch=self.batch, priority=9, deadline_s=7200.0
        )


def _measure(stand: trivial.Stand, flow: Flow) -> dict[str, float]:
    """Keep as many jobs under way as the flow says until its jobs have been answered."""
    idle = stand.redis.info("memory")["used_memory"]
    connections = (len(stand.redis.client_list()) - 1) / len(stand.roles["worker"])
    answers = flow.answers()
    filling = cost.of(lambda: _take(answers, 1), stand.roles)
    _take(answers, WARM)
    # A large window takes long to fill, and is answered meanwhile. With those answers still to be read, jobs would be
    # sent much faster than they are done while it is measured.
    for _ in range(MOST_PASSES):
        if (unread := flow.window - flow.batch * stand.redis.hlen(JOBS_KEY)) <= WARM:
            break
        _take(answers, unread)
    else:
        raise click.ClickException("The workers answer faster than this client reads: what is measured would be that.")
    memory = (stand.redis.info("memory")["used_memory"] - idle) / max(1, stand.redis.hlen(JOBS_KEY))
    urgent: list[float] = []
    over = threading.Event()
    asking = threading.Thread(target=_urgent, args=(stand.url, flow.data, urgent, over))
    before, open_before = stand.redis.info("all"), stand.redis.hlen(JOBS_KEY)
    asking.start()
    spent = cost.of(lambda: _take(answers, flow.jobs), stand.roles)
    after, open_after = stand.redis.info("all"), stand.redis.hlen(JOBS_KEY)
    over.set()
    asking.join()
    sent = flow.jobs + len(urgent)
    done = sent - flow.batch * (open_after - open_before)  # some answers were there before
    return {
        "client": spent.cpu_s["client"] / sent * 1000,
        "redis": spent.cpu_s["redis"] / done * 1000,
        "worker": spent.cpu_s["worker"] / done * 1000,
        "rate": done / spent.seconds,
        "others": spent.others,
        "urgent_ms": statistics.median(urgent) * 1000,
        "fill_ms": filling.cpu_s["client"] / flow.window * 1000,
        "fill_redis_ms": filling.cpu_s["redis"] / flow.window * 1000,
        "bytes": memory,
        "commands": (after["total_commands_processed"] - before["total_commands_processed"]) / done,
        "in_bytes": (after["total_net_input_bytes"] - before["total_net_input_bytes"]) / done,
        "out_bytes": (after["total_net_output_bytes"] - before["total_net_output_bytes"]) / done,
        "connections": connections,
    }


def _take(answers: Iterator[Any], count: int) -> None:
    for answer in islice(answers, count):
        if answer.error is not None:
            raise answer.error


def _urgent(url: str, data: bytes, times: list[float], over: threading.Event) -> None:
    """Ask for one job after the other that goes before all others."""
    with Client(url, model=trivial.NAME, max_backlog=1_000_000, max_backlog_bytes=1 << 40) as client:
        while True:
            began = time.perf_counter()
            client.detect(data, priority=0)
            times.append(time.perf_counter() - began)
            if over.wait(URGENT_EVERY_S):
                return


def _apart(what: str, size: int, jobs: int, batch: int = 1) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.growth", "one", what, str(size), str(jobs), str(batch)]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(run.stdout)
    return found


def _costs(found: dict[str, float]) -> str:
    roles = ", ".join(f"{role} {found[role]:.2f}" for role in ("client", "redis", "worker"))
    return f"{found['rate']:6.0f} images/s, CPU ms an image: {roles} (others had {found['others']:.1f} cores)"


if __name__ == "__main__":
    main()
