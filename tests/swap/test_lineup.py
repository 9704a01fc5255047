"""A version that was replaced ends its jobs, and then leaves nothing behind."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import pytest

from producer.wire import Options
from tests.hazards import networks
from tests.integration.kit import ROOT
from tests.waiting import eventually
from worker.cpu import Plan
from worker.detector import Detector
from worker.inference import QueueClosedError
from worker.model_toml import ModelSpec
from worker.network import Network
from worker.outcome import Request
from worker.settings import Settings


def tiny(version: int) -> Network:
    """Make a version of one of the hazard tests' networks."""
    spec = ModelSpec("tiny", "net.xml", "none", (2, 2), ("thing",), version=version)
    return Network(spec, f"{version:016}", networks.compiled(networks.lasting), 2)


def picture(rounds: int = 0) -> dict[str, bytes]:
    """Make an image whose inference takes so many rounds of half a millisecond."""
    return {"data": cv2.imencode(".png", networks.tensor(1, first=rounds)[0])[1].tobytes()}


@pytest.fixture
def detector(server: str):
    """A detector with version 1."""
    made = Detector([tiny(1)], Settings(url=server, requests=2), Plan(2, 2, 8, ()))
    yield made
    made.close()


def test_what_runs_in_the_old_version_ends_there_and_what_comes_gets_the_new(detector: Detector) -> None:
    """Given a long inference, when the version changes, then it ends as it began, and only then the old one goes."""
    lineup = detector.lineups["tiny"]
    old, following = lineup.current, detector.serve(tiny(2))
    running = detector.start(Request([picture(20_000)] * 3, Options(), job_id="old"))
    lineup.set(following)
    new = detector.start(Request([picture()], Options(), job_id="new"))

    assert new.result(20)[0].network.digest == f"{2:016}"
    assert not running.done()
    assert lineup.leaving() == [old]
    draining = [one for one in detector.stats()["tiny"]["versions"] if one["draining"]]
    assert [one["version"] for one in draining] == [1]
    assert {(one.network.digest, one.error) for one in running.result(60)} == {(f"{1:016}", None)}
    eventually(lambda: not lineup.leaving(), "the end of the old version")
    with pytest.raises(QueueClosedError):
        old.queue.submit(networks.tensor(1))


def test_a_health_check_that_meets_a_swap_is_no_alarm(detector: Detector) -> None:
    """Given checks at every moment of many swaps, then none of them says that a network failed."""
    checks = []
    for version in range(2, 30):
        checks.append(detector.check())
        detector.lineups["tiny"].set(detector.serve(tiny(version)))
        checks.append(detector.check())
    assert all(check.result(30) for check in checks)


def test_a_detector_that_closes_ends_what_old_versions_still_do(detector: Detector) -> None:
    """Given a job in a version that was replaced, when the worker stops, then the job ends too."""
    following = detector.serve(tiny(2))  # shares the compiled network, which makes no requests while it runs
    running = detector.start(Request([picture(60_000)], Options(), job_id="old"))
    eventually(lambda: detector.queues["tiny"].in_flight, "the inference")
    detector.lineups["tiny"].set(following)
    detector.close()
    assert running.result(10)[0].error.code == "cancelled"


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_jobs_are_shared_out_evenly_and_always_alike(detector: Detector, share: float) -> None:
    """Given a thousand jobs, then the canary gets its part of them, and twice the same ones."""
    lineup = detector.lineups["tiny"]
    first, canary = lineup.current, detector.serve(tiny(2))
    lineup.set(first, canary, share)
    taken = [[lineup.take(f"job-{number}") for number in range(1000)] for _ in range(2)]
    for one in (*taken[0], *taken[1]):
        one.leave()

    assert taken[0] == taken[1]
    assert Counter(taken[0])[canary] == pytest.approx(1000 * share, abs=60 if 0 < share < 1 else 0)


def test_the_memory_of_old_versions_is_given_back(tmp_path: Path) -> None:
    """Given networks of 24 MiB that replace each other a dozen times, then the process does not grow."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.swap.memory_child", str(tmp_path), "12"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    early, late = map(float, done.stdout.split()[-2:])
    assert late < early + 40, (early, late)
