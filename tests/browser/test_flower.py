"""Flower, as an operator uses it: workers, tasks, arguments and results, revoke, limits, and what it must refuse."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest
from selenium.webdriver import Chrome

from producer import Cancelled, Client, InvalidImage
from tests.browser.pages import WIDE, Flower
from tests.e2e.kit import answers, program, running
from tests.integration.kit import MODEL, ROOT, Fleet, small_picture
from tests.waiting import eventually
from worker import embedded
from worker.valkey import free_port

#: As in docker-compose.yml.
COLUMNS = "name,args,state,result,received,uuid"


@pytest.fixture(scope="module")
def fleet(store: Path, samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Give a server and a worker with a place for one job, so that a second one waits."""
    with embedded.server() as url:
        made = Fleet(url, store, tmp_path_factory.mktemp("fleet"), small_picture(samples))
        made.start(jobs=1)
        yield made
        made.close()


@pytest.fixture(scope="module")
def web(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the URL of a Flower on that server, started as compose does it."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [program("celery"), "-A", "worker.monitor", "flower", "--address=127.0.0.1", f"--port={port}"]
    log = tmp_path_factory.mktemp("flower") / "log"
    settings = {"FLOWER_BASIC_AUTH": "fleet:fleet", "FLOWER_TASKS_COLUMNS": COLUMNS}
    with running([*command, "--max-tasks=10000"], fleet.url, lambda: answers(url), log, cwd=ROOT, **settings):
        eventually(lambda: fleet.worker.name in workers(url), "the worker on Flower's list")
        yield url


def workers(url: str) -> dict[str, object]:
    """Ask Flower's API which workers there are."""
    answer: dict[str, object] = httpx.get(f"{url}/api/workers?refresh=1", auth=("fleet", "fleet"), timeout=30).json()
    return answer


def states(url: str) -> dict[str, str]:
    """Ask Flower's API for the tasks that it has heard of, and their states."""
    answer = httpx.get(f"{url}/api/tasks", auth=("fleet", "fleet"), timeout=30).json()
    return {task_id: one["state"] for task_id, one in answer.items()}


@pytest.fixture
def flower(browser: Chrome, web: str) -> Flower:
    """Give Flower in a browser that is wide enough for a table of tasks, and knows the password."""
    browser.set_window_size(WIDE, 1000)
    browser.get(web.replace("://", "://fleet:fleet@"))
    return Flower(browser, web)


@pytest.mark.parametrize("path", ["/", "/tasks", "/api/workers", "/api/tasks"])
def test_nobody_gets_in_without_the_password(web: str, path: str) -> None:
    """Given somebody without the password, or with another one, then Flower shows nothing."""
    assert httpx.get(web + path).status_code == 401
    assert httpx.get(web + path, auth=("fleet", "guess")).status_code == 401


def test_tasks_are_listed_with_readable_arguments_and_results(
    flower: Flower, fleet: Fleet, samples: Path, tmp_path: Path
) -> None:
    """Given jobs, good and bad, then list and page of each say which image it was and what became of it."""
    (tmp_path / "notes.jpg").write_text("no picture" * 100)
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(fleet.picture)
    with Client(fleet.url, model=MODEL) as client:
        for name in ("grace_hopper.jpg", "china.jpg", "flower.jpg", "astronaut.png"):
            client.detect(samples / name)
        job = client.submit(samples / "grace_hopper.jpg")
        assert job.result(30).detections
        many = client.submit_many([tmp_path / "a.jpg", tmp_path / "b.jpg"])
        assert len(many.result(30)) == 2
        bad = client.submit(tmp_path / "notes.jpg")
        with pytest.raises(InvalidImage):
            bad.result(30)

    eventually(lambda: states(flower.url).get(bad.id) == "FAILURE", "the last end in Flower, whose page stays as it is")
    flower.open("/tasks")
    flower.shows("grace_hopper.jpg", "#tasks-table")
    flower.shows("notes.jpg", "#tasks-table")
    flower.shows("FAILURE", "#tasks-table")
    flower.picture("tasks")
    flower.comes_to_show(f"/task/{job.id}", "SUCCESS")
    flower.shows("(grace_hopper.jpg, ", ".detail-code")
    flower.shows("1 on 512 x 600: face 0.", ".detail-code")
    flower.picture("task")
    flower.comes_to_show(f"/task/{bad.id}", "FAILURE")
    flower.shows("notes.jpg")
    flower.shows("InvalidImage")
    flower.picture("failed-task", highest=2000)


def test_workers_are_listed_with_their_pool(flower: Flower, fleet: Fleet) -> None:
    """Given a worker, then the first page lists it as online, and its own page shows our pool, queues and limits."""
    assert fleet.detect().get(timeout=30)
    flower.open("/")
    flower.shows(fleet.worker.name, "#workers-table")
    flower.shows("Online", "#workers-table")
    flower.picture("workers")
    flower.open(f"/worker/{fleet.worker.name}")
    flower.shows("Max concurrency", "#tab-pool")
    flower.picture("worker")
    flower.click("#worker-tab-queues")
    flower.shows(f"detect.{MODEL}", "#tab-queues")
    flower.click("#worker-tab-limits")
    flower.shows("fleet.detect", "#tab-limits")


def test_a_task_that_waits_is_revoked_from_its_page(flower: Flower, fleet: Fleet) -> None:
    """Given a job in a worker's hands that has not begun, when Revoke is clicked, then its caller gets Cancelled."""
    gate = fleet.gate().entered()
    with Client(fleet.url, model=MODEL) as client:
        job = client.submit(fleet.picture)
        flower.comes_to_show(f"/task/{job.id}", "RECEIVED")
        flower.click("#task-revoke")
        flower.says("Revoked")
        with pytest.raises(Cancelled):
            job.result(30)
        gate.open()
        assert client.detect(fleet.picture).width == 256
    assert gate.job.get(timeout=30) == "through"
    flower.comes_to_show(f"/task/{job.id}", "REVOKED")


def test_a_task_in_the_queue_is_revoked_by_its_id(web: str, fleet: Fleet) -> None:
    """Given a job that no worker has fetched, when Flower is told to revoke it, then it never begins."""
    gate = fleet.gate().entered()
    held = [fleet.detect() for _ in range(6)]
    eventually(lambda: fleet.queued() > 0, "a job that waits in Redis")
    done = httpx.post(f"{web}/api/task/revoke/{held[-1].id}", auth=("fleet", "fleet"), timeout=30)
    assert done.status_code == 200
    gate.open()
    assert all(job.get(timeout=30) for job in held[:-1])
    eventually(lambda: held[-1].state == "REVOKED", "the revocation")


def test_a_task_that_runs_is_terminated_from_its_page(flower: Flower, fleet: Fleet) -> None:
    """Given a job whose inference never ends, when Terminate is clicked, then it ends and its place is free."""
    job = fleet.user("hang", False)
    flower.comes_to_show(f"/task/{job.id}", "STARTED")
    flower.picture("running-task")
    flower.click("#task-terminate")
    flower.says("Revoked")
    eventually(lambda: job.state == "REVOKED", "the end")
    assert fleet.records("cancelled", job) == [""]
    assert fleet.detect().get(timeout=30)


def test_a_rate_limit_is_set_on_the_workers_page_and_holds(flower: Flower, fleet: Fleet) -> None:
    """Given a limit of one job an hour set in a browser, then a second job waits until the limit is taken away."""

    def limit(rate: int) -> None:
        flower.open(f"/worker/{fleet.worker.name}")
        flower.click("#worker-tab-limits")
        flower.shows("fleet.detect", "#limits-table")
        flower.fill("input[aria-label^='Rate limit for fleet.detect']:not([aria-label*='many'])", str(rate))
        flower.click("[id^='task-rate-limit-fleet.detect']:not([id*='many'])")

    limit(1)
    flower.says("rate limit set successfully")
    httpx.get(f"{flower.url}/api/workers?refresh=1", auth=("fleet", "fleet"), timeout=30)
    flower.open(f"/worker/{fleet.worker.name}")
    flower.click("#worker-tab-limits")
    flower.shows("[rate_limit=1]", "#limits-table")
    jobs = [fleet.detect() for _ in range(6)]
    seen = eventually(lambda: [job for job in jobs if job.ready()], "the first answer")
    assert len(seen) < len(jobs)
    assert any(not job.ready() for job in jobs)
    limit(0)
    flower.says("rate limit set successfully")
    assert all(job.get(timeout=30) for job in jobs)


def test_a_workers_limits_are_all_on_its_page(flower: Flower, fleet: Fleet) -> None:
    """Given a worker with the fleet's own tasks only, then their rows, and limits that are set, are all to be seen."""
    plain = fleet.start(extra=())
    eventually(lambda: plain.name in workers(flower.url), "the plain worker in Flower")
    fleet.app.control.rate_limit("fleet.detect", 20, destination=[plain.name], reply=True)
    eventually(lambda: "[rate_limit=20]" in str(workers(flower.url)[plain.name]), "the limit in Flower")
    flower.open(f"/worker/{plain.name}")
    flower.click("#worker-tab-limits")
    flower.shows("fleet.detect [rate_limit=20]", "#limits-table")
    flower.picture("limits")
    assert plain.stop() == 0


@pytest.mark.parametrize(
    ("click", "said"),
    [
        ("#worker-pool-grow", "This pool does not grow"),
        ("#worker-pool-shrink", "This pool does not shrink"),
        ("#worker-pool-autoscale", "Autoscale not enabled"),
        ("#worker-pool-restart", "Pool restarts not enabled"),
    ],
)
def test_buttons_that_do_not_fit_the_pool_say_why(flower: Flower, fleet: Fleet, click: str, said: str) -> None:
    """Given a button for pools of processes, when it is clicked, then it is told why not, and the worker works on."""
    flower.open(f"/worker/{fleet.worker.name}")
    if click == "#worker-pool-restart":
        flower.click("#worker-group")
    if click == "#worker-pool-autoscale":
        flower.fill("#min-autoscale", "1")
        flower.fill("#max-autoscale", "2")
    flower.click(click)
    flower.says(said)
    assert fleet.detect().get(timeout=30)


def test_the_api_tells_results_as_json(web: str, fleet: Fleet) -> None:
    """Given a job that is done, then Flower's API has its name, state, arguments and worker."""
    job = fleet.detect()
    assert job.get(timeout=30)

    def told() -> dict[str, object] | None:
        answer = httpx.get(f"{web}/api/task/info/{job.id}", auth=("fleet", "fleet"), timeout=30)
        info: dict[str, object] = json.loads(answer.text) if answer.status_code == 200 else {}
        return info if info.get("state") == "SUCCESS" else None

    info = eventually(told, "the task in Flower")
    assert (info["name"], info["worker"]) == ("fleet.detect", fleet.worker.name)


def test_a_worker_is_shut_down_from_its_page(flower: Flower, fleet: Fleet) -> None:
    """Given another worker, when Shut Down is clicked on its page, then it drains and ends well, and jobs go on."""
    other = fleet.start()
    eventually(lambda: other.name in workers(flower.url), "the other worker in Flower")
    flower.open(f"/worker/{other.name}")
    flower.click("#worker-group")
    flower.click("#worker-shutdown")
    flower.says("Shutting down!")
    assert other.wait(60) == 0
    assert fleet.detect().get(timeout=30)


def test_with_remote_control_off_its_buttons_say_so(flower: Flower, fleet: Fleet) -> None:
    """Given a worker as compose starts it, when its page is to change it, then Flower tells of the refusal.

    Flower sends Shut Down and waits for no answer; the worker works on.
    """
    guarded = fleet.start(remote_control="off")
    eventually(lambda: guarded.name in workers(flower.url), "the guarded worker in Flower")
    flower.open(f"/worker/{guarded.name}")
    flower.click("#worker-pool-grow")
    flower.says("FLEET_REMOTE_CONTROL is off")
    flower.click("#worker-tab-limits")
    flower.fill("input[aria-label^='Rate limit for fleet.detect']:not([aria-label*='many'])", "1")
    flower.click("[id^='task-rate-limit-fleet.detect']:not([id*='many'])")
    flower.says("FLEET_REMOTE_CONTROL is off")
    flower.click("#worker-group")
    flower.click("#worker-shutdown")
    flower.says("Shutting down!")
    assert fleet.app.control.ping(destination=[guarded.name], timeout=10, limit=1)  # it reads one after the other
    assert guarded.process.poll() is None
    assert guarded.stop() == 0
