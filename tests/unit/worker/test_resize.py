"""A picture comes into the network's input as its model.toml says, and boxes come back to where they were."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op

from producer.wire import Options
from worker import heads, models, network, resize
from worker.infer_queue import InferQueue
from worker.inference import TensorError
from worker.model_toml import ModelSpec
from worker.outcome import to_detections
from worker.resize import Fit
from worker.settings import Settings

PICTURES = [(60, 100), (100, 60), (640, 427), (33, 97), (1, 1), (2000, 3), (3, 2000), (96, 160)]
FITS = [
    Fit((96, 160)),
    Fit((96, 160), pad=114, centred=False),
    Fit((96, 160), "stretch"),
    Fit((96, 160), "multiple", pad=114),
    Fit((96, 160), "multiple", pad=7, centred=False, multiple=16, shrinking="linear"),
]


@pytest.mark.parametrize("how", FITS, ids=lambda how: f"{how.mode}-{how.centred}")
@pytest.mark.parametrize("shape", PICTURES)
def test_a_corner_of_the_picture_is_where_the_frame_says(how: Fit, shape):
    """Given any picture, when it is fitted, then the part that is not border is the whole picture, to the pixel."""
    tensor, frame = resize.fit(np.full((*shape, 3), 200, np.uint8), how)

    rows, columns = np.nonzero(tensor[0, :, :, 1] == 200)
    inside = np.array([[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]], np.float32)
    assert frame.to_original(inside) == pytest.approx(np.array([[0, 0], [shape[1], shape[0]]]), abs=1e-3)
    assert (frame.width, frame.height) == (shape[1], shape[0])
    assert set(np.unique(tensor)) <= {how.pad, 200}
    assert tensor.flags.c_contiguous


@pytest.mark.parametrize("how", FITS, ids=lambda how: f"{how.mode}-{how.centred}")
def test_a_mark_in_the_picture_comes_back_to_its_place(how: Fit):
    """Given a white square in a black picture, when it is found in the input, then it maps back within a pixel."""
    picture = np.zeros((427, 640, 3), np.uint8)
    picture[100:220, 300:500] = 255

    tensor, frame = resize.fit(picture, replace(how, pad=0))

    rows, columns = np.nonzero(tensor[0, :, :, 0] >= 128)
    found = np.array([[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]], np.float32)
    assert np.abs(frame.to_original(found) - [[300, 100], [500, 220]]).max() < 1 / min(frame.scale_x, frame.scale_y)


def test_stretching_fills_the_input_and_forgets_proportions():
    """A square becomes as wide as the input is."""
    tensor, frame = resize.fit(np.full((50, 50, 3), 9, np.uint8), Fit((96, 160), "stretch"))

    assert tensor.shape == (1, 96, 160, 3)
    assert (frame.scale_x, frame.scale_y, frame.pad_x, frame.pad_y) == (3.2, 1.92, 0, 0)
    assert (tensor == 9).all()


def test_a_border_can_stand_on_the_far_sides_in_any_grey():
    """As YOLOX and many others were trained: the picture in the top left corner, 114 beside it."""
    tensor, _ = resize.fit(np.zeros((96, 80, 3), np.uint8), Fit((96, 160), pad=114, centred=False))

    assert (tensor[0, :, :80] == 0).all()
    assert (tensor[0, :, 80:] == 114).all()


@pytest.mark.parametrize(("shape", "wanted"), [((427, 640), (96, 160)), ((640, 427), (96, 64)), ((96, 10), (96, 32))])
def test_keeping_proportions_pads_to_the_next_multiple_only(shape, wanted):
    """The input is as large as the picture needs, never larger than the size in model.toml."""
    tensor, _ = resize.fit(np.zeros((*shape, 3), np.uint8), Fit((96, 160), "multiple"))

    assert tensor.shape[1:3] == wanted


def brightest(model: ov.Model, *, iou: float) -> ov.Output:
    """Give one row: the bounds of all that is brighter than half."""
    plane = op.reduce_max(model.input(0).get_node(), np.array([0, 1]), False)
    bright = op.convert(op.non_zero(op.greater(plane, np.float32(127)), "i64"), "f32")
    low = op.reduce_min(bright, np.array([1]), False)
    high = op.add(op.reduce_max(bright, np.array([1]), False), np.float32(1))
    order = np.array([1, 0], np.int32)
    start, end = (op.gather(edge, order, np.int32(0)) for edge in (low, high))
    row = op.concat([np.array([0, 0.9], np.float32), start, end], 0)
    return op.unsqueeze(row, np.int64(0)).output(0)


@pytest.fixture
def marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelSpec:
    """A model that finds what is bright, in pictures of any size."""
    monkeypatch.setitem(heads.HEADS, "brightest", brightest)
    entry = op.parameter([1, 3, -1, -1], np.float32)
    ov.save_model(ov.Model([op.relu(entry)], [entry]), tmp_path / "net.xml", compress_to_fp16=False)
    return ModelSpec("marks", "net.xml", "brightest", (96, 160), ("mark",), resize="multiple", shrinking="linear")


@pytest.mark.parametrize("mode", resize.MODES)
def test_boxes_of_pictures_of_several_sizes_are_in_pixels_of_each(marks: ModelSpec, tmp_path, mode):
    """Given pictures of several proportions, when one queue runs them all, then each gets its own box."""
    spec = replace(marks, resize=mode)
    net = network.load(spec, tmp_path / "net.xml", Settings(precision="f32"), 2)
    queue = InferQueue(net.compiled, 2)
    flights = []
    for height, width in [(427, 640), (640, 427), (300, 300), (96, 160)]:
        picture = np.zeros((height, width, 3), np.uint8)
        picture[height // 4 : height // 2, width // 4 : width // 2] = 255
        tensor, frame = resize.fit(picture, spec.fit)
        flights.append((queue.submit(tensor), frame))

    for flight, frame in flights:
        (found,) = to_detections(flight.result(30), frame, spec, Options())
        wanted = [frame.width // 4, frame.height // 4, frame.width // 2, frame.height // 2]
        assert found.box == pytest.approx(wanted, abs=1 / min(frame.scale_x, frame.scale_y))
    queue.close()


def test_a_network_of_any_size_still_refuses_what_is_no_picture(marks: ModelSpec, tmp_path):
    """Four dimensions, three channels, bytes: the rest is checked before OpenVINO sees it."""
    net = network.load(marks, tmp_path / "net.xml", Settings(), 1)
    queue = InferQueue(net.compiled, 1)
    for shape in [(1, 32, 32), (1, 32, 32, 4), (2, 32, 32, 3)]:
        with pytest.raises(TensorError):
            queue.submit(np.zeros(shape, np.uint8))
    queue.close()


def test_a_head_with_a_grid_wants_an_input_of_fixed_size(marks: ModelSpec, tmp_path):
    """It says so in a sentence."""
    with pytest.raises(models.ModelError, match="needs an input of fixed size; choose resize letterbox or stretch"):
        network.load(replace(marks, head="yolox"), tmp_path / "net.xml", Settings(), 1)
