"""The model store: a folder a model, with the network's files, a ``model.toml``, a version and the digest.

Stage: at ``fleet-worker models``, between :mod:`worker.recognise` and the workers, which only read the store. A model
appears whole or not at all: it is put together and tried in a folder of its own, which then takes its place.
"""

import json
import os
import shutil
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from producer.errors import InvalidRequest
from producer.wire import check_model_name
from worker import cpu, models, network, recognise, tflite_end, trial
from worker.infer_queue import InferQueue
from worker.model_toml import ModelSpec, from_toml, to_toml
from worker.models import ModelError
from worker.settings import Settings
from worker.trained import Proposal

#: What OpenVINO reads, and what it needs beside each.
_KINDS = {".xml": ".bin", ".pdmodel": ".pdiparams", ".onnx": "", ".tflite": "", ".pb": ""}

#: What people try, and what to do instead.
_WRONG = {
    ".bin": "these are weights; give the .xml beside it",
    ".pdiparams": "these are weights; give the .pdmodel beside it",
    ".pt": "a PyTorch checkpoint holds no graph; export it to ONNX first",
    ".pth": "a PyTorch checkpoint holds no graph; export it to ONNX first",
    ".h5": "save it as a SavedModel or TFLite file first",
    ".keras": "save it as a SavedModel or TFLite file first",
    ".engine": "this was built for one kind of GPU; give the ONNX file it was made from",
}


@dataclass(frozen=True, slots=True)
class Wish:
    """What a user says of a model that is added.

    Attributes:
        name: the model's.
        labels: of its classes; empty to take the file's.
        head: its head, or None to let it be recognised.
        given: fields of the model.toml, ``options`` among them.
        extra: more files that the head reads, copied beside the network.
        replaces: take the place of the first version of that name, instead of standing beside it.
        sample: photo in which the network must find something, kept for the trial before a swap.
    """

    name: str
    labels: tuple[str, ...] = ()
    head: str | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    extra: Sequence[Path] = ()
    replaces: bool = False
    sample: Path | None = None


@dataclass(frozen=True, slots=True)
class Added:
    """A model that was added: its description, what it was taken for and why, and its folder."""

    spec: ModelSpec
    why: tuple[str, ...]
    folder: Path


def present(store: Path) -> list[str]:
    """Return the names of the store's models."""
    return sorted(path.parent.name for path in store.glob("*/model.toml") if not path.parent.name.startswith("."))


def add(file: Path, wish: Wish, settings: Settings) -> Added:
    """Recognise the network at ``file``, try it, and put it into the store: as a new version where the name is taken.

    Raises:
        ModelError: it is incomplete, cannot be read, recognised, built or run; or the name is taken. The store is
            as before.
    """
    folder = settings.model_store / _checked_name(wish.name)
    number = max(models.numbers(wish.name, settings.model_store), default=0) + 1
    if folder.exists() and not wish.replaces:
        folder = folder.with_name(f"{wish.name}@{number}")
    with tempfile.TemporaryDirectory(prefix="fleet-add-") as beside:
        source, more, known = _without_end(find_network(file), Path(beside))
        said = {"iou": known.fields["iou"]} if known else {}
        given = {**said, **wish.given}
        found = recognise.recognise(source, wish.name, labels=wish.labels, head=wish.head, given=given, known=known)
        spec = replace(found.spec, version=number)
        return _keep(source, folder, replace(wish, extra=(*more, *wish.extra)), replace(found, spec=spec), settings)


def _without_end(source: Path, beside: Path) -> tuple[Path, tuple[Path, ...], Proposal | None]:
    """Cut off what OpenVINO does not know at a TFLite file's end: the network, what it needs beside, and what it is."""
    try:
        cut = tflite_end.cut(source, beside) if source.suffix.lower() == ".tflite" else None
    except (OSError, ValueError) as error:
        raise ModelError(f"{source.name} cannot be used: {error}.") from error
    return (cut.path, (cut.anchors,), cut.proposal) if cut else (source, (), None)


def _keep(source: Path, folder: Path, wish: Wish, found: recognise.Recognised, settings: Settings) -> Added:
    """Put the model together and try it in a folder of its own, then let that take its place."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{wish.name}.") as scratch:
            draft = Path(scratch) / "model"
            copied = _copy(source, draft, wish.extra)
            if wish.sample is not None:
                shutil.copyfile(wish.sample, draft / f"{trial.SAMPLE}{wish.sample.suffix.lower()}")
            spec = replace(found.spec, digest=models.digest(copied))
            _try(spec, copied, settings)
            reasons = "".join(f"# {reason}\n" for reason in found.why)
            (draft / "model.toml").write_text(reasons + to_toml(spec), encoding="utf-8")
            put_in_place(draft, folder, Path(scratch))
    except OSError as error:
        raise ModelError(f"{folder} cannot be written: {error.strerror or error}.") from error
    return Added(spec, found.why, folder)


def free_folder(name: str, store: Path, *, replaces: bool) -> Path:
    """Return the folder that a new model takes, by a name of its own.

    Raises:
        ModelError: ``name`` cannot name a model, or is taken.
    """
    folder = store / _checked_name(name)
    if folder.exists() and not replaces:
        raise ModelError(f"There is a model {name!r} already. Choose another --as, or say --replace.")
    return folder


def put_in_place(draft: Path, folder: Path, scratch: Path) -> None:
    """Let ``draft`` become the model ``folder``; one that was there goes into ``scratch``."""
    if folder.exists():
        os.rename(folder, scratch / "old")  # noqa: PTH104 - beside the next line, as one step
    os.rename(draft, folder)  # noqa: PTH104


def remove(name: str, store: Path) -> None:
    """Remove the model ``name`` with all its versions, or the version ``name@2``, with their files.

    Raises:
        ModelError: it is not there, or cannot be removed.
    """
    base = _checked_name(name.partition("@")[0])
    folders = [models.folder_of(name, store)] if "@" in name else list(models.numbers(base, store).values())
    if "@" not in name and (store / base / "model.toml").is_file() and store / base not in folders:
        folders.append(store / base)  # its model.toml cannot be read
    if not folders:
        raise ModelError(f"There is no model {name!r} in {store}.")
    for folder in folders:
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise ModelError(f"{folder} cannot be removed: {error.strerror}.") from error


def find_network(file: Path) -> Path:
    """Return the network that ``file`` means: itself, a SavedModel, or the one network in a folder.

    Raises:
        ModelError: there is none, more than one, or a part of it is missing.
    """
    if file.is_dir():
        if (file / "saved_model.pb").is_file():
            return file
        inside = sorted(path for path in file.iterdir() if path.suffix.lower() in _KINDS)
        if len(inside) != 1:
            names = ", ".join(path.name for path in inside) or "none"
            raise ModelError(f"{file} should hold one network; it holds {names}. Give the file.")
        return find_network(inside[0])
    if not file.is_file():
        raise ModelError(f"There is no file {file}.")
    suffix = file.suffix.lower()
    if suffix not in _KINDS:
        why = _WRONG.get(suffix, f"give one of {', '.join(_KINDS)} or a SavedModel's folder")
        raise ModelError(f"{file.name} is not a network that OpenVINO reads: {why}.")
    beside = file.with_suffix(_KINDS[suffix]) if _KINDS[suffix] else file
    if not beside.is_file():
        raise ModelError(f"{file.name} is incomplete: its weights {beside.name} are not beside it.")
    return file


def read_labels(path: Path) -> tuple[str, ...]:
    """Read a list of labels: a line each, or a JSON list.

    Raises:
        ModelError: there are none.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        parsed = json.loads(text) if path.suffix.lower() == ".json" else text.splitlines()
    except (OSError, ValueError) as error:
        raise ModelError(f"The labels of {path} cannot be read: {error}.") from error
    if not isinstance(parsed, list) or not all(isinstance(one, str) for one in parsed):
        raise ModelError(f"The labels of {path} are not a list of texts.")
    labels = [label.strip() for label in parsed]
    while labels and not labels[-1]:
        labels.pop()
    if not labels:
        raise ModelError(f"{path} holds no labels; a line each is wanted.")
    return tuple(labels)


def _checked_name(name: str) -> str:
    try:
        check_model_name(name)
    except InvalidRequest as error:
        raise ModelError(str(error)) from error
    return name


def _copy(source: Path, draft: Path, extra: Sequence[Path]) -> Path:
    """Copy the network and all that belongs to it, and return its new path."""
    if source.is_dir():
        shutil.copytree(source, draft / source.name)
    else:
        draft.mkdir(parents=True)
        for path in models.files(source):
            shutil.copyfile(path, draft / path.name)
    for path in extra:
        shutil.copyfile(path, draft / path.name)
    return draft / source.name


def _try(spec: ModelSpec, path: Path, settings: Settings) -> None:
    """Build, compile and run the model once; a model.toml that could not be read again is found here too."""
    try:
        from_toml(spec.name, tomllib.loads(to_toml(spec)))
    except ValueError as error:
        raise ModelError(f"Its model.toml would be wrong: {error}.") from error
    loaded = network.load(spec, path, replace(settings, cache_dir=None), cpu.make_plan(settings).threads)
    if trial.sample_of(path.parent) is not None:
        queue = InferQueue(loaded.compiled, 1)
        try:
            trial.try_on_sample(queue, spec, path.parent)
        finally:
            queue.close()
