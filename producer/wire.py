"""The wire contract: names, limits, and the plain JSON of requests and results, in both directions.

Stage: between any producer and any worker. Neighbours: :mod:`producer.client` writes requests and reads results,
``worker.tasks`` reads requests and writes results. Everything here is a frozen value or a pure function.
"""

import base64
import binascii
import math
import re
from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from producer.errors import (
    ImageTooLarge,
    InternalError,
    InvalidImage,
    InvalidRequest,
    PayloadMissing,
    UnsupportedVersion,
)

#: Version of requests and results. A reader refuses a higher one.
VERSION = 1

TASK_DETECT = "fleet.detect"
TASK_DETECT_MANY = "fleet.detect_many"

#: A worker consumes ``detect.<model>`` for every model it has loaded.
QUEUE_PREFIX = "detect."

#: kombu keeps four Redis lists per queue, by priority; 0 is served first.
PRIORITY_STEPS = (0, 3, 6, 9)

#: Stands between a queue's name and its priority.
PRIORITY_SEPARATOR = "\x06\x16"

#: Redis hash: name of every model that a worker of this fleet has served -> JSON description. ``seen_at`` in it is when
#: a worker last said so, seconds since 1970 by Redis's clock.
MODELS_KEY = "fleet:models"

#: How often a worker says so, and after how long its silence means that nobody serves the model now.
ANNOUNCE_EVERY_S = 5.0
SERVED_WITHIN_S = 30.0

#: Sorted set: name of every worker -> when it last said that it lives, by Redis's clock. It does so every two seconds.
WORKERS_KEY = "fleet:workers"
ALIVE_WITHIN_S = 15.0

#: Keys of image bytes start so; a worker reads no other key on a request's behalf.
BLOB_PREFIX = "fleet:blob:"

#: The ledger: jobs of our own clients that were accepted and have not ended. A sorted set per Redis list of messages
#: has id -> when it was sent, by Redis's clock; one hash has id -> the whole message, to send it again if it was lost.
LEDGER_PREFIX = "fleet:ledger:"
JOBS_KEY = "fleet:jobs"

#: Counter of one job: how often a worker has begun it. Removed when it ends.
BEGUN_PREFIX = "fleet:begun:"

#: Key of one job that was sent again from the dead list -> its new deadline, by Redis's clock.
REPLAYED_PREFIX = "fleet:replayed:"

#: Sorted set of one queue: messages whose time has not come, beyond those that workers hold -> when they are due.
LATER_PREFIX = "fleet:later:"

#: Message header of our own client: when the job was sent, seconds since 1970 by Redis's clock.
SENT_AT_HEADER = "fleet_sent_at"

#: Largest image inside a message; a larger one goes to Redis by itself and the message carries its key.
MAX_INLINE_BYTES = 256 * 1024

#: Largest message, as it lies in Redis, and the most values (lists, objects, commas) that its JSON may hold: a few
#: bytes of JSON can take twenty times as many in memory.
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
MAX_MESSAGE_VALUES = 200_000

#: Bytes of messages that a worker holds at once, waiting ones and those with an ETA included. Beyond, it fetches no
#: more until one has ended, whatever their number. Those with an ETA may be half of them (:mod:`worker.later`).
MAX_HELD_BYTES = 32 * 1024 * 1024

#: Largest image, encoded.
MAX_IMAGE_BYTES = 32 * 1024 * 1024

#: Most images in one ``fleet.detect_many`` message.
MAX_BATCH = 256

#: Most detections in one result, whatever the request asks for.
MAX_DETECTIONS = 1000

#: Most tiles that a picture is cut into, the look at the whole picture not counted.
MAX_TILES = 512

#: Side of a tile, pixels of the original; and the part of a tile that lies in its neighbour too: at most, and
#: unless asked otherwise.
TILE_SIDES = (32, 16_384)
MAX_OVERLAP = 0.5
OVERLAP = 0.2

_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
_BLOB_KEY = re.compile(re.escape(BLOB_PREFIX) + r"[A-Za-z0-9_.-]{1,128}\Z")


def check_model_name(model: object) -> str:
    """Return ``model`` if it can name a model.

    Raises:
        InvalidRequest: it is not 1 to 64 letters, digits, ``_``, ``.`` or ``-``.
    """
    if not isinstance(model, str) or not _MODEL_NAME.match(model):
        raise InvalidRequest("A model's name is 1 to 64 letters, digits, '_', '.' or '-'.")
    return model


def queue_of(model: str) -> str:
    """Return the queue of ``model``.

    Raises:
        InvalidRequest: ``model`` cannot name a model.
    """
    return QUEUE_PREFIX + check_model_name(model)


def queue_key(queue: str, priority: int) -> str:
    """Return the Redis list that holds ``queue``'s messages of ``priority``."""
    step = PRIORITY_STEPS[bisect(PRIORITY_STEPS, priority) - 1]
    return f"{queue}{PRIORITY_SEPARATOR}{step}" if step else queue


def queue_keys(queue: str) -> tuple[str, ...]:
    """Return all Redis lists of ``queue``, the one served first first."""
    return tuple(queue_key(queue, step) for step in PRIORITY_STEPS)


def ledger_key(message_list: str) -> str:
    """Return the sorted set of the jobs whose messages go to the Redis list ``message_list``."""
    return LEDGER_PREFIX + message_list


def model_of(queue: object) -> str | None:
    """Return the model that ``queue`` belongs to, or None when it is not a queue of ours."""
    if isinstance(queue, str) and queue.startswith(QUEUE_PREFIX):
        return queue[len(QUEUE_PREFIX) :]
    return None


# ---------------------------------------------------------------------------------------------------- requests


@dataclass(frozen=True, slots=True)
class Image:
    """One image of a request: its bytes, or the Redis key that holds them. Exactly one is set."""

    data: bytes | None = None
    ref: str | None = None

    def to_json(self) -> dict[str, str]:
        """Give the plain JSON form; bytes become base64 text."""
        if self.ref is not None:
            return {"ref": self.ref}
        return {"data": base64.b64encode(self.data or b"").decode("ascii")}

    @classmethod
    def parse(cls, raw: object) -> "Image":
        """Read ``{"ref": key}`` or ``{"data": bytes or base64 text}``.

        Raises:
            InvalidRequest: it is neither form.
            InvalidImage: the bytes are empty, or the text is not base64.
            ImageTooLarge: more than :data:`MAX_INLINE_BYTES` inside the message.
            PayloadMissing: the key is not one of the fleet's.
        """
        if not isinstance(raw, Mapping) or len(raw) != 1:
            raise InvalidRequest('An image is {"ref": "<blob key>"} or {"data": <bytes or base64 text>}.')
        if "ref" in raw:
            ref = raw["ref"]
            if not isinstance(ref, str) or not _BLOB_KEY.match(ref):
                raise PayloadMissing(f"A reference is a key that starts with {BLOB_PREFIX!r}; put the image there.")
            return cls(ref=ref)
        if "data" not in raw:
            raise InvalidRequest('An image is {"ref": "<blob key>"} or {"data": <bytes or base64 text>}.')
        return cls(data=_inline_bytes(raw["data"]))


def _inline_bytes(data: object) -> bytes:
    too_large = ImageTooLarge(
        f"An image inside a message has at most {MAX_INLINE_BYTES:,} bytes. "
        f"Put larger ones into Redis under {BLOB_PREFIX}<id> and send the reference."
    )
    if isinstance(data, str):
        if len(data) > MAX_INLINE_BYTES * 4 // 3 + 4:
            raise too_large
        try:
            data = base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidImage("The image's text is not base64.") from error
    if not isinstance(data, bytes | bytearray | memoryview):
        raise InvalidRequest("An image's data is bytes or base64 text.")
    data = bytes(data)
    if len(data) > MAX_INLINE_BYTES:
        raise too_large
    if not data:
        raise InvalidImage("The image is empty (0 bytes).")
    return data


@dataclass(frozen=True, slots=True)
class Tile:
    """How a picture is cut into tiles, so that small things in it are seen at their full size.

    Attributes:
        size: side of the square tiles, pixels of the original; a picture that fits into one is not cut. None means
            tiles of the size of the network's input, so that nothing is scaled.
        overlap: part of a tile that at least lies in the next one too, 0 to 0.5; things up to this size are whole in
            one of the two.
    """

    size: int | None = None
    overlap: float = OVERLAP

    def to_json(self) -> dict[str, Any]:
        """Give the plain JSON form."""
        return {"size": self.size, "overlap": self.overlap}

    @classmethod
    def parse(cls, raw: object) -> "Tile":
        """Read ``640`` or ``{"size": 640, "overlap": 0.2}``; a Tile is checked likewise.

        Raises:
            InvalidRequest: it is none of these, or out of range.
        """
        if isinstance(raw, Tile):
            raw = raw.to_json()
        fields = raw if isinstance(raw, Mapping) else {"size": raw}
        if unknown := [str(name)[:40] for name in fields if name not in ("size", "overlap")]:
            raise InvalidRequest(f"tile has size and overlap, not {', '.join(sorted(unknown)[:5])!r}.")
        size, overlap = fields.get("size"), fields.get("overlap", OVERLAP)
        least, most = TILE_SIDES
        if size is None and not isinstance(raw, Mapping):
            raise InvalidRequest("tile is a number of pixels, or an object with size and overlap.")
        if size is not None and not (_is_int(size) and least <= size <= most):
            raise InvalidRequest(f"tile's size is a whole number of pixels from {least} to {most:,}.")
        if not (_is_number(overlap) and 0 <= overlap <= MAX_OVERLAP):
            raise InvalidRequest(f"tile's overlap is a number from 0 to {MAX_OVERLAP}.")
        return cls(size, float(overlap))


@dataclass(frozen=True, slots=True)
class Options:
    """What a request may ask for besides the image.

    Attributes:
        model: name of the model; None means the one whose queue the message came from.
        min_score: least score of a detection, 0 to 1; None means the model's own threshold.
        max_detections: most detections per image, best first; None means the model's own limit.
        tile: how the picture is cut into tiles; None looks at the whole at once.
    """

    model: str | None = None
    min_score: float | None = None
    max_detections: int | None = None
    tile: Tile | None = None

    def to_json(self) -> dict[str, Any]:
        """Give the task's keyword arguments; what is None is left out."""
        tile = None if self.tile is None else self.tile.to_json()
        fields = {
            "model": self.model,
            "min_score": self.min_score,
            "max_detections": self.max_detections,
            "tile": tile,
        }
        return {name: value for name, value in fields.items() if value is not None}

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> "Options":
        """Read the task's keyword arguments.

        Raises:
            UnsupportedVersion: ``v`` is higher than :data:`VERSION`.
            InvalidRequest: an unknown option, or one with a value of the wrong type or range.
        """
        version = raw.get("v", VERSION)
        if not _is_int(version) or version < 1:
            raise InvalidRequest("v, the version of the request, is a whole number from 1.")
        if version > VERSION:
            raise UnsupportedVersion(f"This worker reads version {VERSION}; the request has version {version}.")
        unknown = [str(name)[:40] for name in raw if name not in ("v", "model", "min_score", "max_detections", "tile")]
        if unknown:
            raise InvalidRequest(
                f"Unknown option {', '.join(sorted(unknown)[:5])!r}; there are model, min_score, max_detections, tile."
            )
        model, min_score, most = raw.get("model"), raw.get("min_score"), raw.get("max_detections")
        if model is not None:
            check_model_name(model)
        if min_score is not None and not (_is_number(min_score) and 0 <= min_score <= 1):
            raise InvalidRequest("min_score is a number from 0 to 1.")
        if most is not None and not (_is_int(most) and 1 <= most <= MAX_DETECTIONS):
            raise InvalidRequest(f"max_detections is a whole number from 1 to {MAX_DETECTIONS}.")
        tile = None if raw.get("tile") is None else Tile.parse(raw["tile"])
        return cls(model, None if min_score is None else float(min_score), most, tile)


def parse_images(raw: object) -> list[object]:
    """Return the images of a batch, not yet parsed: each may be bad by itself.

    Raises:
        InvalidRequest: not a list, empty, or longer than :data:`MAX_BATCH`.
    """
    if not isinstance(raw, list | tuple) or not 1 <= len(raw) <= MAX_BATCH:
        raise InvalidRequest(f"images is a list of 1 to {MAX_BATCH} images.")
    return list(raw)


def describe_images(args: object) -> str:
    """Describe a task's arguments for logs, events and Flower without a byte of image."""
    if not isinstance(args, list | tuple) or not args:
        return "()"
    if isinstance(args[0], list | tuple):
        shown = ", ".join(_describe_image(image) for image in args[0][:3])
        return f"([{shown}{', …' if len(args[0]) > 3 else ''}],) {len(args[0])} images"
    return f"({_describe_image(args[0])},)"


def _describe_image(raw: object) -> str:
    if isinstance(raw, Mapping):
        ref, data = raw.get("ref"), raw.get("data")
        if isinstance(ref, str):
            return repr({"ref": ref[:80]})
        if isinstance(data, str):
            return f"{{'data': <{len(data) * 3 // 4:,} bytes>}}"
        if isinstance(data, bytes):
            return f"{{'data': <{len(data):,} bytes>}}"
    return f"<{type(raw).__name__}>"


# ----------------------------------------------------------------------------------------------------- results


@dataclass(frozen=True, slots=True)
class Detection:
    """One object found.

    Attributes:
        label: the class's name.
        label_id: the class's number in the model.
        score: 0 to 1.
        box: (x1, y1, x2, y2), pixels of the original upright image, clipped to it.
        keypoints: ((x, y), ...), pixels of the original image; empty when the model has none.
    """

    label: str
    label_id: int
    score: float
    box: tuple[float, float, float, float]
    keypoints: tuple[tuple[float, float], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Give the plain JSON form."""
        return {
            "label": self.label,
            "label_id": self.label_id,
            "score": self.score,
            "box": list(self.box),
            "keypoints": [list(point) for point in self.keypoints],
        }


@dataclass(frozen=True, slots=True)
class Result:
    """What one image gave.

    Attributes:
        model: name of the model; ``model_digest`` is the sha256 of its files (first 16 hex digits).
        width: of the original image as a person sees it (EXIF orientation applied), in pixels.
        height: likewise.
        detections: best score first.
        timings_ms: how long each stage took: queued, fetch, decode, wait, infer, finish.
        worker: name of the worker that did it.
        tiles: how many tiles the picture was cut into; 0 when it was looked at as a whole.
    """

    model: str
    model_digest: str
    width: int
    height: int
    detections: tuple[Detection, ...]
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    worker: str = ""
    tiles: int = 0

    def to_json(self) -> dict[str, Any]:
        """Give the plain JSON form, version included; ``tiles`` only where there are some."""
        return {
            "v": VERSION,
            "model": self.model,
            "model_digest": self.model_digest,
            "width": self.width,
            "height": self.height,
            "detections": [detection.to_json() for detection in self.detections],
            "timings_ms": dict(self.timings_ms),
            "worker": self.worker,
            **({"tiles": self.tiles} if self.tiles else {}),
        }

    @classmethod
    def parse(cls, raw: object) -> "Result":
        """Read a result, trusting nothing.

        Raises:
            UnsupportedVersion: a newer worker wrote it.
            InternalError: it is not a result.
        """
        if not isinstance(raw, Mapping):
            raise InternalError("The stored result is not a detection result.")
        version = raw.get("v")
        if _is_int(version) and version > VERSION:
            raise UnsupportedVersion(f"The result has version {version}; this client reads {VERSION}. Upgrade it.")
        try:
            return cls(
                model=_text(raw["model"]),
                model_digest=_text(raw["model_digest"]),
                width=_whole(raw["width"]),
                height=_whole(raw["height"]),
                detections=tuple(_detection(one) for one in _items(raw["detections"], MAX_DETECTIONS)),
                timings_ms={_text(name): _real(value) for name, value in dict(raw.get("timings_ms", {})).items()},
                worker=_text(raw.get("worker", "")),
                tiles=_whole(raw.get("tiles", 0)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InternalError(f"The stored result is not a detection result: {error!r:.200}") from error


def _detection(raw: Mapping[str, Any]) -> Detection:
    x1, y1, x2, y2 = (_real(edge) for edge in _items(raw["box"], 4))
    points = tuple(_point(point) for point in _items(raw.get("keypoints", ()), 1000))
    return Detection(_text(raw["label"]), _whole(raw["label_id"]), _real(raw["score"]), (x1, y1, x2, y2), points)


def _point(raw: object) -> tuple[float, float]:
    x, y = (_real(value) for value in _items(raw, 2))
    return x, y


def _items(raw: object, most: int) -> Sequence[Any]:
    if not isinstance(raw, list | tuple) or len(raw) > most:
        raise TypeError(f"expected a list of at most {most}")
    return raw


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> TypeGuard[float]:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"expected a whole number, not {type(value).__name__}")
    return value


def _real(value: object) -> float:
    if not _is_number(value):
        raise TypeError(f"expected a finite number, not {type(value).__name__}")
    return float(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, not {type(value).__name__}")
    return value
