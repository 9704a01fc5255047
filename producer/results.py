"""What stands in Celery's result backend, read without trusting it.

Stage: the first step of the way back. Neighbours: :mod:`producer.waiting` hands an outcome to whoever waits for it,
:mod:`producer.wire` reads the result itself. Mirrors celery 5.7 ``backends/base.py`` (``prepare_exception``,
``_get_result_meta``) and ``backends/redis.py`` (``_set``: SETEX and PUBLISH of the same bytes under the same name).
"""

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from producer.errors import BY_CODE, Cancelled, DeadlineExceeded, FleetError, InternalError, from_code
from producer.wire import MAX_BATCH, Result

#: Result keys, and the channels of the same names, start so.
META_PREFIX = "celery-task-meta-"

#: Seconds for which a worker keeps working after a deadline at most, as far as a client's patience goes.
GRACE_S = 2.0

#: Seconds for which Celery keeps a result (``result_expires``).
RESULT_TTL_S = 3600.0

#: What a batch gives: per image a result or an error.
Batch: TypeAlias = list[Result | FleetError]

#: What a job ends in.
Outcome: TypeAlias = Result | Batch | FleetError

#: Last part of the channel that only wakes a reader up.
_WAKE = "wake"

_TIME_LIMITS = ("TimeLimitExceeded", "SoftTimeLimitExceeded")


def meta_key(job_id: str) -> str:
    """Return the key, and the channel, of the result of ``job_id``."""
    return META_PREFIX + job_id


def wake_channel(client_id: str) -> str:
    """Return the channel on which anything published ends the present wait of a client's reader."""
    return meta_key(f"{client_id}-{_WAKE}")


def is_wake(name: str) -> bool:
    """Tell whether what stands where a job's id would is that of :func:`wake_channel`."""
    return name.endswith(f"-{_WAKE}")


def read_meta(raw: bytes | None) -> Outcome | None:
    """Read what Celery stored; None means that the job has not ended. Never raises, whatever the bytes are."""
    if raw is None:
        return None
    try:
        return _read(json.loads(raw))
    except FleetError as error:
        return error
    except Exception as error:  # noqa: BLE001 - bytes from outside: each is a result or a typed error
        return InternalError(f"The stored result cannot be read: {type(error).__name__}.")


def _read(meta: Any) -> Outcome | None:
    if not isinstance(meta, Mapping) or not isinstance(meta.get("status"), str):
        raise InternalError("The stored result is not one that Celery wrote.")
    status, result = meta["status"], meta.get("result")
    if status == "SUCCESS":
        return _batch(result) if isinstance(result, list) else Result.parse(result)
    if status == "FAILURE":
        return _failure(result)
    if status == "REVOKED":
        return _revoked(result)
    return None


def _batch(items: list[Any]) -> Batch:
    if len(items) > MAX_BATCH:
        raise InternalError(f"The stored result has {len(items)} items; a batch has at most {MAX_BATCH}.")
    return [_item(item) for item in items]


def _item(raw: Any) -> Result | FleetError:
    try:
        if isinstance(raw, Mapping) and isinstance(raw.get("error"), Mapping):
            return from_code(raw["error"].get("code"), raw["error"].get("message"))
        return Result.parse(raw)
    except FleetError as error:
        return error
    except Exception as error:  # noqa: BLE001 - one bad item must not spoil its neighbours
        return InternalError(f"The stored result cannot be read: {type(error).__name__}.")


def _failure(stored: Any) -> FleetError:
    known = _ours(stored)
    if known is not None:
        return known
    kind = stored.get("exc_type") if isinstance(stored, Mapping) else None
    if kind in _TIME_LIMITS:
        return DeadlineExceeded("The worker's time limit ended the job.")
    name = kind if isinstance(kind, str) and kind.isidentifier() and len(kind) <= 80 else "unknown"
    return InternalError(f"Something unforeseen went wrong in the fleet ({name}); the worker's log has the details.")


def _revoked(stored: Any) -> FleetError:
    known = _ours(stored)
    if known is not None:
        return known
    return DeadlineExceeded() if "expired" in _words(stored) else Cancelled()


def _ours(stored: Any) -> FleetError | None:
    """Build the fleet's own error again; None when the stored exception is somebody else's."""
    words = _words(stored)
    if len(words) == 2 and isinstance(words[1], str) and words[1] in BY_CODE:
        return from_code(words[1], words[0])
    return None


def _words(stored: Any) -> list[Any]:
    words = stored.get("exc_message") if isinstance(stored, Mapping) else None
    return words if isinstance(words, list) else [words]
