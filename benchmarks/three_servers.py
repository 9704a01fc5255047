"""What asynchronous inference gains on this host: three servers around the same network, alternating.

``make bench`` or ``python -m benchmarks.three_servers [--model M] [--images N] [--rounds R] PHOTO...``

synchronous       one thread: decode, infer, wait, next
start and wait    four threads, each starts a request of its own and waits for it: asynchronous in name
asynchronous      decode threads submit to an infer queue and go on; results are handled as they come

JPEG bytes in, boxes out; the same graph, decode and letterbox for all three.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import click
import numpy as np

from worker import cpu, models, network, settings
from worker.decode import Limits, Pixels, decode, letterbox
from worker.infer_queue import InferQueue

LIMITS = Limits(1 << 25, 1 << 26)

Server = Callable[[Sequence[bytes]], None]


def prepare(data: bytes, size: tuple[int, int]) -> Pixels:
    """Give the network's input for an encoded image."""
    return letterbox(decode(data, LIMITS), size)[0]


def synchronous(loaded: network.Network) -> Server:
    """One image after the other."""
    request = loaded.compiled.create_infer_request()

    def serve(images: Sequence[bytes]) -> None:
        for data in images:
            request.infer({0: prepare(data, loaded.spec.input_size)})
            np.array(request.get_output_tensor(0).data)

    return serve


def start_and_wait(loaded: network.Network, threads: int = 4) -> Server:
    """Each thread waits for the request that it has just started."""
    pool = ThreadPoolExecutor(threads)
    requests = [loaded.compiled.create_infer_request() for _ in range(threads)]

    def work(share: tuple[int, Sequence[bytes]]) -> None:
        request = requests[share[0]]
        for data in share[1]:
            request.start_async({0: prepare(data, loaded.spec.input_size)})
            request.wait()
            np.array(request.get_output_tensor(0).data)

    def serve(images: Sequence[bytes]) -> None:
        list(pool.map(work, [(index, images[index::threads]) for index in range(threads)]))

    return serve


def asynchronous(loaded: network.Network, decoders: int) -> Server:
    """No thread waits for an inference."""
    queue = InferQueue(loaded.compiled, max(2, 2 * loaded.optimal_requests))
    pool = ThreadPoolExecutor(decoders)

    def serve(images: Sequence[bytes]) -> None:
        started = [
            pool.submit(lambda data=data: queue.submit(prepare(data, loaded.spec.input_size))) for data in images
        ]
        wait([one.result() for one in started])

    return serve


@click.command()
@click.argument("photos", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", default="centerface", show_default=True)
@click.option("--images", default=200, show_default=True, help="Images per server and round.")
@click.option("--rounds", default=5, show_default=True)
def main(photos: tuple[Path, ...], model: str, images: int, rounds: int) -> None:
    """Print images per second and CPU milliseconds per image, median of the rounds."""
    chosen = settings.load()
    plan = cpu.make_plan(chosen)
    loaded = network.load(*models.read(model, chosen.model_store), chosen, plan.threads)
    work = [photos[index % len(photos)].read_bytes() for index in range(images)]
    servers = {
        "synchronous": synchronous(loaded),
        "start and wait, 4 threads": start_and_wait(loaded),
        "asynchronous": asynchronous(loaded, plan.decoders),
    }
    rates: dict[str, list[float]] = {name: [] for name in servers}
    spent: dict[str, list[float]] = {name: [] for name in servers}
    for number in range(rounds + 1):
        for name, serve in servers.items():
            began, cpu_began = time.perf_counter(), time.process_time()
            serve(work)
            if number:  # the first round warms up
                rates[name].append(images / (time.perf_counter() - began))
                spent[name].append((time.process_time() - cpu_began) / images * 1000)
    base = statistics.median(rates["synchronous"])
    click.echo(f"{model}, {plan.threads} threads, {images} images, median of {rounds} alternating rounds (min to max)")
    for name, values in rates.items():
        middle = statistics.median(values)
        click.echo(
            f"{name:28}{middle:8.1f} images/s  ({min(values):.1f} to {max(values):.1f})"
            f"{middle / base:7.2f} x{statistics.median(spent[name]):8.1f} ms CPU an image"
        )


if __name__ == "__main__":
    sys.exit(main())
