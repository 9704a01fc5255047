"""One job as the commands that enqueue it.

Stage: between the images that were read and the round trip that sends them. Neighbours: :mod:`producer.images` before,
:mod:`producer.dispatch` after. Pure: nothing here does I/O.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypedDict

from producer.blobs import CANCELLED
from producer.books import Entry, Limits, Once, accept_command, size_of
from producer.envelope import Message, check_priority, task_message
from producer.errors import InvalidRequest
from producer.ids import new_job_id
from producer.images import Picture, describe
from producer.results import RESULT_TTL_S
from producer.scripts import Command
from producer.steps import Ask
from producer.wire import (
    BLOB_PREFIX,
    MAX_BATCH,
    MAX_IMAGE_BYTES,
    SENT_AT_HEADER,
    TASK_DETECT,
    TASK_DETECT_MANY,
    VERSION,
    Image,
    Options,
    Tile,
    check_model_name,
    queue_of,
)

#: Up to this size an image rides inside the message. Measured, client, worker and server together: inline costs a fifth
#: less CPU at 1 KB, the same at 4 KB, a third more at 12 KB; and an image by itself can be withdrawn, so 2 KB it is.
INLINE_BYTES = 2 * 1024

#: An image outlives its job's deadline by this, so that a late worker says "expired" and not "missing".
BLOB_EXTRA_S = 3600.0

#: Most bytes of images in one message, far below Redis's limit for one client's buffer.
MAX_BATCH_BYTES = 8 * MAX_IMAGE_BYTES

#: Redis key: an idempotency key within one queue -> the id of its job and its request's fingerprint.
ONCE_PREFIX = "fleet:once:"

#: Longest idempotency key.
MAX_IDEMPOTENCY_KEY_BYTES = 200

#: Longest deadline: 30 days.
MAX_DEADLINE_S = 30 * 86400.0


class SubmitOptions(TypedDict, total=False):
    """What can be said about a job besides its image; the same for every method of both clients.

    Attributes:
        model: name of the model; default: the client's, or else the only one the fleet serves.
        priority: 0 (served first, the default) to 9.
        deadline_s: seconds from now after which nobody wants the answer; default 600.
        min_score: least score of a detection, 0 to 1; default: the model's.
        max_detections: most detections per image, best first; default: the model's.
        tile: cut big pictures into overlapping tiles of so many pixels, or as a :class:`producer.wire.Tile` says, so
            that small things are found; one result in pixels of the picture.
        idempotency_key: a name of your own for this very job, up to 200 bytes: sent again under it, to the same model
            and within the deadline and the hour that results live, it is the same job, from any process. Not for map.
    """

    model: str | None
    priority: int
    deadline_s: float
    min_score: float | None
    max_detections: int | None
    tile: Tile | int | None
    idempotency_key: str | None


@dataclass(frozen=True, slots=True)
class Terms:
    """:class:`SubmitOptions`, complete and checked."""

    model: str | None = None
    priority: int = 0
    deadline_s: float = 600.0
    min_score: float | None = None
    max_detections: int | None = None
    tile: Tile | int | None = None
    idempotency_key: str | None = None

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            InvalidRequest: one has the wrong type or range.
        """
        if self.model is not None:
            check_model_name(self.model)
        check_priority(self.priority)
        limit = self.deadline_s
        if not isinstance(limit, int | float) or not math.isfinite(limit) or not 0 < limit <= MAX_DEADLINE_S:
            raise InvalidRequest(f"deadline_s is a number of seconds above 0 and up to {MAX_DEADLINE_S:.0f}.")
        self.options(None)
        if self.idempotency_key is not None:
            _check_idempotency_key(self.idempotency_key)

    def options(self, model: str | None) -> Options:
        """Give what the task is asked for; ``model`` is a name that was checked, or None.

        Raises:
            InvalidRequest: another value has the wrong type or range.
        """
        if self.min_score is self.max_detections is self.tile is None:  # as nearly always
            return Options(model)
        asked = {"min_score": self.min_score, "max_detections": self.max_detections, "tile": self.tile}
        return Options.parse({"model": model, **asked})

    @property
    def is_shared(self) -> bool:
        """Whether another process may ask for the very same job: then its result stays, and only people cancel it."""
        return self.idempotency_key is not None

    def of_many(self) -> "Terms":
        """Return these terms for jobs of which there are several.

        Raises:
            InvalidRequest: they name one job.
        """
        if self.is_shared:
            raise InvalidRequest("An idempotency_key names one job; map sends many. Use submit.")
        return self


def _check_idempotency_key(key: object) -> None:
    try:
        fits = isinstance(key, str) and 1 <= len(key.encode()) <= MAX_IDEMPOTENCY_KEY_BYTES
    except UnicodeEncodeError:
        fits = False
    if not fits:
        raise InvalidRequest(f"An idempotency_key is a text of 1 to {MAX_IDEMPOTENCY_KEY_BYTES} bytes.")


@dataclass(frozen=True, slots=True)
class Request:
    """A job that is ready to be sent.

    Attributes:
        job_id: its id.
        queue: where it goes.
        message: the task message.
        blobs: Redis key -> image, those that do not ride inside the message.
        blob_ttl_s: how long Redis keeps them.
        once: how it is recognised when it is sent again, or None.
    """

    job_id: str
    queue: str
    message: Message
    blobs: dict[str, bytes]
    blob_ttl_s: float
    once: Once | None = None

    def entry(self, *, only_ask: bool = False) -> Entry:
        """Describe it for the books; ``only_ask`` whether there is room."""
        images = list(self.blobs)
        size_bytes = size_of(self.message.body, list(self.blobs.values()))
        return Entry(self.job_id, b"" if only_ask else self.message.body, size_bytes, images)


def offer(requests: Sequence[Request], limits: Limits) -> Ask:
    """Ask to store images, then to accept the jobs, or not: one transaction, one round trip, harmless when repeated.

    The last reply has the verdicts.

    Args:
        requests: of one queue and priority; one that is to be recognised comes alone.
        limits: how full the queue may be.
    """
    commands: list[Command] = [
        ("SET", key, data, "PX", int(request.blob_ttl_s * 1000))
        for request in requests
        for key, data in request.blobs.items()
    ]
    accept = _accept(requests, [request.entry() for request in requests], limits)
    return Ask((*commands, accept), atomic=bool(commands))


def ask_for_room(requests: Sequence[Request], limits: Limits) -> Ask:
    """Ask what the verdicts would be, without sending the images."""
    return Ask((_accept(requests, [request.entry(only_ask=True) for request in requests], limits),))


def _accept(requests: Sequence[Request], entries: Sequence[Entry], limits: Limits) -> Command:
    first = requests[0]
    return accept_command(entries, queue=first.queue, message_list=first.message.key, limits=limits, once=first.once)


def blob_key(job_id: str, index: int | None = None) -> str:
    """Return the key of a job's image; it follows from the id, so that whoever has the id can withdraw the image."""
    return f"{BLOB_PREFIX}{job_id}" if index is None else f"{BLOB_PREFIX}{job_id}.{index}"


def withdraw_commands(job_id: str, images: int | None) -> list[Command]:
    """Put the mark of a cancelled job in place of its images (as :func:`producer.blobs.withdraw` does).

    Args:
        job_id: the job.
        images: how many a batch has; 0 for a job of one image; None when that is not known.
    """
    keys = [] if images else [blob_key(job_id)]
    keys += [blob_key(job_id, index) for index in range(MAX_BATCH if images is None else images)]
    return [("SET", key, CANCELLED, "XX", "KEEPTTL") for key in keys]


def build(  # noqa: PLR0913 - pure: everything it needs is an argument
    pictures: Sequence[Picture],
    terms: Terms,
    *,
    many: bool,
    model: str,
    client_id: str,
    now: float,
    headers: Mapping[str, str] | None = None,
) -> Request:
    """Build the job that sends ``pictures`` to ``model``.

    Args:
        pictures: one, or with ``many`` 1 to :data:`producer.wire.MAX_BATCH`.
        terms: how.
        many: whether it is a batch.
        model: the model that was chosen.
        client_id: who waits for the result.
        now: seconds since 1970 by Redis's clock.
        headers: more headers of the message.

    Raises:
        InvalidRequest: a batch that is empty or too large.
    """
    if not 1 <= len(pictures) <= MAX_BATCH or sum(len(picture.data) for picture in pictures) > MAX_BATCH_BYTES:
        raise InvalidRequest(f"A batch has 1 to {MAX_BATCH} images and at most {MAX_BATCH_BYTES:,} bytes.")
    deadline_at = now + terms.deadline_s
    job_id = new_job_id(client_id, deadline_at)
    blobs: dict[str, bytes] = {}
    images: list[dict[str, str]] = []
    for index, picture in enumerate(pictures):
        if len(picture.data) <= INLINE_BYTES:
            images.append(Image(data=picture.data).to_json())
        else:
            key = blob_key(job_id, index if many else None)
            blobs[key] = picture.data
            images.append({"ref": key})
    options = terms.options(model).to_json()
    queue = queue_of(model)
    message = task_message(
        task_id=job_id,
        task=TASK_DETECT_MANY if many else TASK_DETECT,
        queue=queue,
        args=[images if many else images[0]],
        kwargs={"v": VERSION, **options},
        expires=datetime.fromtimestamp(deadline_at, UTC).isoformat(),
        priority=terms.priority,
        argsrepr=describe(pictures),
        kwargsrepr=repr(options),
        own_headers={SENT_AT_HEADER: round(now, 4), **(headers or {})},
        tag=job_id,  # so that the ledger finds the message among those that workers hold
    )
    once = _once(pictures, terms, queue, many=many)
    return Request(job_id, queue, message, blobs, terms.deadline_s + BLOB_EXTRA_S, once)


def _once(pictures: Sequence[Picture], terms: Terms, queue: str, *, many: bool) -> Once | None:
    """Say how the job is recognised; the fingerprint tells a repeated request from another under the same name."""
    if terms.idempotency_key is None:
        return None
    said = (many, terms.min_score, terms.max_detections, *(() if terms.tile is None else (Tile.parse(terms.tile),)))
    asked = hashlib.blake2b(repr(said).encode(), digest_size=16)
    for picture in pictures:
        asked.update(b"%d:" % len(picture.data))
        asked.update(picture.data)
    ttl_s = terms.deadline_s + RESULT_TTL_S
    return Once(f"{ONCE_PREFIX}{queue}:{terms.idempotency_key}", asked.hexdigest(), ttl_s)
