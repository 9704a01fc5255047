"""Everything an operator may set, read once from ``FLEET_*`` variables into one frozen value.

Stage: before all others. Neighbours: :mod:`worker.app` turns some of it into Celery's keys,
:mod:`worker.cpu` turns some of it into a plan for this host.
"""

import functools
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import platformdirs

from producer.address import SENTINEL_SCHEME, SentinelAddress
from producer.errors import InvalidRequest
from producer.redis_url import DEFAULT_URL, URL_FILE_VARIABLE, URL_VARIABLE, check_url, hide_password, url_of
from producer.wire import MAX_IMAGE_BYTES, check_model_name

T = TypeVar("T")

PREFIX = "FLEET_"


class SettingsError(Exception):
    """One or more variables are wrong; the message has a line for each."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The worker's settings; every field is ``FLEET_`` + its name in upper case."""

    #: Redis with the queues, the results and the images; ``FLEET_URL_FILE`` may name a file that holds it.
    url: str = DEFAULT_URL
    #: Models to serve, comma-separated; a queue each.
    models: tuple[str, ...] = ("centerface",)
    #: Folder with one folder a model.
    model_store: Path = Path()
    #: Where OpenVINO keeps compiled networks, so that the second start is fast; empty switches it off.
    cache_dir: Path | None = None
    #: OpenVINO device.
    device: str = "CPU"
    #: throughput: several images at once; latency: all cores on one image.
    hint: str = "throughput"
    #: Streams of inference; 0 leaves the number to OpenVINO.
    streams: int = 0
    #: Infer requests per model; 0 means twice what OpenVINO calls optimal.
    requests: int = 0
    #: Pictures per inference at most, for devices that want batches; on a CPU one is best.
    batch: int = 1
    #: Longest wait of a picture for others of its batch while the device is busy, milliseconds.
    batch_wait_ms: int = 5
    #: Most CPU threads for inference; 0 means all that quota and affinity allow.
    threads: int = 0
    #: f32, bf16, f16 or empty for the hardware's choice.
    precision: str = ""
    #: Pin inference threads to cores; several pinned workers on one host fight for the same cores.
    pinning: bool = False
    #: Milliseconds that a thread keeps a core which others wait for, where the kernel can do that; 0 leaves it to it.
    slice_ms: int = 100
    #: Threads that fetch and decode images; 0 means the plan's choice.
    decoders: int = 0
    #: Jobs the worker holds at once, in all stages together; 0 means the plan's choice.
    jobs: int = 0
    #: Most pixels of an image.
    max_pixels: int = 64_000_000
    #: Most bytes of an encoded image.
    max_image_bytes: int = MAX_IMAGE_BYTES
    #: Decode a JPEG that is much larger than the network's input at a half or a quarter of its size.
    jpeg_scale: bool = True
    #: Keep images that cannot be read on the dead list.
    keep_invalid: bool = False
    #: Seconds after which a silent worker counts as dead and its jobs go to others; live ones renew in time.
    lease_s: float = 10.0
    #: Seconds that a warm shutdown waits for jobs in flight before it gives them back.
    drain_s: float = 30.0
    #: Obey control commands that change a worker (shutdown, pool_grow, ...); revoke and inspect are always obeyed.
    remote_control: bool = True
    #: File whose age tells whether the worker is healthy.
    health_file: Path = Path(tempfile.gettempdir()) / "fleet-worker.health"
    #: Where traces go: otlp (OpenTelemetry's own variables say where), file:<path>, or empty for none.
    traces: str = ""
    #: text, or json: one line of JSON an event.
    log: str = "text"
    #: Port of the metrics for Prometheus; 0 serves none.
    metrics_port: int = 0
    #: Address that the metrics are served on.
    metrics_host: str = "127.0.0.1"


class _Reader:
    """Reads variables one by one and remembers every bad one."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.problems: list[str] = []

    def read(self, name: str, parse: Callable[[str], T], default: T) -> T:
        text = self.environ.get(PREFIX + name.upper())
        if text is None:
            return default
        try:
            return parse(text.strip())
        except (ValueError, InvalidRequest) as error:
            shown = hide_password(text) if name == "url" else text
            self.problems.append(f"{PREFIX}{name.upper()}={shown!r}: {error}")
            return default

    def read_url_file(self) -> None:
        """Put the URL in its variable's place, when a file holds it."""
        if self.environ.get(URL_VARIABLE) or not self.environ.get(URL_FILE_VARIABLE):
            return
        try:
            self.environ = {**self.environ, URL_VARIABLE: url_of(self.environ)}
        except InvalidRequest as error:
            self.problems.append(str(error))


def from_environ(environ: Mapping[str, str]) -> Settings:
    """Read the settings from ``environ``.

    Raises:
        SettingsError: variables with bad values or unknown names; one line each.
    """
    reader = _Reader(environ)
    reader.read_url_file()
    defaults = Settings()
    dirs = platformdirs.PlatformDirs("detection-fleet", appauthor=False)
    parsers: dict[str, tuple[Callable[[str], Any], Any]] = {
        "url": (_url, defaults.url),
        "models": (_names, defaults.models),
        "model_store": (_path, Path(dirs.user_data_dir) / "models"),
        "cache_dir": (_optional_path, Path(dirs.user_cache_dir) / "openvino"),
        "device": (_device, defaults.device),
        "hint": (_one_of("throughput", "latency"), defaults.hint),
        "streams": (_whole(0, 1024), defaults.streams),
        "requests": (_whole(0, 1024), defaults.requests),
        "batch": (_whole(1, 64), defaults.batch),
        "batch_wait_ms": (_whole(0, 1000), defaults.batch_wait_ms),
        "threads": (_whole(0, 4096), defaults.threads),
        "precision": (_one_of("", "f32", "bf16", "f16"), defaults.precision),
        "pinning": (_switch, defaults.pinning),
        "slice_ms": (_whole(0, 100), defaults.slice_ms),
        "decoders": (_whole(0, 256), defaults.decoders),
        "jobs": (_whole(0, 4096), defaults.jobs),
        "max_pixels": (_whole(1, 1_000_000_000), defaults.max_pixels),
        "max_image_bytes": (_whole(1, 512 * 1024 * 1024), defaults.max_image_bytes),
        "jpeg_scale": (_switch, defaults.jpeg_scale),
        "keep_invalid": (_switch, defaults.keep_invalid),
        "lease_s": (_lease, defaults.lease_s),
        "drain_s": (_seconds, defaults.drain_s),
        "remote_control": (_switch, defaults.remote_control),
        "health_file": (_path, defaults.health_file),
        "traces": (_traces, defaults.traces),
        "log": (_one_of("text", "json"), defaults.log),
        "metrics_port": (_whole(0, 65535), defaults.metrics_port),
        "metrics_host": (_host, defaults.metrics_host),
    }
    values = {name: reader.read(name, parse, default) for name, (parse, default) in parsers.items()}
    known = {PREFIX + name.upper() for name in parsers} | {URL_FILE_VARIABLE}
    reader.problems += [
        f"{name}: no such setting" for name in environ if name.startswith(PREFIX) and name not in known | _FOREIGN
    ]
    if reader.problems:
        raise SettingsError("Bad settings:\n" + "\n".join(f"  {line}" for line in sorted(reader.problems)))
    return Settings(**values)


#: Variables with our prefix that others read: tests, the producer's command line, docker-compose.yml.
_FOREIGN = frozenset(
    {
        *("FLEET_TEST_ASSETS", "FLEET_MODEL"),
        *("FLEET_SECRETS", "FLEET_REDIS_PORT", "FLEET_REDIS_MEMORY", "FLEET_REDIS_MEM_LIMIT"),
        *("FLEET_FLOWER_PORT", "FLEET_WORKER_MEMORY", "FLEET_PROMETHEUS_PORT", "FLEET_GRAFANA_PORT"),
    }
)


@functools.cache
def load() -> Settings:
    """Read the settings of this process, once."""
    return from_environ(os.environ)


def describe(settings: Settings) -> dict[str, str]:
    """Give each variable's name and value as text, secrets hidden, for ``fleet-worker doctor`` and the log."""
    shown = {PREFIX + one.name.upper(): str(getattr(settings, one.name)) for one in fields(settings)}
    shown[PREFIX + "MODELS"] = ",".join(settings.models)
    shown[PREFIX + "CACHE_DIR"] = str(settings.cache_dir or "")
    shown[PREFIX + "URL"] = hide_password(settings.url)
    return shown


def _url(text: str) -> str:
    if text.startswith(SENTINEL_SCHEME):
        SentinelAddress.parse(text)
        return text
    if not text.startswith(("redis://", "rediss://")):  # what Celery's broker and the image store both understand
        raise ValueError("expected redis://, rediss:// or sentinel://")
    return check_url(text)


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(check_model_name(name.strip()) for name in text.split(",")))


def _path(text: str) -> Path:
    if not text:
        raise ValueError("expected a path")
    return Path(text).expanduser()


def _optional_path(text: str) -> Path | None:
    return Path(text).expanduser() if text else None


def _device(text: str) -> str:
    if not text:
        raise ValueError("expected an OpenVINO device such as CPU, GPU or AUTO")
    return text.upper()


def _traces(text: str) -> str:
    if text not in ("", "otlp") and not (text.startswith("file:") and len(text) > len("file:")):
        raise ValueError("expected otlp, or file: and a path")
    return text


def _host(text: str) -> str:
    if not text or any(sign.isspace() or sign == "/" for sign in text):
        raise ValueError("expected an address such as 127.0.0.1, or 0.0.0.0 for all")
    return text


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise ValueError(f"expected a whole number from {least:,} to {most:,}")
        return int(text)

    return parse


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86_400:
        raise ValueError("expected seconds, 0 to 86,400")
    return value


def _lease(text: str) -> float:
    value = _seconds(text)
    if value < 1:
        raise ValueError("expected seconds, 1 to 86,400")
    return value


def _switch(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off", ""):
        return False
    raise ValueError("expected on or off")


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError(f"expected one of {', '.join(choice or '(empty)' for choice in choices)}")
        return text.lower()

    return parse
