"""Devices that stand for others: the same boxes through the same queue, within the same share of the host.

There is no GPU or NPU here: what is shown is that AUTO, MULTI, HETERO and BATCH pass through, with the CPU behind them.
"""

from concurrent.futures import wait
from dataclasses import replace

import numpy as np
import pytest

from tests.reference import match
from tests.unit.worker.conftest import Load
from worker import models, network, resize
from worker.infer_queue import InferQueue
from worker.settings import Settings

DEVICES = ["AUTO", "AUTO:CPU", "MULTI:CPU", "HETERO:CPU", "BATCH:CPU(2)"]

PHOTOS = ("astronaut", "grace_hopper", "crowd", "china")


@pytest.fixture(scope="module")
def loaded(store):
    """Compile CenterFace for a device, for one thread."""
    made = {}

    def once(device: str) -> network.Network:
        if device not in made:
            chosen = Settings(precision="f32", device=device)
            made[device] = network.load(*models.read("centerface", store), chosen, 1)
        return made[device]

    return once


@pytest.mark.parametrize("device", DEVICES)
def test_the_boxes_are_those_of_the_cpu(loaded, load: Load, decoded, device):
    """Given photos in flight together, over and over, when a device stands for the CPU, then not a box differs."""
    reference, net = load("centerface"), loaded(device)
    tensors = [resize.fit(decoded(name), net.spec.fit)[0] for name in PHOTOS]
    queue = InferQueue(net.compiled, 3)
    try:
        flights = [queue.submit(tensors[number % len(tensors)]) for number in range(24)]
        assert not wait(flights, 60).not_done
        for number, flight in enumerate(flights):
            (expected,) = reference.compiled({0: tensors[number % len(tensors)]}).values()
            rows = flight.result()
            match(expected[:, 2:6], rows[:, 2:6], 0.99)
            assert np.allclose(np.sort(expected[:, 1]), np.sort(rows[:, 1]), atol=1e-3)
    finally:
        queue.close()


@pytest.mark.parametrize("device", ["AUTO", "AUTO:CPU", "MULTI:CPU", "HETERO:CPU"])
def test_the_cpu_behind_it_keeps_to_its_share(loaded, device):
    """Given one thread, then the CPU behind the device has one, not one for each core of the host."""
    of_cpu = loaded(device).compiled.get_property("DEVICE_PROPERTIES")["CPU"]

    assert of_cpu["INFERENCE_NUM_THREADS"] == 1
    assert of_cpu["ENABLE_CPU_PINNING"] is False


@pytest.mark.parametrize("device", DEVICES)
def test_the_log_says_what_it_runs_on(store, caplog: pytest.LogCaptureFixture, device):
    """Given a device that chooses, then the line of the network names what it chose."""
    chosen = Settings(precision="f32", device=device)

    with caplog.at_level("INFO", "worker.network"):
        network.load(*models.read("blazeface_short", store), chosen, 1)

    assert caplog.text.rstrip().endswith("device=CPU")


@pytest.mark.parametrize("device", ["AUTO", "HETERO:CPU"])
def test_a_compiled_network_is_kept_for_the_second_start(store, tmp_path, device):
    """Given a cache, when a network is loaded twice, then the second has the same boxes."""
    chosen = Settings(precision="f32", device=device, cache_dir=tmp_path)
    picture = np.random.default_rng(1).integers(0, 255, (1, 128, 128, 3), np.uint8)

    first, second = (network.load(*models.read("blazeface_short", store), replace(chosen), 1) for _ in range(2))

    (one,), (other,) = first.compiled({0: picture}).values(), second.compiled({0: picture}).values()
    assert np.array_equal(one, other)
    assert list(tmp_path.iterdir())
