"""A record becomes one line of JSON whose fields are those that the code named."""

import json
import logging
import sys
from typing import Any

from worker.logs import JsonFormatter


def line_of(message: str, *args: Any, **more: Any) -> dict[str, Any]:
    """Format a record as a worker would, and read it back."""
    record = logging.LogRecord("worker.somewhere", logging.WARNING, __file__, 1, message, args, more.get("exc_info"))
    text = JsonFormatter().format(record)
    assert "\n" not in text
    answer: dict[str, Any] = json.loads(text)
    return answer


def test_an_event_and_its_fields_are_read_from_where_the_code_names_them() -> None:
    """Given an event whose values hold spaces, signs and newlines, then each is in a field, numbers as numbers."""
    line = line_of("job.buried job=%s tries=%d seconds=%.2f error=%r", "a-b", 2, 0.125, ValueError("x=1 y=2\nz"))
    assert line["event"] == "job.buried"
    assert (line["job"], line["tries"], line["seconds"]) == ("a-b", 2, 0.125)
    assert line["error"] == "x=1 y=2\nz"
    assert (line["level"], line["logger"]) == ("warning", "worker.somewhere")
    assert line["time"].endswith("+00:00")


def test_an_event_without_fields_is_an_event() -> None:
    """Given a bare name, then it is the event and no message."""
    line = line_of("health.self_test_failed")
    assert line["event"] == "health.self_test_failed"
    assert "message" not in line


def test_celerys_lines_about_a_task_carry_its_id_and_not_its_result() -> None:
    """Given Celery's own templates, then they become events with job, task and runtime."""
    said = {"id": "j1", "name": "fleet.detect", "return_value": "secret", "runtime": 0.5}
    line = line_of("Task %(name)s[%(id)s] succeeded in %(runtime)ss: %(return_value)s", said)
    assert (line["event"], line["job"], line["task"], line["runtime_s"]) == (
        "task.succeeded",
        "j1",
        "fleet.detect",
        0.5,
    )
    assert "secret" not in str(line)
    failed = {"id": "j1", "name": "fleet.detect", "description": "raised expected", "exc": "InvalidImage('no')"}
    line = line_of("Task %(name)s[%(id)s] %(description)s: %(exc)s", failed)
    assert (line["event"], line["error"]) == ("task.raised", "InvalidImage('no')")


def test_what_anybody_else_says_is_a_message() -> None:
    """Given a sentence with a hundred percent in it, then it is kept whole."""
    line = line_of("Connected to %s, 100%% sure", "redis://127.0.0.1")
    assert (line["event"], line["message"]) == ("log", "Connected to redis://127.0.0.1, 100% sure")


def test_a_traceback_stays_on_the_line() -> None:
    """Given an exception, then its traceback is a field of the same line."""
    try:
        _ = {}["deep down"]
    except KeyError:
        line = line_of("job.internal_error job=%s", "j1", exc_info=sys.exc_info())
    assert line["job"] == "j1"
    assert "KeyError: 'deep down'" in line["traceback"]
