"""What a task message says, looked at before Celery acts on it: each is one that Celery can bear, or a typed error.

Stage: between :mod:`worker.envelopes` and Celery's strategy; :mod:`worker.guard` calls it. Pure but for the clock.
Celery 5.7 trusts its messages: a header of the wrong type raises in its event loop, or takes a place in the pool and
never gives it back; a header or an embedded part with the name of something inside its ``Context`` replaces that.

Mirrors celery 5.7: ``celery.app.amqp.AMQP.as_task_v2`` (what there is), ``celery.worker.request.Request`` and
``celery.app.task.Context`` (what is made of it).
"""

import re
from collections.abc import Container, Mapping
from typing import Any

from celery.app.task import Context

from producer.errors import InvalidRequest
from producer.ids import check_job_id
from producer.wire import MAX_MESSAGE_VALUES, SENT_AT_HEADER
from worker import celery_tasks
from worker.envelopes import PROBLEM, count_values
from worker.shapes import Fits, anything, either, mapping, misfit, name, names, one_of, seconds, soon, text, when, whole
from worker.workflows import Malformed, check_embedded

JSON = "application/json"
MSGPACK = "application/x-msgpack"


def _limits(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(one is None or seconds(one) for one in value)


def _string(value: Any) -> bool:
    return isinstance(value, str)


_flag = one_of(True, False)

_HEADERS: Mapping[str, Fits] = {
    "lang": text(32),
    "shadow": text(200),
    "eta": soon,
    "expires": when,
    "group": name,
    "group_index": whole(0, 1_000_000),
    "retries": whole(0, 1000),
    "timelimit": _limits,
    "root_id": name,
    "parent_id": name,
    "argsrepr": _string,
    "kwargsrepr": _string,
    "origin": text(300),
    "ignore_result": _flag,
    "replaced_task_nesting": whole(0, 1000),
    "stamped_headers": names,
    "stamps": mapping,
    "compression": text(32),
    "redelivered": _flag,
    SENT_AT_HEADER: either(whole(0, 2**53), lambda value: isinstance(value, float) and 0 <= value <= 2**53),
    "task": name,
    "id": anything,  # looked at by itself
}

#: Names that a header of the sender's own may not have: Celery keeps its knowledge of a job under them.
_TAKEN = frozenset(dir(Context))
_OWN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}\Z")

V2 = "A message is a task of Celery's protocol 2: headers with task and id, and a body [args, kwargs, embedded parts]."


def check(message: Any, tasks: Container[str]) -> None:
    """Look at a kombu message; its decoded body stays with it, so that Celery does not decode it again.

    Raises:
        InvalidRequest: Celery must not see it; the sentence says why.
    """
    problem = message.properties.get(PROBLEM)
    if problem:
        raise InvalidRequest(problem)
    check_headers(message.headers, tasks)
    payload = _decode(message)
    check_body(payload)
    if message.headers["task"].startswith(celery_tasks.PREFIX):
        _check_celery_s(message.headers["task"], payload, tasks)


def images_of(message: Any) -> int:
    """Return how many images a batch that was checked has, or seems to have."""
    images = next(iter(message.payload[0]), None)
    return len(images) if isinstance(images, list | tuple) else 1


def check_headers(headers: Mapping[str, Any], tasks: Container[str]) -> None:
    """Look at the headers.

    Raises:
        InvalidRequest: one is missing or does not fit.
    """
    if headers.get("task") is None or headers.get("id") is None:
        raise InvalidRequest(V2)
    check_job_id(headers["id"])
    bad = misfit(headers, _HEADERS)
    if bad is not None:
        raise InvalidRequest(f"The message's header {bad} has a value that is not allowed.")
    for header in headers:
        if header not in _HEADERS and (header in _TAKEN or not _OWN_NAME.match(header)):
            raise InvalidRequest(f"A message may not have a header named {header[:40]!r}.")
    if headers["task"] not in tasks:
        raise InvalidRequest(f"This worker has no task {headers['task'][:100]!r}.")


def check_body(payload: Any) -> None:
    """Look at the decoded body.

    Raises:
        InvalidRequest: it is not ``[args, kwargs, embedded parts]``, or a part cannot be acted on.
    """
    if not isinstance(payload, list | tuple) or len(payload) != 3:
        raise InvalidRequest(V2)
    args, kwargs, embed = payload
    if not isinstance(args, list | tuple) or not mapping(kwargs) or not (embed is None or mapping(embed)):
        raise InvalidRequest(V2)
    if "self" in kwargs:  # the name under which Celery hands a task to its own body
        raise InvalidRequest("A task has no argument named 'self'.")
    try:
        check_embedded(embed or {})
    except Malformed as error:
        raise InvalidRequest(f"What is to follow the job cannot be sent: {error}.") from error


def _check_celery_s(task: str, payload: Any, tasks: Container[str]) -> None:
    args, kwargs, _ = payload
    try:
        celery_tasks.check_call(task, args, kwargs, tasks)
    except Malformed as error:
        raise InvalidRequest(f"The message asks for a task of Celery's own: {error}.") from error


def _decode(message: Any) -> Any:
    """Decode the body. ``accept_content`` says the same; this says it with an answer to the sender."""
    if message.content_type not in (JSON, MSGPACK):
        raise InvalidRequest(f"A message is {JSON} or {MSGPACK}; nothing else is read.")
    if message.content_type == JSON and count_values(message.body or b"") > MAX_MESSAGE_VALUES:
        raise InvalidRequest(f"A message has at most {MAX_MESSAGE_VALUES:,} values.")
    try:
        return message.decode()
    except Exception as error:
        raise InvalidRequest(f"The message's body is not {message.content_type}.") from error
