"""With remote control off a worker answers questions and revokes jobs, and lets nobody change it."""

from typing import Any

import pytest

from producer import Cancelled, Client
from tests.integration.kit import Fleet
from tests.waiting import eventually

#: One place, so that a second job waits.
WORKER = {"remote_control": "off", "jobs": 1}


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("shutdown", {}),
        ("pool_grow", {"n": 1}),
        ("pool_shrink", {"n": 1}),
        ("pool_restart", {}),
        ("autoscale", {"max": 2, "min": 1}),
        ("add_consumer", {"queue": "elsewhere"}),
        ("cancel_consumer", {"queue": "fleet"}),
        ("rate_limit", {"task_name": "fleet.detect", "rate_limit": "1/h"}),
        ("time_limit", {"task_name": "fleet.detect", "hard": 1}),
        ("disable_events", {}),
        ("terminate", {"task_id": "x", "signal": "KILL"}),
        ("revoke_by_stamped_headers", {"headers": {"a": "b"}}),
        ("election", {"id": "x", "topic": "task"}),
        ("swap_model", {"version": "blazeface_short@2"}),
        ("canary_model", {"version": "blazeface_short@2", "share": 0.5}),
        ("objgraph", {}),
        ("memdump", {}),
    ],
)
def test_what_changes_a_worker_is_refused(fleet: Fleet, command: str, arguments: dict[str, Any]) -> None:
    """Given the command, then the answer says why not, and the worker works on."""
    assert fleet.order(command, **arguments) == {"error": f"{command} is refused: FLEET_REMOTE_CONTROL is off."}
    assert fleet.user("echo", 1).get(timeout=30)
    eventually(lambda: f"control.refused command={command}" in fleet.worker.log, "a line in the log")


@pytest.mark.parametrize("question", ["ping", "stats", "conf", "active", "reserved", "scheduled", "active_queues"])
def test_questions_are_answered(fleet: Fleet, question: str) -> None:
    """Given a question, then it is answered as ever."""
    assert "error" not in (fleet.inspect(question) or {})


def test_jobs_are_cancelled_as_ever(fleet: Fleet) -> None:
    """Given a busy worker and a job that waits in it, then cancelling it ends it."""
    gate = fleet.gate().entered()
    with Client(fleet.url) as client:
        job = client.submit(fleet.picture, model="blazeface_short")
        assert job.cancel()
        with pytest.raises(Cancelled):
            job.result(30)
        gate.open()
        assert client.detect(fleet.picture, model="blazeface_short").width == 256
    assert gate.job.get(timeout=30) == "through"
