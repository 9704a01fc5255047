"""A network in 8-bit integers beside the one in floats: made by NNCF, compared and timed here, then put into the store.

Stage: behind ``fleet-worker models quantize``, which loads this module, and with it NNCF. Neighbours:
:mod:`worker.accuracy` compares, :mod:`worker.store` keeps.
"""

import contextlib
import itertools
import logging
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import numpy.typing as npt
import openvino as ov

from producer.errors import ImageTooLarge, InvalidImage
from worker import cpu, decode, inputs, models, network, quantized, resize, store
from worker.accuracy import Agreement, agreement
from worker.infer_queue import InferQueue
from worker.model_toml import ModelSpec, to_toml
from worker.models import ModelError
from worker.network import Network
from worker.quantized import Report
from worker.settings import Settings

#: One picture in this many is kept out of calibration, to compare the networks on.
HELD_OUT = 3

#: Fewer pictures say nothing.
LEAST_IMAGES = 12

#: Most pictures that calibration looks at, NNCF's own default, and that the networks are compared on.
MOST_CALIBRATING = 300
MOST_COMPARED = 1000

#: One picture as the network's input, and how it lies there.
Input = tuple[npt.NDArray[np.uint8], resize.Frame]


@dataclass(frozen=True, slots=True)
class Order:
    """What is wanted.

    Attributes:
        name: of the model in floats.
        images: folder with pictures of the kind that it is for.
        target: name of the new model.
        max_drop: most that mAP at an IoU of 0.5 may be below 1.
        keep: patterns of names of operations that stay in floats.
        rounds: turns of each network when they are timed, and seconds of each turn.
        replaces: take the place of a model of that name.
    """

    name: str
    images: Path
    target: str
    max_drop: float = 0.02
    keep: tuple[str, ...] = ()
    rounds: int = 7
    seconds: float = 1.0
    replaces: bool = False


def quantize(order: Order, settings: Settings) -> Report:
    """Make the model ``order.target`` out of ``order.name``, unless it is worse than ``order.max_drop`` allows.

    Raises:
        ModelError: it is too much worse, the name is taken, there are too few pictures or nothing on them, or NNCF
            cannot do it. The store is as before.
    """
    spec, path = models.read(order.name, settings.model_store)
    folder = store.free_folder(order.target, settings.model_store, replaces=order.replaces)
    pictures = _pictures(order.images, spec, settings)
    calibrating = [one for number, one in enumerate(pictures) if number % HELD_OUT][:MOST_CALIBRATING]
    compared = pictures[::HELD_OUT][:MOST_COMPARED]
    try:
        with tempfile.TemporaryDirectory(dir=settings.model_store, prefix=f".{order.target}.") as scratch:
            draft = Path(scratch) / "model"
            made, file = _make(spec, path, draft, order, calibrating)
            threads = cpu.make_plan(settings).threads
            quiet = replace(settings, cache_dir=None)
            nets = [network.load(one, where, quiet, threads) for one, where in ((spec, path), (made, file))]
            agreed = _compare(nets[0], nets[1], compared)
            rates = _race(nets, [tensor for tensor, _ in compared], order, settings)
            report = _report(nets[0], agreed, rates, (len(calibrating), len(compared)), settings)
            _check(report, order)
            quantized.write(report, draft)
            store.put_in_place(draft, folder, Path(scratch))
    except OSError as error:
        raise ModelError(f"{folder} cannot be written: {error.strerror or error}.") from error
    return report


def _check(report: Report, order: Order) -> None:
    if report.drop > order.max_drop:
        raise ModelError(
            f"In integers the boxes are too far from those in floats: {'; '.join(report.sentences())}. The drop at IoU "
            f"0.5 may be {order.max_drop:g}; the store is as before. More pictures of the kind it is for may help, and "
            "--keep for operations that stay in floats."
        )


# ------------------------------------------------------------------------------------------------------------ pictures


def _pictures(folder: Path, spec: ModelSpec, settings: Settings) -> list[Input]:
    """Read the pictures of ``folder`` as the network's input; what is no picture is passed over."""
    limits = decode.Limits(settings.max_image_bytes, settings.max_pixels)
    found = []
    most = (MOST_CALIBRATING + MOST_COMPARED) * 2
    for path in itertools.islice(sorted(one for one in folder.rglob("*") if one.is_file()), most):
        try:
            found.append(resize.fit(decode.decode(path.read_bytes(), limits), spec.fit))
        except (InvalidImage, ImageTooLarge):
            continue
    if len(found) < LEAST_IMAGES:
        raise ModelError(
            f"{folder} holds {len(found)} pictures (JPEG, PNG, WebP, BMP); at least {LEAST_IMAGES} are wanted, better "
            "300: calibration looks at two thirds, the networks are compared on the rest."
        )
    return found


def _prepared(tensor: npt.NDArray[np.uint8], spec: ModelSpec, kind: Any) -> npt.NDArray[Any]:
    """Do what the graph's own preprocessing does (:mod:`worker.network`), for a network without it."""
    mean, scale = np.array(spec.mean, np.float32), np.array(spec.scale, np.float32)
    pixels: npt.NDArray[Any] = ((tensor[..., ::-1] if spec.colour == "RGB" else tensor) - mean) / scale
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2) if spec.layout == "NCHW" else pixels, kind)


# --------------------------------------------------------------------------------------------------------- the network


def _make(spec: ModelSpec, path: Path, draft: Path, order: Order, pictures: Sequence[Input]) -> tuple[ModelSpec, Path]:
    """Quantise the network at ``path`` into the folder ``draft``, with all that belongs to the model."""
    logging.getLogger("nncf").setLevel(logging.ERROR)  # set_log_level also sets whatever handlers others have put there
    try:
        model = ov.Core().read_model(path)
        if any(one.get_type_name() == "FakeQuantize" for one in model.get_ops()):
            raise ModelError(f"{spec.name!r} is in integers already; take the network in floats.")
        inputs.settle(model, spec.layout, (-1, -1) if spec.resize == "multiple" else spec.input_size)
        kind = model.input(0).get_element_type().to_dtype()
        dataset = nncf.Dataset([tensor for tensor, _ in pictures], lambda tensor: _prepared(tensor, spec, kind))
        with contextlib.redirect_stdout(sys.stderr):  # it draws bars
            made = nncf.quantize(
                model,
                dataset,
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=len(pictures),
                ignored_scope=nncf.IgnoredScope(patterns=list(order.keep)) if order.keep else None,
            )
    except (RuntimeError, ValueError, nncf.ValidationError) as error:
        raise ModelError(f"NNCF cannot quantise {spec.name!r}: {error}.") from error
    shutil.copytree(path.parent, draft, ignore=_only_extras(path))
    file = draft / f"{path.stem}.xml"
    ov.save_model(made, file, compress_to_fp16=False)
    described = replace(spec, name=order.target, file=file.name, version=1, digest=models.digest(file))
    (draft / "model.toml").write_text(to_toml(described), encoding="utf-8")
    return described, file


def _only_extras(path: Path) -> Any:
    """Leave out the network and what is said of it; what is left are files that the head reads."""
    names = {one.name for one in (path, *models.files(path))}
    return lambda folder, found: [one for one in found if one in {*names, "model.toml", quantized.FILE}]


# ----------------------------------------------------------------------------------------------------------- comparing


def _compare(before: Network, after: Network, pictures: Sequence[Input]) -> Agreement:
    """Compare all that the new network finds with what the old one would show."""
    truth, found = [], []
    for tensor, _ in pictures:
        (rows,) = before.compiled({0: tensor}).values()
        truth.append(rows[rows[:, 1] >= before.spec.min_score])
        (rows,) = after.compiled({0: tensor}).values()
        found.append(rows.copy())
    try:
        return agreement(truth, found)
    except ValueError:
        raise ModelError(
            f"{before.spec.name} finds nothing in the {len(pictures)} pictures that were kept out of calibration, so "
            "there is nothing to compare. Give pictures with what it is for."
        ) from None


def _race(
    nets: Sequence[Network], tensors: Sequence[npt.NDArray[np.uint8]], order: Order, settings: Settings
) -> list[tuple[float, ...]]:
    """Time the networks in turns; inferences a second of each, a tuple a round."""
    queues = [InferQueue(one.compiled, settings.requests or max(2, 2 * one.optimal_requests)) for one in nets]
    try:
        for one in queues:
            _rate(one, tensors, order.seconds / 2)
        return [tuple(_rate(one, tensors, order.seconds) for one in queues) for _ in range(order.rounds)]
    finally:
        for one in queues:
            one.close()


def _rate(queue: InferQueue, tensors: Sequence[npt.NDArray[np.uint8]], seconds: float) -> float:
    began, flights = time.monotonic(), []
    for tensor in itertools.cycle(tensors):
        flights.append(queue.submit(tensor))
        if time.monotonic() - began > seconds:
            break
    for flight in flights:
        flight.result()
    return len(flights) / (time.monotonic() - began)


def _report(
    before: Network, agreed: Agreement, rates: Sequence[tuple[float, ...]], counts: tuple[int, int], settings: Settings
) -> Report:
    low, middle, high = statistics.quantiles([after / first for first, after in rates], n=4, method="inclusive")
    return Report(
        source=before.spec.name,
        source_digest=before.digest,
        calibrated=counts[0],
        compared=counts[1],
        boxes=agreed.boxes,
        map_50=round(agreed.at_50, 4),
        map_50_95=round(agreed.at_50_95, 4),
        float_per_s=round(statistics.median(first for first, _ in rates), 1),
        int8_per_s=round(statistics.median(after for _, after in rates), 1),
        speed_up=round(middle, 3),
        low=round(low, 3),
        high=round(high, 3),
        device=settings.device,
        precision=settings.precision or before.spec.precision,
        nncf=nncf.__version__,
    )
