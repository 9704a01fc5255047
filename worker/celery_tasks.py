"""What Celery's own tasks may be asked: they are in every worker, and take signatures as plain arguments.

Stage: under :mod:`worker.screen`, beside :mod:`worker.workflows`, which looks at the signatures. Pure. Unlooked at,
``celery.group`` alone would send anything to any Redis list in any serializer, pickle too.

Mirrors celery 5.7: ``celery.app.builtins``, and ``celery.canvas`` for who still sends which: ``map`` and ``starmap``,
which ``chunks`` are sent as, and ``accumulate``, behind a task that replaces itself with a group. The others are kept
by Celery for messages of old versions, or repeat for ever (``chord_unlock``), and are refused.
"""

import inspect
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

from worker.shapes import whole
from worker.workflows import Malformed, check_signature, pieces

#: How the names of Celery's tasks begin.
PREFIX = "celery."

#: Tasks that one thread may call one after the other: a detection has a stage of its own, which only a message begins.
_NOT_CALLED = (PREFIX, "fleet.")


def check_call(task: str, args: Sequence[Any], kwargs: Mapping[str, Any], tasks: Container[str]) -> None:
    """Look at a message for one of Celery's own tasks.

    Raises:
        Malformed: it is refused altogether, or its arguments do not fit.
    """
    check = _ALLOWED.get(task)
    if check is None:
        raise Malformed(f"{task} is none of Celery's tasks that may be asked for")
    try:
        given = inspect.signature(check).bind(tasks, *args, **kwargs)
    except TypeError as error:
        raise Malformed(f"{task}: {error}") from error
    check(*given.args, **given.kwargs)


def _cleanup(_tasks: Container[str], /) -> None:
    """Nothing is asked."""


def _accumulate(_tasks: Container[str], /, *args: Any, index: Any = None, **_: Any) -> None:
    if index is not None and not whole(-len(args), len(args) - 1)(index):
        raise Malformed("celery.accumulate has no argument of this index")


def _map(tasks: Container[str], /, task: Any, it: Any) -> None:
    check_signature(task)
    if task["task"] not in tasks or task["task"].startswith(_NOT_CALLED):
        raise Malformed(f"this worker cannot call {task['task'][:100]!r} for each of a list")
    if not isinstance(it, list | tuple):
        raise Malformed("there is no list to go over")


def _starmap(tasks: Container[str], /, task: Any, it: Any) -> None:
    _map(tasks, task, it)
    if not all(isinstance(one, list | tuple) for one in it):
        raise Malformed("celery.starmap goes over lists of arguments")


def _chunks(tasks: Container[str], /, task: Any, it: Any, n: Any) -> None:
    _starmap(tasks, task, it)
    pieces(it, n)


_ALLOWED: Mapping[str, Callable[..., None]] = {
    "celery.backend_cleanup": _cleanup,
    "celery.accumulate": _accumulate,
    "celery.map": _map,
    "celery.starmap": _starmap,
    "celery.chunks": _chunks,
}
