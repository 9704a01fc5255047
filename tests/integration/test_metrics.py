"""What Prometheus reads of a worker: the truth, in Prometheus' own terms."""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from producer import Client
from producer.envelope import task_message
from producer.wire import TASK_DETECT
from tests.integration.kit import MODEL, QUEUE, Fleet
from tests.waiting import eventually
from worker.trail import STAGES
from worker.valkey import free_port

#: How many of the thousand are bad: no pictures, references to bytes that are not there, and for a model nobody has.
JOBS, NO_PICTURE, NO_BYTES, NO_MODEL = 1000, 10, 7, 3

ROOT = Path(__file__).parents[2]
OBSERVABILITY = ROOT / "deploy" / "observability"

PORT = free_port()
_FOLDER = tempfile.TemporaryDirectory(prefix="fleet-traces-")  # goes when this process ends
TRACES = Path(_FOLDER.name) / "spans.jsonl"
WORKER = {"metrics_port": PORT, "traces": f"file:{TRACES}"}


class Scraped:
    """What a worker said when it was asked."""

    def __init__(self, port: int = PORT) -> None:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            self.text = answer.read().decode()
        self.families = {family.name: family for family in text_string_to_metric_families(self.text)}
        self.samples = [sample for family in self.families.values() for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of that name and those labels."""
        return sum(one.value for one in self.samples if one.name == name and labels.items() <= one.labels.items())

    def since(self, before: "Scraped", name: str, **labels: str) -> float:
        """Return by how much a counter has grown."""
        return self.value(name, **labels) - before.value(name, **labels)


def at_rest() -> Scraped:
    """Scrape the worker when it has counted every job before: it counts a moment after the answer is there."""
    eventually(lambda: Scraped().value("fleet_jobs_in_flight") == 0, "rest")
    return Scraped()


def status_of(url: str) -> dict[str, object]:
    """Ask `fleet status` as a user would."""
    command = [str(Path(sys.executable).with_name("fleet")), "status", "--json", "--url", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=dict(os.environ))
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def spans(path: Path = TRACES) -> list[dict[str, Any]]:
    """Read the worker's spans; the last line may not be whole yet."""
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []


def test_metrics_traces_and_status_agree_with_the_truth_on_a_thousand_jobs(fleet: Fleet) -> None:
    """Given 1,000 jobs of which 20 are bad, then metrics, traces, status and the answers tell the same of them."""
    before, spans_before = at_rest(), len(spans())
    bad = {index * 50: b"no picture" * 300 for index in range(NO_PICTURE)}
    images = [bad.get(index, fleet.picture) for index in range(JOBS - NO_BYTES - NO_MODEL)]
    with Client(fleet.url, model=MODEL) as client:
        answers = [answer.error for answer in client.map(images, window=128)]
    missing = [fleet.detect({"ref": f"fleet:blob:nothing{index}"}) for index in range(NO_BYTES)]
    missing += [fleet.detect(options={"model": "nobody"}) for _ in range(NO_MODEL)]
    codes = [type(job.get(timeout=30, propagate=False)).__name__ for job in missing]
    assert codes == ["PayloadMissing"] * NO_BYTES + ["UnknownModel"] * NO_MODEL
    assert [error.code for error in answers if error is not None] == ["invalid_image"] * NO_PICTURE

    def all_counted() -> Scraped | None:  # a moment after the answer is there; the message leaves a moment later
        said = Scraped()
        held = said.value("fleet_jobs_held") + said.value("fleet_queue_jobs") + said.value("fleet_jobs_in_flight")
        return said if said.since(before, "fleet_jobs_total") == JOBS and held == 0 else None

    said = eventually(all_counted, "a thousand jobs in the metrics")

    good = JOBS - NO_PICTURE - NO_BYTES - NO_MODEL
    begun = {"ok": good, "invalid_image": NO_PICTURE, "payload_missing": NO_BYTES}
    for code, jobs in begun.items():
        assert said.since(before, "fleet_images_total", model=MODEL, code=code) == jobs, code
    for code, jobs in {**begun, "unknown_model": NO_MODEL}.items():
        assert said.since(before, "fleet_jobs_total", model=MODEL, code=code) == jobs, code
    times = {"queued": good, "fetch": JOBS - NO_MODEL, "decode": good, "wait": good, "infer": good, "finish": good}
    for stage, count in times.items():
        assert said.since(before, "fleet_stage_duration_seconds_count", model=MODEL, stage=stage) == count, stage
    new = spans()[spans_before:]
    jobs_traced = [one["attributes"] for one in new if one["name"] == "fleet job"]
    assert Counter(one["fleet.code"] for one in jobs_traced) == {**begun, "unknown_model": NO_MODEL}
    assert len({one["messaging.message.id"] for one in jobs_traced}) == JOBS
    traced = Counter(one["name"].removeprefix("fleet ") for one in new)
    assert {stage: traced[stage] for stage in times} == times
    assert said.since(before, "fleet_image_bytes_total", model=MODEL) == sum(len(image) for image in images)
    status = status_of(fleet.url)
    assert status["in_flight"] == said.value("fleet_jobs_held") == said.value("fleet_jobs_in_flight") == 0
    assert status["dead"] == said.value("fleet_dead_jobs") == 0
    assert status["ledger"] == 0
    assert len(status["workers"]) == said.value("fleet_workers") == 1  # type: ignore[arg-type]
    (queue,) = [one for one in status["queues"] if one["queue"] == QUEUE]  # type: ignore[attr-defined]
    assert queue["waiting"] == said.value("fleet_queue_jobs", model=MODEL) == 0
    assert status["models"][MODEL]["digest"] == _digest(said)  # type: ignore[index]


def _digest(said: Scraped) -> str:
    (digest,) = [one.labels["digest"] for one in said.samples if one.name == "fleet_model_info"]
    return digest


def test_alerts_and_dashboard_name_only_what_a_worker_shows(fleet: Fleet) -> None:
    """Given a worker that has answered, then each metric of rules, tries and dashboard is in its scrape."""
    assert fleet.detect().get(timeout=30)["v"] == 1
    shown = {one.name for one in Scraped().samples}
    for name in ("alerts.yml", "alerts.test.yml", "grafana/dashboards/fleet.json"):
        text = (OBSERVABILITY / name).read_text()
        used = set(re.findall(r"\b(?:fleet|process)_[a-z_]+[a-z]\b(?=[{)\[, ]|$)", text, re.MULTILINE))
        assert len(used) > 5
        assert used <= shown, used - shown
    said = (ROOT / "docs" / "observability.md").read_text()
    ours = {family.name for family in Scraped().families.values() if family.name.startswith("fleet_")}
    assert {name for name in ours if name not in said} == set()


def test_the_metrics_keep_to_the_conventions(fleet: Fleet) -> None:
    """Given a scrape, then every name of ours has its prefix, help, and a base unit; counters end in _total."""
    assert fleet.detect().get(timeout=30)["v"] == 1
    said = Scraped()
    ours = [family for family in said.families.values() if not family.name.startswith("process_")]
    for family in ours:
        assert family.name.startswith("fleet_")
        assert family.documentation.endswith((".", "none.")), family.name
        assert "_ms" not in family.name
        if family.type == "counter":
            assert all(one.name.endswith("_total") for one in family.samples), family.name
    stages = {one.labels["stage"] for one in said.samples if one.name == "fleet_stage_duration_seconds_count"}
    assert stages == set(STAGES)
    assert said.value("fleet_job_slots") > 0
    assert said.value("fleet_infer_requests", model=MODEL) >= said.value("fleet_infer_requests_busy", model=MODEL)


def test_what_waits_is_seen_with_its_age(fleet: Fleet) -> None:
    """Given more work than there are places, then the scrape shows jobs that wait, their age, and full places."""
    slots = int(Scraped().value("fleet_job_slots"))
    gates = [fleet.gate().entered() for _ in range(slots)]
    with Client(fleet.url, model=MODEL) as client:
        jobs = [client.submit(fleet.picture) for _ in range(4 * slots)]

        def grown() -> Scraped | None:
            said = Scraped()
            waits = said.value("fleet_queue_jobs", model=MODEL) > 0
            return said if waits and said.value("fleet_queue_age_seconds", model=MODEL) >= 1 else None

        said = eventually(grown, "a backlog of a second")
        assert said.value("fleet_jobs_in_flight") == slots
        for gate in gates:
            gate.open()
        for job in jobs:
            job.result(timeout=30)


def test_a_stranger_cannot_fill_the_metrics_with_names(fleet: Fleet) -> None:
    """Given messages with names of queues and tasks that nobody has, then they are counted, and the names are not."""
    before = at_rest()
    for number in range(3):
        for task in (TASK_DETECT, f"nonsense.task{number}"):
            message = task_message(
                task_id=f"stranger{number}.{task}",
                task=task,
                queue=f"detect.nonsense{number}",
                args=[fleet.image],
                kwargs={},
                expires="2100-01-01T00:00:00+00:00",
                priority=0,
                argsrepr="",
                kwargsrepr="",
            )
            fleet.redis.lpush(QUEUE, message.body)

    def counted() -> Scraped | None:
        said = Scraped()
        return said if said.since(before, "fleet_jobs_total") == 6 else None

    said = eventually(counted, "all six")
    assert said.since(before, "fleet_jobs_total", code="invalid_request") == 3
    assert {one.labels["model"] for one in said.samples if one.name == "fleet_jobs_total"} <= {MODEL, "unknown"}


def test_a_job_that_never_began_is_counted_by_what_ended_it(fleet: Fleet) -> None:
    """Given a job past its time and one that is revoked in hand, then each is counted under its own code."""
    before = at_rest()
    late = fleet.detect(expires=-1)
    slots = int(before.value("fleet_job_slots"))
    gates = [fleet.gate().entered() for _ in range(slots)]
    unwanted = fleet.detect()
    eventually(lambda: fleet.inspect("reserved"), "the reservation")
    fleet.revoke(unwanted.id)
    for gate in gates:
        gate.open()
    for job in (late, unwanted):
        assert job.get(timeout=30, propagate=False) is not None

    def counted() -> bool:
        said = Scraped()
        codes = ("deadline_exceeded", "cancelled")
        return all(said.since(before, "fleet_jobs_total", model=MODEL, code=code) == 1 for code in codes)

    eventually(counted, "both codes")


def test_metrics_are_served_while_redis_is_away(fleet: Fleet) -> None:
    """Given a server that does not answer, when metrics are asked for, then they come, and say so."""
    assert Scraped().value("fleet_redis_up") == 1
    fleet.redis.client_pause(3800)
    said = eventually(lambda: (said := Scraped()).value("fleet_redis_up") == 0 and said, "the loss")
    assert said.value("fleet_job_slots") > 0
    assert "fleet_queue_jobs" not in said.families
    eventually(lambda: Scraped().value("fleet_redis_up") == 1, "the return")


def test_a_port_that_is_taken_ends_the_worker_with_one_sentence(fleet: Fleet) -> None:
    """Given a port that another program has, when a worker starts, then it ends and says what to change."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        worker = fleet.start(metrics_port=taken.getsockname()[1], ready=False)
        assert worker.wait(60) != 0
    fleet.workers.remove(worker)
    assert "Set FLEET_METRICS_PORT" in worker.log
    assert "Traceback" not in worker.log
