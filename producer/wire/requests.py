"""What a task is asked: images and options, read and written as plain JSON.

Stage: between any producer and ``worker.tasks``. Frozen values and pure functions.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from producer.errors import ImageTooLarge, InvalidImage, InvalidRequest, PayloadMissing, UnsupportedVersion
from producer.wire.kinds import is_int, is_number
from producer.wire.names import (
    BLOB_PREFIX,
    MAX_BATCH,
    MAX_DETECTIONS,
    MAX_INLINE_BYTES,
    MAX_OVERLAP,
    OVERLAP,
    TILE_SIDES,
    VERSION,
    check_model_name,
)

_BLOB_KEY = re.compile(re.escape(BLOB_PREFIX) + r"[A-Za-z0-9_.-]{1,128}\Z")


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
    if isinstance(data, str):
        if len(data) > MAX_INLINE_BYTES * 4 // 3 + 4:
            raise _too_large()
        try:
            data = base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidImage("The image's text is not base64.") from error
    if not isinstance(data, bytes | bytearray | memoryview):
        raise InvalidRequest("An image's data is bytes or base64 text.")
    data = bytes(data)
    if len(data) > MAX_INLINE_BYTES:
        raise _too_large()
    if not data:
        raise InvalidImage("The image is empty (0 bytes).")
    return data


def _too_large() -> ImageTooLarge:
    return ImageTooLarge(
        f"An image inside a message has at most {MAX_INLINE_BYTES:,} bytes. "
        f"Put larger ones into Redis under {BLOB_PREFIX}<id> and send the reference."
    )


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
        if size is not None and not (is_int(size) and least <= size <= most):
            raise InvalidRequest(f"tile's size is a whole number of pixels from {least} to {most:,}.")
        if not (is_number(overlap) and 0 <= overlap <= MAX_OVERLAP):
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
        if not is_int(version) or version < 1:
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
        if min_score is not None and not (is_number(min_score) and 0 <= min_score <= 1):
            raise InvalidRequest("min_score is a number from 0 to 1.")
        if most is not None and not (is_int(most) and 1 <= most <= MAX_DETECTIONS):
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
