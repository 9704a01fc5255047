"""Image bytes in Redis: one key an image, with a time to live.

Stage: between the client, which puts, and the worker, which gets and drops.
A message then carries a 50-byte reference instead of the image, so Redis moves the image once each way; inside a
message it would move three times per delivery.
"""

import uuid
from collections.abc import Iterable, Sequence

from redis import Redis
from redis.exceptions import ResponseError

from producer.errors import Cancelled, ImageTooLarge, InvalidImage, PayloadMissing
from producer.wire import BLOB_PREFIX, MAX_IMAGE_BYTES

#: Bytes that stand for "the job was cancelled": a worker that never heard the broadcast sees it when it fetches.
CANCELLED = b"\x00fleet:cancelled"


def new_key() -> str:
    """Make a key that nobody can guess."""
    return BLOB_PREFIX + uuid.uuid4().hex


def refs_of(args: object) -> list[str]:
    """Return the keys of the images that a task's arguments refer to; whatever else stands there is left out."""
    first = args[0] if isinstance(args, list | tuple) and args else None
    images = first if isinstance(first, list | tuple) else [first]
    refs = [image.get("ref") for image in images if isinstance(image, dict)]
    return [ref for ref in refs if isinstance(ref, str) and ref.startswith(BLOB_PREFIX)]


def check_size(data: bytes) -> bytes:
    """Return ``data`` if it may be sent.

    Raises:
        InvalidImage: it is empty.
        ImageTooLarge: it is longer than :data:`producer.wire.MAX_IMAGE_BYTES`.
    """
    if not data:
        raise InvalidImage("The image is empty (0 bytes).")
    if len(data) > MAX_IMAGE_BYTES:
        raise ImageTooLarge(f"The image has {len(data):,} bytes; at most {MAX_IMAGE_BYTES:,} are accepted.")
    return data


def put(redis: Redis, data: bytes, *, ttl_s: float) -> str:
    """Store ``data`` for ``ttl_s`` seconds and return its key.

    Raises:
        InvalidImage: it is empty.
        ImageTooLarge: it is too long.
    """
    key = new_key()
    redis.set(key, check_size(data), px=max(1, int(ttl_s * 1000)))
    return key


def get(redis: Redis, key: str, *, most_bytes: int = MAX_IMAGE_BYTES) -> bytes:
    """Return the bytes under ``key`` without ever holding more than ``most_bytes`` + 1 of them.

    Raises what :func:`read` raises.
    """
    reply: object
    try:
        reply = redis.execute_command(*asking(key, most_bytes=most_bytes))  # type: ignore[no-untyped-call]
    except ResponseError as error:
        reply = error
    return read(redis, key, reply, most_bytes=most_bytes)


def asking(key: str, *, most_bytes: int = MAX_IMAGE_BYTES) -> tuple[str | int, ...]:
    """Give the command whose reply, or error, :func:`read` understands."""
    return ("GETRANGE", key, 0, most_bytes)


def read(redis: Redis, key: str, reply: object, *, most_bytes: int = MAX_IMAGE_BYTES) -> bytes:
    """Return the bytes that ``reply`` holds.

    Raises:
        PayloadMissing: there is no such key.
        ImageTooLarge: the value is longer than ``most_bytes``.
        InvalidImage: the value is empty, or the key holds something that is not bytes.
        Cancelled: the job's client withdrew the image.
    """
    if isinstance(reply, ResponseError):
        raise InvalidImage("The reference names a Redis key that holds no bytes.") from reply
    if not isinstance(reply, bytes):
        raise reply if isinstance(reply, Exception) else TypeError(f"Redis gave {type(reply).__name__}")
    data = reply
    if len(data) > most_bytes:
        raise ImageTooLarge(f"The image has more than {most_bytes:,} bytes, the most this worker accepts.")
    if data == CANCELLED:
        raise Cancelled
    if not data:
        if redis.exists(key):
            raise InvalidImage("The image is empty (0 bytes).")
        raise PayloadMissing
    return data


def drop(redis: Redis, keys: Iterable[str]) -> None:
    """Remove the images under ``keys``; one that is gone already is fine."""
    names: Sequence[str] = list(keys)
    if names:
        redis.unlink(*names)


def withdraw(redis: Redis, key: str) -> None:
    """Replace the image under ``key``, if it is still there, by the mark of a cancelled job."""
    redis.set(key, CANCELLED, xx=True, keepttl=True)
