"""The models of a store: each is a folder ``<store>/<name>`` with the network and a ``model.toml``.

Stage: before :mod:`worker.network`, which builds the graph. Neighbour: :mod:`worker.model_toml` knows what a
description may say. The models this project knows are made by :func:`fetch`.
"""

import hashlib
import tempfile
import tomllib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from worker import assets
from worker.model_toml import ModelSpec, from_toml, to_toml


class ModelError(Exception):
    """A model cannot be used; the message says why and what to do."""


def _blazeface(variant: str, side: int, file: str) -> ModelSpec:
    return ModelSpec(
        name=f"blazeface_{variant}",
        file=file,
        head="blazeface",
        input_size=(side, side),
        labels=("face",),
        layout="NHWC",
        mean=(127.5, 127.5, 127.5),
        scale=(127.5, 127.5, 127.5),
        options={"variant": variant},
    )


#: Models whose networks come out of pinned packages.
KNOWN: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        ModelSpec(
            name="centerface", file="centerface.onnx", head="centerface", input_size=(480, 640), labels=("face",)
        ),
        _blazeface("short", 128, "face_detection_short_range.tflite"),
        _blazeface("back", 256, "face_detection_back.tflite"),
        _blazeface("full", 192, "face_detection_full_range.tflite"),
    )
}


def fetch(name: str, store: Path) -> Path:
    """Put the known model ``name`` into ``store`` if it is not there, and return its folder.

    Raises:
        ModelError: there is no known model of that name, or no folder for it.
        assets.AssetError: its network could not be had.
    """
    if name not in KNOWN:
        raise ModelError(f"There is no known model {name!r}; there are {', '.join(KNOWN)}.")
    folder, spec = store / name, KNOWN[name]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"Cannot make {folder}: {error.strerror}. Choose a store that can be written.") from error
    assets.fetch(name, folder)
    if not (folder / "model.toml").exists():
        _write(folder / "model.toml", to_toml(spec))
    return folder


def read(name: str, store: Path) -> tuple[ModelSpec, Path]:
    """Read the model ``name``, or its version ``name@2``, of ``store``: description and path of its network.

    Raises:
        ModelError: it is not there, or its ``model.toml`` is wrong.
    """
    base, _, number = name.partition("@")
    path = folder_of(name, store) / "model.toml"
    try:
        spec = from_toml(base, tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        how = f"Run: fleet-worker models fetch {name}" if name in KNOWN else "Put its network and a model.toml there."
        raise ModelError(f"There is no model {name!r} in {store}. {how}") from None
    except ValueError as error:  # also what tomllib and the decoding of UTF-8 raise
        raise ModelError(f"{path} is wrong: {error}") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.") from error
    network = path.parent / spec.file
    if number:
        spec = replace(spec, version=int(number))
    if not network.exists():
        raise ModelError(f"{path} names the network {spec.file!r}, which is not there.")
    return spec, network


def numbers(name: str, store: Path) -> dict[int, Path]:
    """Give the versions of a model that ``store`` has: number -> folder.

    The first lies in ``<store>/<name>`` and others beside it in ``<store>/<name>@<number>``.
    """
    found = {}
    for folder in store.glob(f"{name}@*"):
        number = folder.name.rpartition("@")[2]
        if number.isdecimal() and (folder / "model.toml").is_file():
            found[int(number)] = folder
    with suppress(OSError, ValueError):
        raw = tomllib.loads((store / name / "model.toml").read_text(encoding="utf-8"))
        number = raw.get("version", 1)
        found.setdefault(number if isinstance(number, int) else 1, store / name)
    return dict(sorted(found.items()))


def folder_of(name: str, store: Path) -> Path:
    """Return the folder of a model, or of its version ``name@2``; a plain name means the folder of that name.

    Where that was removed it means the newest version.

    Raises:
        ModelError: there is no such version.
    """
    base, at, number = name.partition("@")
    if not at and (store / base).exists():
        return store / base
    there = numbers(base, store)
    if not at:
        return there[max(there)] if there else store / base
    if number.isdecimal() and int(number) in there:
        return there[int(number)]
    known = ", ".join(f"{base}@{one}" for one in there) or "none of that name"
    raise ModelError(f"There is no version {name!r} in {store}; there is {known}.")


def files(network: Path) -> list[Path]:
    """Return all files that make up the network at ``network``: it, and those that stand beside it under its name."""
    if network.is_dir():
        return sorted(path for path in network.rglob("*") if path.is_file())
    beside = [network.with_suffix(suffix) for suffix in _BESIDE.get(network.suffix.lower(), ())]
    beside += [network.with_name(network.name + suffix) for suffix in _BEHIND.get(network.suffix.lower(), ())]
    return [network, *(path for path in beside if path.is_file())]


def digest(network: Path) -> str:
    """Return the first 16 hex digits of the sha256 over the network's files (``.xml`` and ``.bin`` together)."""
    total = hashlib.sha256()
    for path in files(network):
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                total.update(part)
    return total.hexdigest()[:16]


#: Weights that a format keeps in a file of the same stem, or of the same name with something behind it.
_BESIDE = {".xml": (".bin",), ".pdmodel": (".pdiparams",), ".json": (".pdiparams",)}
_BEHIND = {".onnx": (".data", "_data", ".extra")}


def _write(path: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as draft:
        draft.write(text)
    Path(draft.name).chmod(0o644)
    Path(draft.name).replace(path)
