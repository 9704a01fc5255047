"""Metrics, traces, `fleet status` and the client tell the same of batches, and of jobs whose worker was killed."""

import tempfile
from collections import Counter
from pathlib import Path

from producer import Client
from tests.integration.kit import MODEL, Fleet
from tests.integration.test_metrics import Scraped, spans, status_of
from tests.waiting import eventually
from worker.valkey import free_port

IMAGES, BAD, BATCH = 1000, 20, 20

PORT = free_port()
_FOLDER = tempfile.TemporaryDirectory(prefix="fleet-traces-")  # goes when this process ends
FOLDER = Path(_FOLDER.name)

#: Jobs of a dead worker come back soon.
WORKER = {"metrics_port": PORT, "traces": f"file:{FOLDER / 'first'}", "lease_s": 2}


def images(fleet: Fleet) -> list[bytes]:
    """Give a thousand images; each fiftieth is bad."""
    return [b"no picture" * 300 if index % (IMAGES // BAD) == 7 else fleet.picture for index in range(IMAGES)]


def seen_by_client(fleet: Fleet, *, batch: int, at_300: object = None) -> Counter[str]:
    """Send them all, and count the answers by their code; call ``at_300`` when so many are there."""
    counted: Counter[str] = Counter()
    with Client(fleet.url, model=MODEL) as client:
        for number, answer in enumerate(client.map(images(fleet), window=128, batch=batch)):
            counted[answer.error.code if answer.error else "ok"] += 1
            if number == 300 and callable(at_300):
                at_300()
    return counted


def at_rest(fleet: Fleet) -> Scraped:
    """Wait until nothing is held, waits or is on the ledger; give what metrics say then."""

    def quiet() -> Scraped | None:
        said = Scraped(PORT)
        held = said.value("fleet_jobs_held") + said.value("fleet_queue_jobs") + said.value("fleet_jobs_in_flight")
        return said if held == 0 and status_of(fleet.url)["ledger"] == 0 else None

    said: Scraped = eventually(quiet, "rest", 60)
    return said


def jobs_of(path: Path) -> list[str]:
    """Give the ids of the jobs that a worker traced, each as often as it did it."""
    return [one["attributes"]["messaging.message.id"] for one in spans(path) if one["name"] == "fleet job"]


def test_all_agree_on_batches(fleet: Fleet) -> None:
    """Given 1,000 images of which 20 are bad, 20 a message, then jobs and images are counted as the client has them."""
    before, traced_before = Scraped(PORT), len(spans(FOLDER / "first"))
    truth = seen_by_client(fleet, batch=BATCH)
    assert truth == {"ok": IMAGES - BAD, "invalid_image": BAD}
    said = at_rest(fleet)
    for code, number in truth.items():
        assert said.since(before, "fleet_images_total", model=MODEL, code=code) == number, code
    assert said.since(before, "fleet_jobs_total", model=MODEL, code="ok") == IMAGES // BATCH
    assert said.since(before, "fleet_jobs_total") == IMAGES // BATCH
    new = spans(FOLDER / "first")[traced_before:]
    jobs = [one["attributes"] for one in new if one["name"] == "fleet job"]
    assert len({one["messaging.message.id"] for one in jobs}) == len(jobs) == IMAGES // BATCH
    assert sum(one["fleet.images"] for one in jobs) == IMAGES
    traced = Counter(one["name"] for one in new)
    assert traced["fleet fetch"] == said.since(before, "fleet_stage_duration_seconds_count", stage="fetch") == IMAGES
    assert traced["fleet infer"] == said.since(before, "fleet_stage_duration_seconds_count", stage="infer")
    assert traced["fleet infer"] == IMAGES - BAD


def test_all_agree_when_a_worker_is_killed_with_jobs_in_hand(fleet: Fleet) -> None:
    """Given 1,000 jobs and two workers, one of them killed, then each is answered once, and what came again is told."""
    before, done_before = Scraped(PORT), len(jobs_of(FOLDER / "first"))
    other = fleet.start(traces=f"file:{FOLDER / 'second'}", lease_s=2)
    truth = seen_by_client(fleet, batch=1, at_300=other.kill)
    assert truth == {"ok": IMAGES - BAD, "invalid_image": BAD}
    said = at_rest(fleet)
    here, there = jobs_of(FOLDER / "first")[done_before:], jobs_of(FOLDER / "second")
    assert 0 < len(there) < IMAGES
    assert len(set(here)) == len(here) == said.since(before, "fleet_jobs_total")
    came_again = said.since(before, "fleet_redeliveries_total")
    recognised = said.since(before, "fleet_duplicates_total")
    assert came_again > 0
    assert said.since(before, "fleet_lapsed_leases_total") == status_of(fleet.url)["counters"]["lapsed"] > 0  # type: ignore[index]
    # What the dead worker had answered is not done again; what it died over between answer and span, nobody traced, and
    # that was no more than it had places for.
    assert len(set(here) & set(there)) <= came_again - recognised
    assert 0 <= IMAGES - len(set(here) | set(there)) <= recognised + said.value("fleet_job_slots")
    status = status_of(fleet.url)
    assert status["counters"]["redelivered"] == said.value("fleet_redeliveries_total")  # type: ignore[index]
    assert status["counters"].get("answered_before", 0) == said.value("fleet_duplicates_total")  # type: ignore[attr-defined]
    assert status["in_flight"] == status["dead"] == said.value("fleet_dead_jobs") == 0
