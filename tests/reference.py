"""What CenterFace and BlazeFace find, computed a second time with numpy: the yardstick for the worker's graphs.

Written from the networks' published decoders (Star-Clouds/CenterFace, MediaPipe's face detection) and on purpose
without a line of ``worker/``: a mistake would have to be made twice to go unseen. Slow and plain.
"""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openvino

#: Input size and, per grid, (stride in px, anchors per cell) of each BlazeFace. Layers of one stride share a grid.
BLAZEFACE = {
    "short": (128, ((8, 2), (16, 6))),
    "back": (256, ((16, 2), (32, 6))),
    "full": (192, ((4, 1),)),
}


def letterbox(bgr: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, float, int, int]:
    """Fit an image into ``size`` = (height, width), centred on black, its proportions kept.

    Args:
        bgr: (h, w, 3) uint8.
        size: of the canvas.

    Returns:
        The (H, W, 3) uint8 canvas, then scale, pad_x and pad_y with ``canvas_x = image_x * scale + pad_x``.
    """
    (height, width), (tall, wide) = bgr.shape[:2], size
    scale = min(wide / width, tall / height)
    new_width, new_height = max(1, round(width * scale)), max(1, round(height * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    pad_x, pad_y = (wide - new_width) // 2, (tall - new_height) // 2
    canvas = np.zeros((tall, wide, 3), np.uint8)
    resized = cv2.resize(bgr, (new_width, new_height), interpolation=how)
    canvas[pad_y : pad_y + new_height, pad_x : pad_x + new_width] = resized
    return canvas, scale, pad_x, pad_y


def centerface_reference(
    bgr: np.ndarray,
    model_path: Path,
    size: tuple[int, int] = (480, 640),
    *,
    threshold: float = 0.5,
    iou: float = 0.3,
    precision: str | None = None,
) -> list[dict[str, Any]]:
    """Find faces with CenterFace, best score first.

    Args:
        bgr: (h, w, 3) uint8.
        model_path: the ONNX file.
        size: height and width of the network's input, multiples of 32.
        threshold: least score.
        iou: of two boxes that overlap more, the one with the lower score goes.
        precision: ``"f32"`` or ``"bf16"``; None leaves it to the hardware.

    Returns:
        Per face ``score``, ``box`` (4,) float64 xyxy and ``keypoints`` (5, 2) float64 xy, both in pixels of ``bgr``;
        the box is clipped to the image, the keypoints (eyes, nose, corners of the mouth) are not.
    """
    canvas, scale, pad_x, pad_y = letterbox(bgr, size)
    planes = canvas[..., ::-1].transpose(2, 0, 1)[np.newaxis].astype(np.float32)
    outputs = _run(str(model_path), (1, 3, *size), precision, planes)
    heatmap, (scale_y, scale_x), (offset_y, offset_x), landmarks = (one[0] for one in outputs)
    ys, xs = np.nonzero(heatmap[0] >= threshold)
    heights, widths = np.exp(scale_y[ys, xs]) * 4, np.exp(scale_x[ys, xs]) * 4
    lefts = (xs + offset_x[ys, xs] + 0.5) * 4 - widths / 2
    tops = (ys + offset_y[ys, xs] + 0.5) * 4 - heights / 2
    boxes = np.stack([lefts, tops, lefts + widths, tops + heights], axis=-1)
    points_x = landmarks[1::2, ys, xs].T * widths[:, np.newaxis] + lefts[:, np.newaxis]
    points_y = landmarks[0::2, ys, xs].T * heights[:, np.newaxis] + tops[:, np.newaxis]
    points = np.stack([points_x, points_y], axis=-1)
    return _finish(heatmap[0, ys, xs], boxes, points, most=iou, placed=(scale, pad_x, pad_y), shape=bgr.shape)


def blazeface_reference(
    bgr: np.ndarray,
    model_path: Path,
    variant: str,
    *,
    threshold: float = 0.5,
    iou: float = 0.3,
    precision: str | None = None,
) -> list[dict[str, Any]]:
    """Find faces with BlazeFace ``"short"``, ``"back"`` or ``"full"``, best score first.

    Overlapping boxes are dropped, not blended as MediaPipe does.

    Args:
        bgr: (h, w, 3) uint8.
        model_path: the TFLite file of that variant.
        variant: key of :data:`BLAZEFACE`.
        threshold: least score.
        iou: of two boxes that overlap more, the one with the lower score goes.
        precision: ``"f32"`` or ``"bf16"``; None leaves it to the hardware.

    Returns:
        As :func:`centerface_reference`, with (6, 2) keypoints: eyes, nose, mouth, ears.
    """
    size, grids = BLAZEFACE[variant]
    canvas, scale, pad_x, pad_y = letterbox(bgr, (size, size))
    pixels = (canvas[..., ::-1].astype(np.float32) / 127.5 - 1)[np.newaxis]
    raw, logits = _run(str(model_path), None, precision, pixels)
    scores = 1 / (1 + np.exp(-np.clip(logits[0, :, 0].astype(np.float64), -100, 100)))
    pairs = raw[0].astype(np.float64).reshape(-1, 8, 2)  # centre, size, six keypoints
    pairs[:, [0, 2, 3, 4, 5, 6, 7]] += (_anchors(size, grids) * size)[:, np.newaxis]
    centres, halves = pairs[:, 0], pairs[:, 1] / 2
    boxes = np.concatenate([centres - halves, centres + halves], axis=-1)
    kept = scores >= threshold
    return _finish(scores[kept], boxes[kept], pairs[kept, 2:], most=iou, placed=(scale, pad_x, pad_y), shape=bgr.shape)


def iou(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> float:
    """Return intersection over union of two xyxy boxes; 0 when both are empty."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    either = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return float(both / either) if either > 0 else 0.0


def match(expected: Sequence[Any], got: Sequence[Any], min_iou: float) -> list[int]:
    """Assert that ``got`` has the boxes of ``expected``, in any order, each with at least ``min_iou``.

    Items are boxes, mappings with ``"box"`` or objects with ``.box``. Best overlaps pair up first.

    Returns:
        For each of ``expected``, the index of its partner in ``got``.
    """
    wanted, found = [_box(one) for one in expected], [_box(one) for one in got]
    pairs = sorted(((iou(a, b), i, j) for i, a in enumerate(wanted) for j, b in enumerate(found)), reverse=True)
    partner: dict[int, tuple[int, float]] = {}
    for overlap, i, j in pairs:
        if i not in partner and all(j != other for other, _ in partner.values()):
            partner[i] = (j, overlap)
    lines = [_line(box, found, partner.get(i), min_iou) for i, box in enumerate(wanted)]
    extra = set(range(len(found))) - {j for j, _ in partner.values()}
    lines += [f"  unexpected          got {_show(found[j])}  !" for j in sorted(extra)]
    told = "\n".join([f"expected {len(wanted)} boxes, got {len(found)}; least IoU {min_iou}:", *lines])
    assert len(wanted) == len(found), told
    assert all(overlap >= min_iou for _, overlap in partner.values()), told
    return [partner[i][0] for i in range(len(wanted))]


def _line(box: Sequence[float], found: list[Any], partner: tuple[int, float] | None, min_iou: float) -> str:
    if partner is None:
        return f"  {_show(box)}  missing  !"
    other, overlap = partner
    return f"  {_show(box)}  got {_show(found[other])}  IoU {overlap:.4f}{'' if overlap >= min_iou else '  !'}"


def _show(box: Sequence[float]) -> str:
    return "[" + ", ".join(f"{edge:.1f}" for edge in box) + "]"


def _box(one: Any) -> Sequence[float]:
    box: Sequence[float] = one["box"] if isinstance(one, Mapping) else getattr(one, "box", one)
    return box


@functools.lru_cache(maxsize=8)
def _compiled(model_path: str, shape: tuple[int, ...] | None, precision: str | None) -> openvino.CompiledModel:
    core = openvino.Core()
    model = core.read_model(model_path)
    if shape is not None:
        model.reshape(list(shape))
    options = {} if precision is None else {"INFERENCE_PRECISION_HINT": precision}
    return core.compile_model(model, "CPU", options)


def _run(model_path: str, shape: tuple[int, ...] | None, precision: str | None, tensor: np.ndarray) -> list[np.ndarray]:
    compiled = _compiled(model_path, shape, precision)
    results = compiled(np.ascontiguousarray(tensor))
    return [np.array(results[port]) for port in compiled.outputs]


def _anchors(size: int, grids: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return (n, 2) float64 xy centres of the cells, 0 to 1, row by row, each repeated for its anchors."""
    centres = []
    for stride, per_cell in grids:
        cells = size // stride
        ys, xs = np.divmod(np.arange(cells * cells), cells)
        centres.append(np.repeat(np.stack([xs + 0.5, ys + 0.5], axis=-1) / cells, per_cell, axis=0))
    return np.concatenate(centres)


def _finish(
    scores: np.ndarray,
    boxes: np.ndarray,
    points: np.ndarray,
    *,
    most: float,
    placed: tuple[float, int, int],
    shape: tuple[int, ...],
) -> list[dict[str, Any]]:
    """Drop overlaps, then go from pixels of the canvas to pixels of the image."""
    scale, pad_x, pad_y = placed
    shift = np.array([pad_x, pad_y], np.float64)
    faces = []
    for index in _nms(scores, boxes, most):
        corners = (boxes[index].astype(np.float64).reshape(2, 2) - shift) / scale
        box = np.clip(corners, 0, [shape[1], shape[0]]).reshape(4)
        keypoints = (points[index].astype(np.float64) - shift) / scale
        faces.append({"score": float(scores[index]), "box": box, "keypoints": keypoints})
    return faces


def _nms(scores: np.ndarray, boxes: np.ndarray, most: float) -> list[int]:
    """Return the indices that greedy non-maximum suppression keeps, best score first, the first of equals first."""
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        if all(iou(boxes[index], boxes[other]) <= most for other in kept):
            kept.append(int(index))
    return kept
