"""What a real run shows: requests overlap in our worker, images are read meanwhile, nobody waits for an inference."""

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import pytest

from producer import Client
from tests.conftest import cache
from tests.integration.kit import MODEL, Fleet
from worker.timeline import BLOCKED

Stretch = tuple[float, float]


def run(*words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run `fleet-worker timeline` as an operator would."""
    command = [str(Path(sys.executable).with_name("fleet-worker")), "timeline", *words]
    return subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=100, check=False
    )


class Process:
    """One server of a trace: its lanes, each with its stretches."""

    def __init__(self, events: list[dict[str, Any]], pid: int) -> None:
        mine = [one for one in events if one["pid"] == pid]
        rows = {one["tid"]: one["args"]["name"] for one in mine if one["name"] == "thread_name"}
        self.stretches: dict[str, dict[str, list[Stretch]]] = {lane: {} for lane in rows.values()}
        for one in mine:
            if one["ph"] == "X":
                found = self.stretches[rows[one["tid"]]].setdefault(one["name"], [])
                found.append((one["ts"], one["ts"] + one["dur"]))

    def of(self, *stages: str, lane: str = "") -> list[Stretch]:
        """Return the stretches of some stages, on lanes whose names begin so."""
        return sorted(
            stretch
            for name, found in self.stretches.items()
            for stage in stages
            for stretch in found.get(stage, [])
            if name.startswith(lane)
        )


def most_at_once(stretches: list[Stretch]) -> int:
    """Count how many run at once at most."""
    steps = sorted([(end, -1) for _, end in stretches] + [(begin, 1) for begin, _ in stretches])
    return max(itertools.accumulate(step for _, step in steps))


def overlap(left: list[Stretch], right: list[Stretch]) -> float:
    """Add up the microseconds that stretches of one list share with those of the other."""
    return sum(max(0.0, min(a[1], b[1]) - max(a[0], b[0])) for a in left for b in right)


@pytest.fixture(scope="module")
def pictures(store: Path, samples: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What one run of the command has written, and said, about both servers."""
    out = tmp_path_factory.mktemp("timeline")
    words = [str(samples / "astronaut.png"), str(samples / "grace_hopper.jpg"), "--seconds", "2", "--out", str(out)]
    done = run(*words, FLEET_MODEL_STORE=str(store), FLEET_CACHE_DIR=str(cache() / "compiled"), FLEET_DECODERS="2")
    assert done.returncode == 0, done.stderr
    return out, done.stdout


@pytest.fixture(scope="module")
def servers(pictures: tuple[Path, str]) -> list[Process]:
    """Our worker, the server of threads that start and wait, and the same without waiting, as the trace has them."""
    events = json.loads((pictures[0] / "trace.json").read_text())["traceEvents"]
    return [Process(events, pid) for pid in (1, 2, 3)]


def test_requests_overlap_in_our_worker_and_images_are_read_meanwhile(servers: list[Process]) -> None:
    """Given a real run, then inferences overlap, more images are in hand than threads, and none waits for its own."""
    ours = servers[0]
    inferring, reading = ours.of("infer"), ours.of("fetch", "decode")
    assert len(inferring) > 3
    assert most_at_once(inferring) >= 3  # with two decode threads
    assert overlap(inferring, reading) > 0
    assert ours.of(BLOCKED) == []
    for lane in ours.stretches:
        if lane.startswith("decode"):  # a thread's next image begins while its last one is still in inference
            own = ours.of("fetch", lane=lane)
            assert any(infer[0] < begin < infer[1] for begin, _ in own for infer in inferring)


def test_in_the_server_of_threads_that_wait_each_request_rests_while_its_thread_works(servers: list[Process]) -> None:
    """Given the other server, then a thread is blocked for as long as its request runs, and the request rests else."""
    theirs = servers[1]
    threads = [lane for lane in theirs.stretches if lane.startswith("thread")]
    assert len(threads) == 4
    for lane in threads:
        own = theirs.of("infer", lane=lane.replace("thread", "request"))
        assert own == theirs.of(BLOCKED, lane=lane)
        assert overlap(own, theirs.of("fetch", "decode", "finish", lane=lane)) < 1
    assert most_at_once(theirs.of("fetch", "decode", "infer", "finish", lane="request")) <= 4


def test_the_same_bare_server_has_more_in_flight_when_nobody_waits(servers: list[Process]) -> None:
    """Given the bare server without waiting, then inferences overlap with each other and with decoding."""
    inferring, reading = servers[2].of("infer"), servers[2].of("fetch", "decode")
    assert most_at_once(inferring) >= 3
    assert overlap(inferring, reading) > 0
    assert servers[2].of(BLOCKED) == []


@pytest.mark.parametrize("server", [0, 1, 2])
def test_no_lane_shows_two_things_at_once(servers: list[Process], server: int) -> None:
    """Given a real run, then on each thread and each request one stretch ends before the next begins."""
    for lane, found in servers[server].stretches.items():
        stretches = sorted(stretch for stage in found.values() for stretch in stage)
        for left, right in itertools.pairwise(stretches):
            assert left[1] - right[0] < 500, lane  # microseconds; a record's times come from two clocks


def test_all_pictures_are_drawn_and_their_figures_told(pictures: tuple[Path, str]) -> None:
    """Given the command, then it names each picture with its figures, and the pictures show more than paper."""
    out, said = pictures
    paths = re.findall(
        r"^(.+\.png): [\d.]+ images/s, [\d.]+ of 4 requests in flight, the network is busy \d+%", said, re.MULTILINE
    )
    assert [Path(path).parent for path in paths] == [out, out, out]
    for path in paths:
        picture = cv2.imread(path)
        assert picture.shape[1] == 1430
        assert len({tuple(colour) for colour in picture[::4, ::4].reshape(-1, 3).tolist()}) > 5


def test_a_worker_that_runs_already_is_recorded(fleet: Fleet, tmp_path: Path) -> None:
    """Given a fleet at work, when the command is run without photos, then it draws what the clients have it do."""
    with Client(fleet.url, model=MODEL) as client:
        answers = client.map(itertools.repeat(fleet.picture), window=16)
        command = [str(Path(sys.executable).with_name("fleet-worker")), "timeline", "--seconds", "0.6"]
        with subprocess.Popen(
            [*command, "--out", str(tmp_path)],
            env={**os.environ, "FLEET_URL": fleet.url},
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            while process.poll() is None:
                next(answers)
            said = process.stdout.read() if process.stdout else ""
        answers.close()
    assert process.returncode == 0
    name = fleet.worker.name.replace("@", "-")
    assert f"{tmp_path / name}.png" in said
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000


def test_a_fleet_at_rest_cannot_be_drawn_and_the_command_says_so(fleet: Fleet, tmp_path: Path) -> None:
    """Given nothing to do, then there is one sentence and exit status 1."""
    done = run("--seconds", "0.5", "--out", str(tmp_path / "none"), FLEET_URL=fleet.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: No worker did anything in 0.5 s.")
