"""The graphs with preprocessing, head and suppression inside find what an independent numpy decoder finds."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op

from producer.wire import Detection, Options
from tests import reference
from tests.unit.worker.conftest import Load
from worker import decode, models, network
from worker.heads import blazeface, nms
from worker.models import KNOWN, ModelError
from worker.network import Network
from worker.outcome import to_detections

#: ``""`` is the hardware's choice; where that is f32, there is nothing more to see.
PRECISIONS = ["f32", ""] if "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else ["f32"]

F32 = {"INFERENCE_PRECISION_HINT": "f32"}

PHOTOS = [
    *("crowd", "astronaut", "grace_hopper", "china", "flower", "portrait_astronaut", "portrait_grace_hopper"),
    *("huge", "exif_6", "png_grey", "thin", "wide", "png_1x1"),
]


class Case(NamedTuple):
    """A compiled model, the file it was made from and the precision it computes in."""

    net: Network
    path: Path
    precision: str

    def look(self, pixels: decode.Pixels) -> tuple[np.ndarray, decode.Frame]:
        """Run one picture through the compiled graph; give its rows and how it lay in the input."""
        tensor, frame = decode.letterbox(pixels, self.net.spec.input_size)
        (rows,) = self.net.compiled({0: tensor}).values()
        return rows.copy(), frame

    def detect(self, pixels: decode.Pixels, **options: Any) -> tuple[Detection, ...]:
        """Run one picture through all that the worker does with its pixels."""
        return to_detections(*self.look(pixels), self.net.spec, Options(**options))

    def expected(self, pixels: decode.Pixels, threshold: float) -> list[dict[str, Any]]:
        """Give what the reference finds, in pixels of ``pixels``."""
        how: dict[str, Any] = {"threshold": threshold, "precision": self.precision or None}
        if self.net.spec.head == "centerface":
            return reference.centerface_reference(pixels, self.path, self.net.spec.input_size, **how)
        return reference.blazeface_reference(pixels, self.path, self.net.spec.options["variant"], **how)


@pytest.fixture(params=[(model, precision) for model in KNOWN for precision in PRECISIONS], ids="-".join)
def case(request, load: Load, store: Path) -> Case:
    """Each model in each precision that this CPU has."""
    model, precision = request.param
    net = load(model, precision)
    return Case(net, store / model / net.spec.file, precision)


@pytest.fixture(params=KNOWN)
def exact(request, load: Load, store: Path) -> Case:
    """Each model in float32, where no two candidates tie: bfloat16 has 128 values in an octave."""
    net = load(request.param, "f32")
    return Case(net, store / request.param / net.spec.file, "f32")


@pytest.mark.parametrize("photo", PHOTOS)
def test_detections_are_those_of_the_reference(case: Case, decoded, photo):
    """Same number, and box by box at least 0.95 overlap and keypoints within a pixel of the network's input."""
    pixels = decoded(photo)

    got = case.detect(pixels)

    wanted = case.expected(pixels, 0.5)
    partners = reference.match(wanted, got, 0.95)
    scale = min(size / side for size, side in zip(case.net.spec.input_size, pixels.shape, strict=False))
    for face, index in zip(wanted, partners, strict=True):
        assert np.abs(face["keypoints"] - np.array(got[index].keypoints)).max() * scale < 1
        assert got[index].score == pytest.approx(face["score"], abs=0.01)


@pytest.mark.parametrize("photo", PHOTOS[:8])
def test_rows_at_a_low_threshold_are_those_of_the_reference(exact: Case, decoded, photo):
    """In pixels of the network's input, where nothing is rounded: at 0.1 many boxes overlap and most are noise."""
    pixels = decoded(photo)

    rows, _ = exact.look(pixels)
    rows = rows[rows[:, 1] >= 0.1]

    _, scale, pad_x, pad_y = reference.letterbox(pixels, exact.net.spec.input_size)
    shift, (height, width) = np.array([pad_x, pad_y]), pixels.shape[:2]
    wanted = exact.expected(pixels, 0.1)
    inside = np.clip(rows[:, 2:6].reshape(-1, 2, 2), shift, shift + np.array([width, height]) * scale)
    boxes = [(face["box"].reshape(2, 2) * scale + shift).reshape(4) for face in wanted]
    partners = reference.match(boxes, list(inside.reshape(-1, 4)), 0.999)
    for face, index in zip(wanted, partners, strict=True):
        points = rows[index, 6:].reshape(-1, 2)
        assert np.abs(face["keypoints"] * scale + shift - points).max() < 0.01


def test_a_request_s_own_least_score_gives_the_reference_at_that_threshold(exact: Case, decoded):
    """The graph leaves out only what is below its floor; suppression before the filter changes nothing."""
    pixels, thresholds = decoded("crowd"), (0.0, 0.1, 0.3, 0.7)

    counts = [len(exact.detect(pixels, min_score=least)) for least in thresholds]

    assert counts == [len(exact.expected(pixels, max(least, nms.SCORE_FLOOR))) for least in thresholds]
    assert counts[0] > counts[-1]


def test_rows_are_best_first_and_none_is_below_the_floor(case: Case, decoded):
    """A request that asks for few detections gets the best ones."""
    rows, _ = case.look(decoded("crowd"))

    assert rows.dtype == np.float32
    assert rows[-1, 1] >= nms.SCORE_FLOOR
    assert (np.diff(rows[:, 1]) <= 0).all()
    assert (rows[:, 0] == 0).all()
    assert case.detect(decoded("crowd"), max_detections=1, min_score=0.1)[0].score == round(float(rows[0, 1]), 4)


def test_a_black_image_has_no_face(case: Case):
    """The self-test's image: an empty answer, not an error."""
    assert case.detect(np.zeros((*case.net.spec.input_size, 3), np.uint8)) == ()


def test_a_box_at_the_edge_is_clipped_to_the_image(case: Case, decoded):
    """Whatever the network says of a face that is half outside, its box is not."""
    pixels = decoded("grace_hopper")[:, 250:]

    faces = case.detect(pixels, min_score=0.05)

    height, width = pixels.shape[:2]
    assert faces
    assert all(0 <= x1 <= x2 <= width and 0 <= y1 <= y2 <= height for x1, y1, x2, y2 in (face.box for face in faces))


# ------------------------------------------------------------------------------------- networks that do not fit


@pytest.mark.parametrize(
    ("model", "head", "options", "told"),
    [
        ("blazeface_short", "centerface", {}, "CenterFace has outputs of 1, 2, 2 and 10 channels"),
        ("centerface", "blazeface", {"variant": "short"}, "BlazeFace short .* this network has"),
        ("blazeface_short", "blazeface", {"variant": "full"}, "BlazeFace full at 128 px has 1024 anchors"),
        ("blazeface_short", "blazeface", {"variant": "wide"}, "the variants short, back, full, not 'wide'"),
        ("blazeface_short", "blazeface", {}, "variant"),
        ("centerface", "centerface", {"variant": "short"}, "variant"),
        ("centerface", "yolo", {}, "there is no head 'yolo'; there are blazeface, boxes_labels"),
    ],
)
def test_a_network_that_is_not_the_head_s_is_refused_in_one_sentence(store, model, head, options, told):
    """A wrong model.toml ends the start with what is wrong, not with a traceback or with wrong boxes."""
    spec, path = models.read(model, store)
    wrong = replace(spec, head=head, options=options)

    with pytest.raises(ModelError, match=told) as caught:
        network.build(wrong, path, ov.Core())

    assert "\n" not in str(caught.value)
    assert model in str(caught.value)


def test_blazeface_takes_its_outputs_in_any_order(store, load: Load, decoded):
    """A converter may write scores before boxes."""
    spec, path = models.read("blazeface_short", store)
    model = ov.Core().read_model(path)
    turned = ov.Model([one.get_node().input_value(0) for one in reversed(model.outputs)], model.get_parameters())
    turned.reshape([1, 128, 128, 3])
    graph = ov.Model([blazeface.attach(turned, iou=spec.iou, variant="short")], turned.get_parameters())
    wanted, _ = Case(load("blazeface_short"), path, "f32").look(decoded("astronaut"))
    tensor, _ = decode.letterbox(decoded("astronaut"), (128, 128))

    (rows,) = ov.compile_model(graph, "CPU", F32)({0: tensor[..., ::-1].astype(np.float32) / 127.5 - 1}).values()

    assert np.allclose(rows, wanted, atol=0.01)


# -------------------------------------------------------------------------------------------------- suppression


@pytest.mark.parametrize(("boxes", "spread"), [(1, 50), (40, 50), (300, 150), (1200, 150)])
def test_suppression_keeps_what_plain_numpy_keeps(boxes, spread):
    """Greedy, best score first, of the thousand best."""
    random = np.random.default_rng(boxes)
    scores = random.permutation(np.linspace(0.01, 0.99, boxes)).astype(np.float32)
    corners = random.uniform(0, spread, (boxes, 2))
    xyxy = np.concatenate([corners, corners + random.uniform(5, 40, (boxes, 2))], 1).astype(np.float32)
    points = np.arange(boxes * 4, dtype=np.float32).reshape(boxes, 4)
    inputs = [op.parameter([boxes]), op.parameter([boxes, 4]), op.parameter([boxes, 4])]
    score, chosen = nms.best(inputs[0].output(0), boxes)
    at = [op.gather(one, chosen, np.int32(0)).output(0) for one in inputs[1:]]
    graph = ov.compile_model(ov.Model([nms.rows(score, *at, iou=0.3)], inputs), "CPU")

    (rows,) = graph([scores, xyxy, points]).values()

    best = np.argsort(-scores)[: nms.CANDIDATES]
    best = best[scores[best] > nms.SCORE_FLOOR]
    kept = best[reference._nms(scores[best], xyxy[best], 0.3)]
    wanted = np.concatenate([np.zeros((len(kept), 1)), scores[kept, None], xyxy[kept], points[kept]], 1)
    assert np.array_equal(rows, wanted.astype(np.float32))
