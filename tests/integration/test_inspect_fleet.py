"""What a worker says of itself when it is asked: ``celery -A worker.app inspect fleet``."""

import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from producer import Client
from tests.integration.kit import MODEL, QUEUE, ROOT, USER_TASKS, Fleet
from tests.waiting import eventually
from worker.trail import STAGES

PLACES = 2
WORKER = {"extra": [*USER_TASKS, "-c", str(PLACES)], "requests": 3}


def ask(fleet: Fleet) -> dict[str, Any]:
    """Ask as an operator would."""
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "worker.app",
        "inspect",
        "--json",
        "-t",
        "20",
        "-d",
        fleet.worker.name,
        "fleet",
    ]
    environ = {**os.environ, "FLEET_URL": fleet.url}
    done = subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)[fleet.worker.name]
    return answer


def passages(fleet: Fleet) -> list[dict[str, Any]]:
    """Ask the worker which images it remembers."""
    found: list[dict[str, Any]] = fleet.inspect("_request", "fleet_passages")["passages"]
    return found


def test_an_operator_sees_models_requests_places_and_plan(fleet: Fleet) -> None:
    """Given a worker at rest, when it is asked, then its model, free requests, places and plan are told."""
    said = ask(fleet)
    assert set(said["models"]) == {MODEL}
    assert said["models"][MODEL]["requests"] == {"busy": 0, "free": 3}
    assert said["models"][MODEL]["digest"] == fleet.detect().get(timeout=30)["model_digest"]
    assert said["jobs"]["slots"] == PLACES
    assert said["plan"]["jobs"] > 0
    assert all(sentence.endswith(".") for sentence in said["plan"]["why"])


def test_an_operator_sees_what_waits(fleet: Fleet) -> None:
    """Given both places taken and jobs behind them, when the worker is asked, then it tells of both."""
    gates = [fleet.gate().entered() for _ in range(PLACES)]
    with Client(fleet.url, model=MODEL) as client:
        jobs = [client.submit(fleet.picture) for _ in range(10)]
        said = eventually(
            lambda: (found := fleet.inspect("_request", "fleet"))["queues"][QUEUE]["oldest_s"] and found, "a backlog"
        )
        assert said["jobs"]["in_flight"] == PLACES
        assert 0 < said["queues"][QUEUE]["waiting"] <= 10
        for gate in gates:
            gate.open()
        for job in jobs:
            job.result(timeout=30)


@pytest.mark.parametrize("batch", [1, 8])
def test_the_percentiles_are_those_of_what_clients_were_told(fleet: Fleet, batch: int) -> None:
    """Given forty images and a bad one, then the worker remembers the times of the results, and their percentiles."""
    before = len(passages(fleet))
    with Client(fleet.url, model=MODEL) as client:
        answers = list(client.map([fleet.picture] * 40 + [b"no picture" * 300], batch=batch))
    told = [dict(answer.result.timings_ms) for answer in answers if answer.result is not None]
    assert len(told) == 40

    every = eventually(lambda: len(found := passages(fleet)) == before + 41 and found, "the last image")

    new = every[before:]
    assert [one["code"] for one in new if one["code"] != "ok"] == ["invalid_image"]
    remembered = [one["stages_ms"] for one in new if one["code"] == "ok"]
    assert sorted(remembered, key=str) == sorted(told, key=str)
    model = fleet.inspect("_request", "fleet")["models"][MODEL]
    assert model["last_images"] == len(every)
    assert model["failed"] == sum(one["code"] != "ok" for one in every)
    for stage in STAGES:
        values = [one["stages_ms"][stage] for one in every if stage in one["stages_ms"]]
        expected = {f"p{part}": np.percentile(values, part, method="inverted_cdf") for part in (50, 95, 99)}
        assert model["stages_ms"][stage] == pytest.approx(expected, abs=0.006), stage


def test_a_passage_says_when_where_and_how_long(fleet: Fleet) -> None:
    """Given a job, when the worker is asked for what it did, then the job's way is there with thread and request."""
    job = fleet.detect()
    stages = job.get(timeout=30)["timings_ms"]
    said = eventually(
        lambda: (found := fleet.inspect("_request", "fleet_passages"))["passages"][-1]["job"] == job.id and found,
        "the job",
    )
    passage = said["passages"][-1]
    assert passage["stages_ms"] == stages
    assert passage["thread"].startswith("decode")
    assert 0 <= passage["slot"] < said["requests"][MODEL] == 3
    assert passage["bytes"] == len(fleet.picture)
    assert passage["begun_at"] + sum(stages.values()) / 1000 - stages["queued"] / 1000 <= said["now"]
    later = fleet.app.control.inspect(destination=[fleet.worker.name], timeout=5)._request(
        "fleet_passages", since=passage["begun_at"] + 0.001
    )
    assert later[fleet.worker.name]["passages"] == []
