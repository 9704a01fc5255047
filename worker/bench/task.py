"""What every contender is given: one graph, the same photos, the same cores.

Stage: before all others of the bench. It lies in a folder (``task.json``, ``graph.xml``), so that contenders in
processes and environments of their own read the very same. Neighbour: :mod:`worker.bench.engine` runs it.
"""

import dataclasses
import json
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

import openvino as ov

from worker import models, network
from worker.decode import Limits
from worker.model_toml import ModelSpec, from_toml, to_toml
from worker.settings import Settings


@dataclass(frozen=True, slots=True)
class Task:
    """One measurement's subject.

    Attributes:
        folder: where it lies; contenders may keep files of their own there.
        spec: the model's description.
        store: the model store that holds it.
        photos: files with encoded images.
        cores: CPU threads that all processes of a contender may use for inference together.
        precision: what is asked of OpenVINO, as a worker asks; empty for the hardware's choice.
        limits: of an image.
    """

    folder: Path
    spec: ModelSpec
    store: Path
    photos: tuple[Path, ...]
    cores: int
    precision: str
    limits: Limits

    @property
    def graph(self) -> Path:
        """The graph from pixels to boxes, as OpenVINO's own format (IR)."""
        return self.folder / "graph.xml"

    def images(self) -> list[bytes]:
        """Read the encoded images."""
        return [photo.read_bytes() for photo in self.photos]


def make(settings: Settings, model: str, photos: tuple[Path, ...], cores: int, folder: Path) -> Task:
    """Build the graph of ``model`` and write everything into ``folder``.

    Raises:
        models.ModelError: the model is not there or cannot be built.
    """
    spec, path = models.read(model, settings.model_store)
    limits = Limits(settings.max_image_bytes, settings.max_pixels, settings.jpeg_scale)
    photos = tuple(photo.absolute() for photo in photos)
    precision = settings.precision or spec.precision
    task = Task(folder, spec, settings.model_store.absolute(), photos, cores, precision, limits)
    ov.save_model(network.build(spec, path, ov.Core()), task.graph, compress_to_fp16=False)
    said = {
        "model": spec.name,
        "spec": to_toml(spec),
        "store": str(task.store),
        "photos": [str(photo) for photo in photos],
        "cores": cores,
        "precision": precision,
        "limits": dataclasses.astuple(limits),
    }
    (folder / "task.json").write_text(json.dumps(said, indent=1), encoding="utf-8")
    return task


def read(folder: Path | str | None = None) -> Task:
    """Read the task in ``folder``; without one, in the folder that the variable ``BENCH_TASK`` names."""
    folder = Path(os.environ["BENCH_TASK"] if folder is None else folder)
    said = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    return Task(
        folder=folder,
        spec=from_toml(said["model"], tomllib.loads(said["spec"])),
        store=Path(said["store"]),
        photos=tuple(Path(photo) for photo in said["photos"]),
        cores=said["cores"],
        precision=said["precision"],
        limits=Limits(*said["limits"]),
    )
