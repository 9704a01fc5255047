"""What several images per inference gain on this processor, and whether OpenVINO's BATCH device collects them.

Stage: beside the bench, for docs/performance.md: ``python -m benchmarks.batching``. The bare networks, without their
heads, take 1, 2, 4 and 8 images at once, with the streams that the throughput hint chooses; sizes take turns.
"""

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import numpy as np
import openvino as ov

from worker import cpu, inputs, models, network, settings
from worker.model_toml import ModelSpec

SIZES = (1, 2, 4, 8)
MODELS = ("centerface", "blazeface_short")


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--seconds", type=float, default=2.0, show_default=True, help="Of each turn.")
def main(*, rounds: int, seconds: float) -> None:
    """Print images per second and CPU milliseconds an image for each batch size."""
    chosen = settings.load()
    threads = cpu.make_plan(chosen).threads
    for name in MODELS:
        models.fetch(name, chosen.model_store)
        spec, path = models.read(name, chosen.model_store)
        core = ov.Core()
        properties = dict(network.properties(chosen, threads))
        compiled = {size: core.compile_model(_batched(core, spec, path, size), "CPU", properties) for size in SIZES}
        for size in SIZES:
            _loop(
                compiled[size], 0.0
            )  # warm; and OpenVINO can hang when several threads make a process's first inference
        turns: dict[int, list[tuple[float, float]]] = {size: [] for size in SIZES}
        for _ in range(rounds):
            for size in SIZES:
                turns[size].append(_turn(compiled[size], size, seconds))
        base = [rate for rate, _ in turns[1]]
        for size in SIZES:
            rates, costs = zip(*turns[size], strict=True)
            times = statistics.median(one / other for one, other in zip(rates, base, strict=True))
            click.echo(
                f"{name}, {size} images an inference: {statistics.median(rates):7.1f} images/s, "
                f"{statistics.median(costs):6.2f} ms of CPU an image, {times:.2f} times one"
            )
        graph = network.build(spec, path, core)
        device = core.compile_model(graph, "BATCH:CPU(4)", {"PERFORMANCE_HINT": "THROUGHPUT"})
        runs = device.get_runtime_model().inputs[0].get_partial_shape()
        click.echo(f"{name} with its head on BATCH:CPU(4): the graph that runs takes {runs}")


def _batched(core: ov.Core, spec: ModelSpec, path: Path, size: int) -> ov.Model:
    model = core.read_model(path)
    inputs.settle(model, spec.layout, spec.input_size)
    height, width = spec.input_size
    model.reshape([size, 3, height, width] if spec.layout == "NCHW" else [size, height, width, 3])
    return model


def _turn(compiled: Any, size: int, seconds: float) -> tuple[float, float]:
    """Keep as many requests busy as OpenVINO calls optimal; return images per second and CPU milliseconds an image."""
    requests = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
    began, before = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(requests) as pool:
        done = sum(pool.map(lambda _: _loop(compiled, began + seconds), range(requests)))
    spent = time.perf_counter() - began
    return done * size / spent, (time.process_time() - before) / (done * size) * 1000


def _loop(compiled: Any, until: float) -> int:
    request = compiled.create_infer_request()
    tensor = np.random.default_rng(1).uniform(0, 255, list(compiled.input(0).shape)).astype(np.float32)
    count = 0
    while count == 0 or time.perf_counter() < until:
        request.infer({0: tensor}, share_inputs=True)
        count += 1
    return count


if __name__ == "__main__":
    main()
