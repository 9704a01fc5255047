"""A message as it lies in Redis: opened without trust, and put in order.

Stage: between Redis and kombu's message; :mod:`worker.broker` calls it for each. Pure. What kombu and Celery later
take for granted (properties, a delivery tag, where the message came from) is true of every envelope that leaves here.
"""

import base64
import json
import re
import uuid
from collections.abc import Mapping
from typing import Any

from kombu.utils import json as kombu_json

from producer.wire import MAX_MESSAGE_BYTES, MAX_MESSAGE_VALUES

#: A tag names the message in ``unacked``; our own client uses the job's id.
_TAG = re.compile(r"[A-Za-z0-9_.:@-]{1,128}\Z")

#: How a body may be written inside the envelope.
_BASE64 = "base64"
_PLAIN = (None, "", "utf-8")


#: Property that says what is wrong with a message that names its job; only :func:`open_envelope` writes it.
PROBLEM = "fleet_problem"

#: The headers of a message that is too large to be read, in the order in which Celery writes them, near its end.
_TASK_AND_ID = re.compile(rb'"task": ?"([!-~]{1,200}?)", ?"id": ?"([A-Za-z0-9_.-]{1,96})"')
TAIL_BYTES = 64 * 1024


class Unreadable(ValueError):
    """Nothing can be made of these bytes; there is no job to answer."""


def open_envelope(item: bytes, queue: str) -> dict[str, Any]:
    """Return the message that ``item`` holds, with nothing missing.

    Where it came from is what we know and not what it says: kombu puts a message that it gives back to the list that
    the message names. What is wrong with a message that names its job stands in the property :data:`PROBLEM`, and
    :mod:`worker.guard` answers it.

    Raises:
        Unreadable: too large, not JSON, or not an object, and the job it is about cannot be known.
    """
    if len(item) > MAX_MESSAGE_BYTES:
        return _unread(item, queue, f"A message has at most {MAX_MESSAGE_BYTES:,} bytes.")
    if count_values(item) > MAX_MESSAGE_VALUES:
        return _unread(item, queue, f"A message has at most {MAX_MESSAGE_VALUES:,} values.")
    try:
        raw = _parse(item)
    except Exception:  # noqa: BLE001 - not JSON, too many digits, too deep
        return _unread(item, queue, "The message is not JSON.")
    if not isinstance(raw, dict):
        raise Unreadable("The message is not an object.")
    headers, (body, problem) = raw.get("headers"), _body(raw)
    return {
        "body": body,
        "content-type": _text_or_none(raw.get("content-type")),
        "content-encoding": _text_or_none(raw.get("content-encoding")),
        "headers": headers if isinstance(headers, dict) else {},
        "properties": _properties(raw, queue) | ({PROBLEM: problem} if problem else {}),
    }


def _parse(item: bytes) -> Any:
    try:
        return kombu_json.loads(item)
    except RecursionError:
        raise
    except Exception:  # noqa: BLE001 - kombu makes dates and such of objects that say so; left as it is, one is refused
        return json.loads(item)


def _unread(item: bytes, queue: str, problem: str) -> dict[str, Any]:
    """Make an empty message that carries only the task and the job's id, found without reading the rest."""
    found = _TASK_AND_ID.search(item[-TAIL_BYTES:])
    if found is None:
        raise Unreadable(problem)
    headers = {"task": found[1].decode("ascii"), "id": found[2].decode("ascii")}
    return {"body": "", "headers": headers, "properties": _properties({}, queue) | {PROBLEM: problem}}


def count_values(text: bytes) -> int:
    """Return how many values JSON text may hold at most; each list, object and comma counts, also inside strings."""
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def _body(raw: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return the body's text as it is, or an empty one and why it cannot be decoded as the envelope says."""
    body, properties = raw.get("body"), raw.get("properties")
    encoding = properties.get("body_encoding") if isinstance(properties, dict) else None
    if not isinstance(body, str):
        return "", "The message has no body."
    try:
        if encoding == _BASE64:
            base64.b64decode(body, validate=True)
        elif encoding in _PLAIN:
            body.encode("utf-8")
        else:
            return "", "The message's body is in an unknown encoding."
    except ValueError:  # binascii's and Unicode's are such
        return "", "The message's body is not in the encoding that the message says."
    return body, None


def _properties(raw: Mapping[str, Any], queue: str) -> dict[str, Any]:
    found = raw.get("properties")
    said: Mapping[str, Any] = found if isinstance(found, dict) else {}
    where = said.get("delivery_info")
    tag, priority, body_encoding = said.get("delivery_tag"), said.get("priority"), said.get("body_encoding")
    return {
        "correlation_id": _text_or_none(said.get("correlation_id")),
        "reply_to": _text_or_none(said.get("reply_to")),
        "delivery_mode": 2,
        "delivery_info": {
            "exchange": queue,
            "routing_key": queue,
            "redelivered": isinstance(where, dict) and where.get("redelivered") is True,
        },
        "priority": priority if type(priority) is int and 0 <= priority <= 9 else 0,
        "body_encoding": _BASE64 if body_encoding == _BASE64 else None,
        "delivery_tag": tag if isinstance(tag, str) and _TAG.match(tag) else str(uuid.uuid4()),
    }


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) and len(value) <= 256 and value.isascii() else None
