"""Names of tasks, queues and keys in Redis, and the limits that every reader and writer keeps.

Stage: under :mod:`producer.wire.requests`; nothing here but constants and pure functions.
"""

import re
from bisect import bisect

from producer.errors import InvalidRequest

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


def queue_of_list(message_list: str) -> str:
    """Return the queue whose messages of one priority the Redis list ``message_list`` holds."""
    return message_list.partition(PRIORITY_SEPARATOR)[0]


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
