"""From a model's files to a compiled graph that takes pixels and gives boxes.

Stage: at start, between :mod:`worker.models` and :mod:`worker.infer_queue`. The graph's input is ``(1, H, W, 3)``
uint8 BGR; normalising, the network, its head and non-maximum suppression are inside.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as op
from openvino.preprocess import PrePostProcessor

from worker import compiled_cache, heads, inputs, integers
from worker.heads import tensors
from worker.model_toml import ModelSpec
from worker.models import ModelError, digest
from worker.settings import Settings
from worker.views import one_by_one

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Network:
    """A compiled detector.

    Attributes:
        spec: what it was built from.
        digest: sha256 of its files, first 16 hex digits.
        compiled: OpenVINO's compiled network; input ``(1, H, W, 3)`` uint8 BGR, output ``(n, 6+)`` float32.
        optimal_requests: how many requests OpenVINO wants in flight.
        batched: the same for ``FLEET_BATCH`` pictures at once: input ``(k, H, W, 3)``, an output for each; or None.
    """

    spec: ModelSpec
    digest: str
    compiled: Any
    optimal_requests: int
    batched: Any = None


def build(spec: ModelSpec, path: Path, core: Any, *, pictures: int = 1) -> Any:
    """Read the network at ``path`` and put preprocessing and head into one graph.

    With more than one of ``pictures`` it takes so many at once, and has an output for each.

    Raises:
        ModelError: the file cannot be read, or does not fit its description.
    """
    try:
        head = heads.find(spec.head)
    except ValueError as error:
        raise ModelError(f"Model {spec.name!r}: {error}.") from error
    try:
        model = _read(core, path, spec, pictures)
        views = [model] if pictures == 1 else one_by_one(model, pictures, _read(core, path, spec, 1))
        graph = ov.Model([_attach(head, view, spec, path) for view in views], model.get_parameters(), spec.name)
        _check_rows(graph, spec)
        graph = _preprocess(graph, spec)
        # OpenVINO names a nameless output by a counter of the process, and its cache goes by that name.
        for number, output in enumerate(graph.outputs):
            output.set_names({f"rows{number or ''}"})
        return graph
    except (RuntimeError, ValueError, TypeError, LookupError) as error:
        raise ModelError(f"Model {spec.name!r} cannot be built from {path.name}: {_first_line(error)}") from error


def _read(core: Any, path: Path, spec: ModelSpec, pictures: int) -> Any:
    if pictures > 1 and spec.resize == "multiple":
        raise ValueError("its pictures keep their sizes, and only those of one size go together. Set FLEET_BATCH=1")
    model = core.read_model(path)
    integers.widen(model)
    try:
        inputs.settle(model, spec.layout, (-1, -1) if spec.resize == "multiple" else spec.input_size, pictures=pictures)
    except RuntimeError as error:
        if pictures == 1:
            raise
        raise ValueError(
            f"it cannot take {pictures} pictures at once: {_first_line(error)} Set FLEET_BATCH=1"
        ) from error
    return model


def _attach(head: heads.Head, model: Any, spec: ModelSpec, path: Path) -> Any:
    try:
        return head(model, iou=spec.iou, **_options(spec, path))
    except (RuntimeError, ValueError, TypeError, LookupError):
        raise
    except Exception as error:  # a head may come from anywhere
        raise ValueError(f"the head {spec.head!r} raised {type(error).__name__}: {error}") from error


def _check_rows(graph: Any, spec: ModelSpec) -> None:
    shape = tensors.sizes(graph.output(0).get_partial_shape())
    kind = graph.output(0).get_element_type()
    if len(shape) != 2 or shape[1] < 6 or shape[1] % 2 or kind != ov.Type.f32:
        raise ValueError(
            f"the head {spec.head!r} gives {kind.get_type_name()} of shape {list(shape)}; rows are float32 of "
            "(n, 6 + 2 * keypoints)"
        )


def _options(spec: ModelSpec, path: Path) -> dict[str, Any]:
    """Give the head's options; the name of a file, ``<something>_file``, becomes its path in the model's folder."""
    return {
        key: path.parent / Path(value).name if key.endswith("_file") and isinstance(value, str) else value
        for key, value in spec.options.items()
    }


def load(spec: ModelSpec, path: Path, settings: Settings, threads: int) -> Network:
    """Build, compile and warm up the model; about a second, less with a warm cache.

    Raises:
        ModelError: it cannot be built, or OpenVINO cannot compile or run it on this device.
    """
    began = time.monotonic()
    found = digest(path) if path.exists() else ""
    if spec.digest and found != spec.digest:
        raise ModelError(
            f"Model {spec.name!r}: {path.name} is not the network that was added (digest {found}, not {spec.digest}). "
            "Add it again, or take the line 'digest' out of its model.toml."
        )
    core = ov.Core()
    graph = build(spec, path, core)
    many = build(spec, path, core, pictures=settings.batch) if settings.batch > 1 else None
    chosen = dict(properties(settings, threads))
    if spec.precision and not settings.precision:
        chosen["INFERENCE_PRECISION_HINT"] = spec.precision
    try:
        compiled = _compile(core, graph, settings, chosen)
        _warm_up(compiled, spec, 1)
        batched = None if many is None else _compile(core, many, settings, chosen)
        if batched is not None:
            _warm_up(batched, spec, settings.batch)
        optimal = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
    except RuntimeError as error:
        raise ModelError(
            f"Model {spec.name!r} does not run on device {settings.device!r}: {_first_line(error).rstrip('.')}. This "
            f"host has {', '.join(core.available_devices) or 'no device for OpenVINO'}; set FLEET_DEVICE."
        ) from error
    logger.info(
        "network.ready model=%s seconds=%.2f requests=%d device=%s",
        spec.name,
        time.monotonic() - began,
        optimal,
        "+".join(compiled.get_property("EXECUTION_DEVICES")),
    )
    return Network(spec, found, compiled, optimal, batched)


def _warm_up(compiled: Any, spec: ModelSpec, pictures: int) -> None:
    compiled.create_infer_request().infer({0: np.zeros((pictures, *spec.input_size, 3), np.uint8)})


def requests_of(one: Network, settings: Settings) -> int:
    """Return how many infer requests a worker has for a network: a second one is ready when the first ends."""
    return settings.requests or max(2, 2 * one.optimal_requests)


def properties(settings: Settings, threads: int) -> Mapping[str, Any]:
    """Give OpenVINO's properties for ``threads`` threads; those of the CPU wherever it may be one of the devices.

    A device that stands for others (AUTO, MULTI, HETERO) takes them under the CPU's name; without them it would start a
    thread for each core of the host. BATCH hands everything on.
    """
    chosen: dict[str, Any] = {"PERFORMANCE_HINT": settings.hint.upper()}
    if settings.precision:
        chosen["INFERENCE_PRECISION_HINT"] = settings.precision
    of_cpu = {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": settings.pinning}
    kind, _, listed = settings.device.partition(":")
    if settings.device.startswith(("CPU", "BATCH:CPU")):
        chosen |= of_cpu
    elif kind in _STAND_FOR_OTHERS and _may_be_cpu(listed):
        chosen["DEVICE_PROPERTIES"] = {"CPU": of_cpu}
    if settings.streams:
        chosen["NUM_STREAMS"] = settings.streams
    return chosen


def _compile(core: Any, graph: Any, settings: Settings, chosen: Mapping[str, Any]) -> Any:
    """Compile, or take what was compiled before; without the cache where it cannot be had, or fails."""
    with compiled_cache.turn(settings.cache_dir) as ours:
        if ours and settings.cache_dir is not None and _keep_compiled(core, settings.cache_dir):
            try:
                return core.compile_model(graph, settings.device, chosen)
            except RuntimeError as error:
                logger.warning("network.cache_failed folder=%s error=%s", settings.cache_dir, _first_line(error))
                core.set_property({"CACHE_DIR": ""})
    return core.compile_model(graph, settings.device, chosen)


#: Devices of OpenVINO's that choose among others, or share work among them.
_STAND_FOR_OTHERS = ("AUTO", "MULTI", "HETERO")


def _may_be_cpu(listed: str) -> bool:
    """Tell whether a list of devices has the CPU; an empty one has all, one of exclusions all others."""
    names = [name.strip().partition("(")[0] for name in listed.split(",") if name.strip()]
    return "CPU" in names or all(name.startswith("-") and name != "-CPU" for name in names)


def _keep_compiled(core: Any, folder: Path) -> bool:
    try:
        core.set_property({"CACHE_DIR": str(folder)})
    except RuntimeError as error:  # a worker without a cache starts slower and works as well
        logger.warning("network.no_cache folder=%s error=%s", folder, _first_line(error))
        return False
    return True


def _preprocess(graph: Any, spec: ModelSpec) -> Any:
    """Fit ``(1, H, W, 3)`` uint8 BGR to what the network was trained on, inside the graph."""
    steps = PrePostProcessor(graph)
    entry = steps.input()
    entry.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    entry.model().set_layout(ov.Layout(spec.layout))
    todo = entry.preprocess().convert_element_type(ov.Type.f32)
    if any(spec.mean):
        todo.mean(list(spec.mean))
    if any(value != 1.0 for value in spec.scale):
        todo.scale(list(spec.scale))
    built = steps.build()
    if spec.colour == "RGB":
        _swap_red_and_blue(built)
    return built


def _swap_red_and_blue(graph: Any) -> None:
    """Turn BGR into RGB right behind the input.

    ``PrePostProcessor.convert_color`` turns the first convolution's weights instead. Of TFLite files with a head behind
    them OpenVINO 2026.4 then compiles the weights as they were, so that RGB and BGR give the same boxes
    (``tests/unit/worker/test_tflite.py``).
    """
    entry = graph.input(0)
    readers = list(entry.get_target_inputs())
    swapped = op.gather(entry, np.array([2, 1, 0], np.int32), np.int32(3))
    for one in readers:
        one.replace_source_output(swapped.output(0))
    graph.validate_nodes_and_infer_types()


def _first_line(error: Exception) -> str:
    """OpenVINO's errors begin with places in its source; the last line with text says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else repr(error))[:500]
