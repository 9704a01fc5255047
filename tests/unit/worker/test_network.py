"""A model's files become one compiled graph from pixels to rows, or one line that says why not."""

import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op

from tests.unit.worker.conftest import Load
from worker import heads, models, network
from worker.model_toml import ModelSpec
from worker.models import ModelError
from worker.settings import Settings

SETTINGS = Settings(precision="f32")

PIXELS = ModelSpec("pixels", "pixels.xml", "plain", (4, 6), ("pixel",))


@pytest.fixture
def blazeface(store: Path) -> tuple[ModelSpec, Path]:
    """The smallest real model."""
    return models.read("blazeface_short", store)


@pytest.fixture
def plain_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that lets the network's one output through."""

    def attach(model: ov.Model, *, iou: float) -> ov.Output:
        return model.output(0).get_node().input_value(0)

    monkeypatch.setitem(heads.HEADS, "plain", attach)


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Write a network of one's own as OpenVINO's IR."""

    def write(outputs: list[Any], *inputs: Any) -> Path:
        path = tmp_path / "net.xml"
        ov.save_model(ov.Model(outputs, list(inputs)), path, compress_to_fp16=False)
        return path

    return write


# ------------------------------------------------------------------------------------------------ what comes out


@pytest.mark.parametrize(("model", "columns"), [("centerface", 16), ("blazeface_short", 18)])
def test_a_compiled_model_takes_bytes_of_pixels_and_gives_rows(load: Load, store, model, columns):
    """Whatever the network itself wants: ``(1, H, W, 3)`` uint8 in, ``(n, columns)`` float32 out."""
    net = load(model)

    inside, out = net.compiled.inputs, net.compiled.outputs
    assert [(tuple(one.shape), one.element_type) for one in inside] == [((1, *net.spec.input_size, 3), ov.Type.u8)]
    assert [one.element_type for one in out] == [ov.Type.f32]
    assert out[0].partial_shape[1].get_length() == columns
    assert net.digest == models.digest(store / model / net.spec.file)
    assert net.optimal_requests >= 1


def test_the_log_says_that_a_model_is_ready(blazeface, caplog):
    """Lifecycle at info: name, seconds, requests."""
    with caplog.at_level(logging.INFO, "worker.network"):
        network.load(*blazeface, SETTINGS, 1)

    assert any(one.getMessage().startswith("network.ready model=blazeface_short seconds=") for one in caplog.records)


@pytest.mark.usefixtures("plain_head")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("colour", ["RGB", "BGR"])
def test_pixels_reach_the_network_as_its_description_says(save, layout, colour):
    """Layout, colour order, mean and scale, each channel with its own: checked on the values that arrive."""
    spec = replace(PIXELS, layout=layout, colour=colour, mean=(1.0, 2.0, 3.0), scale=(2.0, 4.0, 8.0))
    shape = [1, 3, 4, 6] if layout == "NCHW" else [1, 4, 6, 3]
    entry = op.parameter(shape, np.float32)
    path = save([op.reshape(op.relu(entry), np.array([4 * 3, 6]), False)], entry)
    bgr = np.random.default_rng(1).integers(10, 255, (1, 4, 6, 3), np.uint8)

    compiled = network.load(spec, path, SETTINGS, 1).compiled
    (arrived,) = compiled({0: bgr}).values()

    ordered = bgr[..., ::-1] if colour == "RGB" else bgr
    wanted = (ordered.astype(np.float32) - [1, 2, 3]) / [2, 4, 8]
    wanted = wanted.transpose(0, 3, 1, 2) if layout == "NCHW" else wanted
    assert arrived.reshape(wanted.shape) == pytest.approx(wanted, abs=1e-4)


@pytest.mark.usefixtures("plain_head")
def test_a_network_of_another_size_is_reshaped(save):
    """The file may say any size, as CenterFace's does; the description decides."""
    entry = op.parameter([10, 3, 32, 32], np.float32)
    mean = op.reduce_mean(entry, np.array([2, 3]), False)
    path = save([op.concat([mean, mean], 1)], entry)

    compiled = network.load(PIXELS, path, SETTINGS, 1).compiled

    assert tuple(compiled.input(0).shape) == (1, 4, 6, 3)
    assert tuple(compiled.output(0).shape) == (1, 6)


# ------------------------------------------------------------------------------------------------- what goes wrong


def refusal(spec: ModelSpec, path: Path, **settings: Any) -> str:
    """Give the one line with which a model is refused."""
    with pytest.raises(ModelError) as caught:
        network.load(spec, path, replace(SETTINGS, **settings), 1)
    told = str(caught.value)
    assert "\n" not in told
    assert repr(spec.name) in told
    assert len(told) < 700
    return told


def test_a_file_that_is_not_there_is_refused(blazeface, tmp_path):
    """It may have been removed after its description was read."""
    assert "cannot be built from gone.tflite" in refusal(blazeface[0], tmp_path / "gone.tflite")


@pytest.mark.parametrize("suffix", [".onnx", ".tflite", ".xml"])
@pytest.mark.parametrize("data", [b"", b"garbage" * 100], ids=["empty", "garbage"])
def test_a_file_that_is_no_network_is_refused(blazeface, tmp_path, suffix, data):
    """Empty or something else altogether."""
    path = tmp_path / f"net{suffix}"
    path.write_bytes(data)

    assert f"cannot be built from net{suffix}" in refusal(blazeface[0], path)


@pytest.mark.parametrize("model", ["centerface", "blazeface_short"])
def test_a_file_that_was_cut_short_is_refused(store, tmp_path, model):
    """An upload that broke off."""
    spec, path = models.read(model, store)
    (tmp_path / spec.file).write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    assert f"cannot be built from {spec.file}" in refusal(spec, tmp_path / spec.file)


def test_a_network_with_another_head_is_refused(blazeface):
    """More of this in test_heads.py."""
    spec, path = blazeface

    assert "CenterFace has outputs of" in refusal(replace(spec, head="centerface", options={}), path)


def test_a_size_that_the_network_cannot_have_is_refused(blazeface):
    """BlazeFace's anchors belong to one size."""
    spec, path = blazeface

    assert "cannot be built" in refusal(replace(spec, input_size=(100, 100)), path)
    assert "cannot be built" in refusal(replace(spec, layout="NCHW"), path)


@pytest.mark.parametrize("device", ["FRIDGE", "GPU.7", "HETERO:FRIDGE,CPU", "MULTI:FRIDGE", "AUTO:FRIDGE"])
def test_a_device_that_is_not_there_is_refused(blazeface, device):
    """With its name, what OpenVINO says of it, and what there is instead."""
    told = refusal(*blazeface, device=device)

    assert f"does not run on device '{device}': " in told
    assert re.search(r"\. This host has (.*, )?CPU(, .*)?; set FLEET_DEVICE\.$", told)


def test_networks_of_odd_shapes_are_refused(save):
    """Two inputs; four outputs without channels; integers in place of pixels: none of them ends in a traceback."""
    spec = replace(models.KNOWN["centerface"], input_size=(32, 32))
    first, second = op.parameter([1, 3, 32, 32], np.float32), op.parameter([1, 3, 32, 32], np.float32)
    assert "cannot be built" in refusal(spec, save([op.add(first, second)], first, second))
    assert "cannot be built" in refusal(spec, save([op.reduce_sum(first, np.arange(4)) for _ in range(4)], first))


def _raises(model: ov.Model, *, iou: float) -> ov.Output:
    return model.no_such_thing


def _one_row(model: ov.Model, *, iou: float) -> ov.Output:
    return op.constant(np.zeros(6, np.float32)).output(0)


def _odd_row(model: ov.Model, *, iou: float) -> ov.Output:
    return op.constant(np.zeros((1, 7), np.float32)).output(0)


def _whole_numbers(model: ov.Model, *, iou: float) -> ov.Output:
    return op.constant(np.zeros((1, 6), np.int32)).output(0)


@pytest.mark.parametrize(
    ("head", "told"),
    [
        (_raises, "the head 'mine' raised AttributeError: "),
        (_one_row, r"gives f32 of shape \[6\]; rows are float32 of \(n, 6 \+ 2 \* keypoints\)"),
        (_odd_row, r"gives f32 of shape \[1, 7\]"),
        (_whole_numbers, r"gives i32 of shape \[1, 6\]"),
    ],
)
def test_a_head_that_does_not_keep_its_promise_is_told(save, monkeypatch, head, told):
    """A head of somebody's package: its mistake is a sentence at the start, not a crash at the first photo."""
    monkeypatch.setitem(heads.HEADS, "mine", head)
    entry = op.parameter([1, 3, 4, 6], np.float32)

    assert re.search(told, refusal(replace(PIXELS, head="mine"), save([op.relu(entry)], entry)))


# ------------------------------------------------------------------------------------------------ options and cache


OF_CPU = {"INFERENCE_NUM_THREADS": 3, "ENABLE_CPU_PINNING": False}


@pytest.mark.parametrize(
    ("settings", "chosen"),
    [
        (Settings(), {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_NUM_THREADS": 3, "ENABLE_CPU_PINNING": False}),
        (
            Settings(hint="latency", precision="bf16", streams=2, pinning=True),
            {
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": "bf16",
                "NUM_STREAMS": 2,
                "INFERENCE_NUM_THREADS": 3,
                "ENABLE_CPU_PINNING": True,
            },
        ),
        (Settings(device="GPU"), {"PERFORMANCE_HINT": "THROUGHPUT"}),
        (Settings(device="MULTI:GPU,NPU"), {"PERFORMANCE_HINT": "THROUGHPUT"}),
        (Settings(device="AUTO:-CPU"), {"PERFORMANCE_HINT": "THROUGHPUT"}),
        *(
            (Settings(device=device), {"PERFORMANCE_HINT": "THROUGHPUT", **OF_CPU})
            for device in ("CPU", "BATCH:CPU(4)")
        ),
        *(
            (Settings(device=device), {"PERFORMANCE_HINT": "THROUGHPUT", "DEVICE_PROPERTIES": {"CPU": OF_CPU}})
            for device in ("AUTO", "AUTO:CPU", "AUTO:-GPU", "AUTO:GPU,CPU", "MULTI:GPU,CPU", "HETERO:GPU,CPU")
        ),
    ],
)
def test_settings_become_openvino_s_properties(settings, chosen):
    """Those of the CPU only where it may be one of the devices."""
    assert network.properties(settings, 3) == chosen


def test_openvino_keeps_to_the_threads_and_streams_that_were_chosen(blazeface):
    """Not one thread for each core of the host."""
    compiled = network.load(*blazeface, replace(SETTINGS, streams=2), 2).compiled

    assert compiled.get_property("INFERENCE_NUM_THREADS") == 2
    assert int(compiled.get_property("NUM_STREAMS")) == 2
    assert compiled.get_property("ENABLE_CPU_PINNING") is False
    assert compiled.get_property("INFERENCE_PRECISION_HINT") == ov.Type.f32


@pytest.mark.parametrize("name", ["centerface", "blazeface_short", "blazeface_back", "blazeface_full"])
def test_rgb_of_a_picture_is_bgr_of_the_turned_one(store: Path, samples: Path, name: str) -> None:
    """Given weights of 32 and 16 bits, then colour is turned in front of the network, and the boxes are the same."""
    spec, path = models.read(name, store)
    height, width = spec.input_size
    photo = cv2.resize(cv2.imread(str(samples / "astronaut.png")), (width, height))[np.newaxis]
    turned = np.ascontiguousarray(photo[..., ::-1])

    rows = {
        colour: network.load(replace(spec, colour=colour), path, Settings(precision="f32"), 1).compiled
        for colour in ("RGB", "BGR")
    }

    (as_rgb,), (as_bgr,), (untouched,) = (
        rows[colour](picture).values() for colour, picture in (("RGB", photo), ("BGR", turned), ("BGR", photo))
    )
    assert np.abs(as_rgb - as_bgr).max() < 0.01
    assert untouched.shape != as_rgb.shape or np.abs(untouched - as_rgb).max() > 0.01
