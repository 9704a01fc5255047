"""The log, one line an event: Celery's layout for people, or JSON for machines (``FLEET_LOG=json``).

Stage: at start, by Celery's own signal. What this project logs is an event's name and ``key=value`` fields, as in
``job.buried job=%s code=%s``; the keys are read from there, so a value may hold anything. Celery's lines about a task
become events as well, such as ``task.succeeded``, and carry the job's id.
"""

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any

from celery import signals

from worker import settings

#: A placeholder of ``%`` formatting, with the key before it, if there is one.
_PLACE = re.compile(r"(?:(\w+)=)?%(?:%|[-#0 +]*\d*(?:\.\d+)?[a-zA-Z])")

#: An event's name, as in ``ledger.sent_again``.
_EVENT = re.compile(r"[a-z_]+(?:\.[a-z_]+)+(?= |$)")

#: Celery's lines about a task, before they are filled in.
_TASK = re.compile(r"Task %\(name\)s\[%\(id\)s\] (\w+|%\(description\)s)")

#: What Celery tells of a task that is worth a field; never its result or arguments.
_TASK_FIELDS = {"id": "job", "name": "task", "runtime": "runtime_s", "exc": "error"}

#: Most characters of one field.
MAX_TEXT = 2000


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON: time, level, event, its fields, and a traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Give the line; a newline inside a text is ``\\n`` there."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            **_content(record),
            "logger": record.name,
            "thread": record.threadName,
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def _content(record: logging.LogRecord) -> dict[str, Any]:
    """Find event and fields; a line of anybody else's is a ``log`` with its message."""
    template = record.msg if isinstance(record.msg, str) else ""
    task = _TASK.match(template)
    if task is not None and isinstance(record.args, dict):
        return _task_content(task[1], record.args)
    event = _EVENT.match(template)
    if event is not None and isinstance(record.args, tuple):
        return {"event": event[0], **_fields(template, record.args)}
    return {"event": "log", "message": record.getMessage()[:MAX_TEXT]}


def _fields(template: str, args: tuple[Any, ...]) -> dict[str, Any]:
    places = [place for place in _PLACE.finditer(template) if not place[0].endswith("%%")]
    keyed = zip(places, args, strict=False)
    return {place[1]: _plain(value) for place, value in keyed if place[1] is not None}


def _task_content(word: str, said: dict[str, Any]) -> dict[str, Any]:
    if word.startswith("%"):
        word = str(said.get("description", "ended")).split(" ", maxsplit=1)[0]
    fields = {field: _plain(said[key]) for key, field in _TASK_FIELDS.items() if said.get(key) is not None}
    return {"event": f"task.{word}", **fields}


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float) else str(value)[:MAX_TEXT]


def _choose(logger: logging.Logger, **_: Any) -> None:
    """Give the handlers that Celery has just made the formatter that was asked for."""
    if settings.load().log == "json":
        for handler in logger.handlers:
            handler.setFormatter(JsonFormatter())


def follow() -> None:
    """Have a say whenever Celery sets up its log."""
    signals.after_setup_logger.connect(_choose, weak=False)
    signals.after_setup_task_logger.connect(_choose, weak=False)
