"""What a message may ask the worker to send on: links, chains, groups and chords, as Celery writes them.

Stage: under :mod:`worker.screen`. Pure. A signature that Celery could not send would fail after the work is done, with
an error that names no rule; and one that it could send decides which Redis list the worker writes to.

Mirrors celery 5.7: ``celery.canvas`` (``Signature.from_dict``, what ``group``, ``chain``, ``chord`` and ``chunks``
take out of their keyword arguments), ``celery.app.task.Task.apply_async`` (the options).
"""

import inspect
from collections.abc import Mapping
from types import NoneType
from typing import Any

from celery import Celery, Task
from kombu.messaging import Producer

from worker.shapes import Fits, either, mapping, misfit, name, names, one_of, queue, seconds, text, when, whole

#: Most signatures in one message, and how deep they may stand in each other.
MAX_SIGNATURES = 1000
MAX_DEPTH = 20

#: Where a message says what comes after it.
EMBEDDED = ("callbacks", "errbacks", "chain", "chord")

#: Options that hold no signatures. Anything else is refused: ``apply_async`` takes connections, producers, routers.
_OPTIONS: Mapping[str, Fits] = {
    "task_id": name,
    "root_id": name,
    "parent_id": name,
    "group_id": name,
    "group_index": whole(0, 1_000_000),
    "reply_to": either(name, one_of("")),
    "queue": queue,
    "exchange": either(queue, one_of("")),
    "routing_key": queue,
    "exchange_type": one_of("direct"),
    "priority": whole(0, 9),
    "countdown": seconds,
    "eta": when,
    "expires": either(seconds, when),
    "time_limit": seconds,
    "soft_time_limit": seconds,
    "retries": whole(0, 1000),
    "serializer": one_of("json", "msgpack"),
    "compression": one_of("gzip", "zlib", "bzip2", "lzma"),
    "ignore_result": one_of(True, False),
    "add_to_parent": one_of(True, False),
    "retry": one_of(True, False),
    "delivery_mode": either(whole(1, 2), one_of("persistent", "transient")),
    "immediate": one_of(True, False),
    "mandatory": one_of(True, False),
    "interval": seconds,
    "max_retries": whole(0, 1000),
    "shadow": text(200),
    "origin": text(200),
    "argsrepr": text(10_000),
    "kwargsrepr": text(10_000),
    "replaced_task_nesting": whole(0, 1000),
    "stamped_headers": names,
    "headers": mapping,
}

#: Options that hold signatures.
_NESTED = ("link", "link_error", "chain", "chord")

#: What Celery and kombu take besides: a stamp of such a name would reach them as their own argument.
_SENDERS = (Task.apply_async, Celery.send_task, Producer.publish)
_ARGUMENTS = frozenset(argument for one in _SENDERS for argument in inspect.signature(one).parameters)

#: Where a signature of several keeps its members.
_MEMBERS: Mapping[str, tuple[str, ...]] = {
    "group": ("tasks",),
    "chain": ("tasks",),
    "chord": ("header", "body"),
    "chunks": ("task",),
    "xmap": ("task",),
    "xstarmap": ("task",),
}


class Malformed(ValueError):
    """The message asks for something that Celery could not send, or may not."""


def check_embedded(embed: Mapping[str, Any]) -> None:
    """Look at the third element of a message's body.

    Raises:
        Malformed: it is not one that this worker would act on; the sentence's end says why.
    """
    unknown = set(embed) - set(EMBEDDED)
    if unknown:
        raise Malformed("it has parts besides callbacks, errbacks, chain and chord")
    count = [0]
    for part in ("callbacks", "errbacks", "chain"):
        if embed.get(part) is not None:
            if not isinstance(embed[part], list | tuple):
                raise Malformed(f"{part} is not a list")
            for one in embed[part]:
                _check_signature(one, count, 1)
    if embed.get("chord") is not None:
        _check_signature(embed["chord"], count, 1)


def check_signature(raw: Any) -> None:
    """Look at a signature that is a task's argument.

    Raises:
        Malformed: it is none that Celery could send, or may.
    """
    _check_signature(raw, [0], 1)


def _check_signature(raw: Any, count: list[int], depth: int) -> None:
    count[0] += 1
    if count[0] > MAX_SIGNATURES or depth > MAX_DEPTH:
        raise Malformed(f"it has more than {MAX_SIGNATURES} signatures, or {MAX_DEPTH} levels of them")
    if not mapping(raw) or not name(raw.get("task")):
        raise Malformed("a signature is not an object with a task")
    kind, args, kwargs, options = (raw.get(key) for key in ("subtask_type", "args", "kwargs", "options"))
    if not isinstance(args, list | tuple | NoneType) or not (kwargs is None or mapping(kwargs)):
        raise Malformed("a signature's args or kwargs have the wrong type")
    if raw.get("immutable") not in (None, True, False) or not (
        raw.get("chord_size") is None or whole(0, 1_000_000)(raw["chord_size"])
    ):
        raise Malformed("a signature's immutable or chord_size has the wrong type")
    _check_options({} if options is None else options, count, depth)
    if kind is not None:
        _check_members(kind, kwargs or {}, count, depth)


def _check_options(options: Any, count: list[int], depth: int) -> None:
    if not mapping(options):
        raise Malformed("a signature's options are not an object")
    bad = misfit(options, _OPTIONS)
    if bad is not None:
        raise Malformed(f"a signature's option {bad} has a value that is not allowed")
    stamps = [one for one in options.get("stamped_headers") or () if one not in _ARGUMENTS]
    unknown = [key for key in options if key not in _OPTIONS and key not in _NESTED and key not in stamps]
    if unknown:
        raise Malformed(f"a signature has the unknown option {unknown[0][:40]!r}")
    for key in _NESTED:
        for one in _listed(options.get(key)):
            _check_signature(one, count, depth + 1)


def _check_members(kind: Any, kwargs: Mapping[str, Any], count: list[int], depth: int) -> None:
    if not isinstance(kind, str) or kind not in _MEMBERS:
        raise Malformed("a signature is of an unknown kind")
    for key in _MEMBERS[kind]:
        if kwargs.get(key) is None:
            raise Malformed(f"a {kind} has no {key}")
        for one in _listed(kwargs[key]):
            _check_signature(one, count, depth + 1)
    if kind in ("chunks", "xmap", "xstarmap") and not isinstance(kwargs.get("it"), list | tuple):
        raise Malformed(f"a {kind} has nothing to go over")
    if kind == "chunks":
        count[0] += pieces(kwargs["it"], kwargs.get("n"))


def pieces(it: Any, n: Any) -> int:
    """Return how many messages chunks of ``n`` make of a list; all are made at once, in memory.

    Raises:
        Malformed: more than a message may ask for, or ``n`` is no size.
    """
    if not whole(1, 1_000_000)(n):
        raise Malformed("chunks have no size")
    made: int = -(-len(it) // n)
    if made > MAX_SIGNATURES:
        raise Malformed(f"chunks make more than {MAX_SIGNATURES} messages")
    return made


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
