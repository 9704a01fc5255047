"""Whatever is wrong with a version, the one that serves stays, and the operator is told the reason."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op

from tests.integration.kit import ROOT
from tests.swap.conftest import Marks
from tests.swap.versions import NAME, SIDE, marking
from worker import models, room
from worker.models import ModelError


def _file_is_broken(folder: Path) -> None:
    (folder / "marking40.xml").write_text("<net>")


def _file_is_another(folder: Path) -> None:
    ov.save_model(marking(7), folder / "marking40.xml", compress_to_fp16=False)


def _network_is_gone(folder: Path) -> None:
    (folder / "marking40.xml").unlink()


def _description_is_wrong(folder: Path) -> None:
    text = (folder / "model.toml").read_text()
    (folder / "model.toml").write_text(text + "colour = 7\n".replace("colour", "shade"))


def _has_another_head(folder: Path) -> None:
    _rewrite(folder, 'head = "yolov10"', 'head = "centerface"')


def _has_other_labels(folder: Path) -> None:
    _rewrite(folder, '["mark", "other"]', '["cat", "other"]')


def _finds_nothing_in_its_sample(folder: Path) -> None:
    cv2.imwrite(str(folder / "sample.png"), np.zeros((SIDE, SIDE, 3), np.uint8))
    _rewrite(folder, "min_score = ", "min_score = 0.95 #")


def _has_a_sample_that_is_none(folder: Path) -> None:
    (folder / "sample.jpg").write_bytes(b"no picture")


def _takes_all_memory(folder: Path) -> None:
    """Sum up a matrix of eight terabytes, which no host has the memory for."""
    network = marking(40)
    rows = network.outputs[0].get_node().input_value(0)
    matrix = op.broadcast(op.reduce_mean(rows, np.array([0, 1, 2]), False), np.array([1 << 20, 1 << 20]))
    most = op.reduce_max(op.cum_sum(matrix, np.int64(1)), np.array([0, 1]), False)
    more = op.add(rows, op.reshape(most, np.array([1, 1, 1]), False))
    ov.save_model(ov.Model([more], network.get_parameters(), "greedy"), folder / "greedy.xml", compress_to_fp16=False)
    _rewrite(folder, 'file = "marking40.xml"', 'file = "greedy.xml"')
    _rewrite(folder, 'digest = "', f'digest = "{models.digest(folder / "greedy.xml")}" # "')


def _rewrite(folder: Path, old: str, new: str) -> None:
    text = (folder / "model.toml").read_text()
    assert old in text
    (folder / "model.toml").write_text(text.replace(old, new))


BAD = [
    (_file_is_broken, "is not the network that was added"),
    (_file_is_another, "is not the network that was added"),
    (_network_is_gone, "names the network 'marking40.xml', which is not there"),
    (_description_is_wrong, "unknown field 'shade'"),
    (_has_another_head, "cannot be built from marking40.xml"),
    (_has_other_labels, "Its labels (cat, other) are not those of version 1 (mark, other)"),
    (_finds_nothing_in_its_sample, "finds nothing with a score of 0.95 in its sample picture sample.png"),
    (_has_a_sample_that_is_none, "Its sample picture sample.jpg cannot be read"),
    (_takes_all_memory, "There is not enough memory for it beside the running version"),
]


def test_a_bad_version_is_refused_with_its_reason_and_the_old_one_serves_on(marks: Marks) -> None:
    """Given versions that are bad in one way each, then each is refused for it, and a good one is taken after all."""
    worker = marks.start()
    good = (marks.store / "marks@2").rename(marks.folder / "good")
    for spoil, reason in BAD:
        subprocess.run(["cp", "-r", good, marks.store / "marks@2"], check=True)
        spoil(marks.store / "marks@2")

        said = marks.try_to_swap("marks@2")

        assert said["state"] == "failed", spoil
        assert reason in said["reason"], (spoil, said)
        assert marks.number_of(marks.ask(), 100) == 1
        subprocess.run(["rm", "-r", marks.store / "marks@2"], check=True)
    assert worker.log.count("version.refused") == len(BAD)
    good.rename(marks.store / "marks@2")
    assert marks.try_to_swap("marks@2")["state"] == "serving"
    assert marks.number_of(marks.ask(), 100) == 2


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("marks@9", "There is no version 'marks@9'"),
        ("marks", "A version is written NAME@NUMBER, such as faces@2, not 'marks'."),
        ("../x@2", "This worker does not serve the model '../x'; it serves marks."),
        ("other@2", "This worker does not serve the model 'other'; it serves marks."),
    ],
)
def test_what_is_no_version_is_refused(marks: Marks, version: str, reason: str) -> None:
    """Given a name that means nothing here, then the answer says what is wrong with it."""
    marks.start()
    assert reason in marks.try_to_swap(version)["reason"]


def test_other_labels_are_taken_when_the_operator_says_so(marks: Marks) -> None:
    """Given a version with another label, when it is said to be meant, then results have the new label."""
    marks.start()
    _has_other_labels(marks.store / "marks@2")
    assert marks.try_to_swap("marks@2", other_labels=True)["state"] == "serving"
    assert marks.ask().detections[0].label == "cat"


def test_with_remote_control_off_nobody_changes_a_version(marks: Marks) -> None:
    """Given the setting, then both commands are refused, and questions are answered."""
    worker = marks.start(remote_control="off")
    for command, more in (("swap_model", {}), ("canary_model", {"share": 0.5})):
        (said,) = marks.order(command, worker, version="marks@2", **more)
        assert said == {"error": f"{command} is refused: FLEET_REMOTE_CONTROL is off."}
    assert marks.shares(worker) == {1: 1.0}


def test_a_worker_whose_store_lacks_what_the_fleet_serves_does_not_start(marks: Marks) -> None:
    """Given a swap, when a worker with an old store starts, then it ends with a sentence, and serves nothing else."""
    first = marks.start()
    marks.swap(2)
    first.stop()
    subprocess.run(["rm", "-r", marks.store / "marks@2"], check=True)

    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "worker.app", "worker", "-n", "late@test"],
        env=_environ(marks),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode != 0
    assert f"The fleet serves marks@2 (digest {marks.digests[2]})" in done.stderr + done.stdout


def test_an_operator_swaps_looks_and_goes_back_by_commands(marks: Marks) -> None:
    """Given the command line, then it says what each worker does, and exits with 1 when nothing was changed."""
    worker = marks.start()

    assert f"{worker.name}: marks@2 serving, digest {marks.digests[2]}" in _type(marks, "swap", "marks@2")
    assert "25% of the jobs" in _type(marks, "canary", "marks@1", "--share", "0.25") + _type(marks, "served")
    assert f"marks@1 gets no more jobs, digest {marks.digests[2]} has them all" in _type(
        marks, "canary", "marks@1", "--share", "0"
    )
    assert "marks@2 serving" in _type(marks, "swap", "marks@2")
    failed = _type(marks, "swap", "marks@9", status=1)
    assert "Nothing was changed, because not every worker can serve it" in failed
    assert f"{worker.name}: There is no version 'marks@9'" in failed
    celery = [sys.executable, "-m", "celery", "-A", "worker.app", "control", "-t", "20", "swap_model", "marks@3"]
    subprocess.run(celery, env=_environ(marks), cwd=ROOT, timeout=60, check=True, capture_output=True)
    assert marks.outcome("")["version"] == "marks@3"


def _type(marks: Marks, *words: str, status: int = 0) -> str:
    command = [str(Path(sys.executable).with_name("fleet-worker")), "models", *words]
    done = subprocess.run(command, env=_environ(marks), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def _environ(marks: Marks) -> dict[str, str]:
    own: dict[str, Any] = {"URL": marks.url, "MODEL_STORE": marks.store, "MODELS": NAME, "CACHE_DIR": ""}
    return {**os.environ, **{f"FLEET_{name}": str(value) for name, value in own.items()}}


def test_a_network_larger_than_the_free_memory_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    """Given a container's books, then what it may still take is the least of them and the host's."""
    (tmp_path / "meminfo").write_text("MemTotal: 9000000 kB\nMemAvailable: 4000 kB\n")
    for name, text in {"max": "3000000", "current": "1500000", "stat": "anon 1\ninactive_file 500000\n"}.items():
        (tmp_path / f"memory.{name}").write_text(text)
    network = tmp_path / "net.onnx"
    network.write_bytes(bytes(700_000))
    here = {"cgroup": tmp_path, "meminfo": tmp_path / "meminfo"}

    assert room.free_bytes(**here) == 2_000_000
    with pytest.raises(ModelError, match="it takes about 2 MiB, and 2 MiB are free"):
        room.check([network], **here)
    (tmp_path / "memory.max").write_text("max")
    assert room.free_bytes(**here) == 4000 * 1024
    room.check([network], **here)
    assert room.free_bytes(cgroup=tmp_path / "none", meminfo=tmp_path / "none") is None


def test_questions_are_answered_while_a_version_is_loaded(marks: Marks) -> None:
    """Given a version that takes a while to compile, then the event loop goes on meanwhile."""
    worker = marks.start(cache_dir="")
    marks.add(70, work=200)
    marks.order("swap_model", worker, version="marks@4", order="slow")
    answers = [marks.order("model_change", worker)[0]["last"]["state"]]
    while answers[-1] == "preparing":
        answers.append(marks.order("model_change", worker)[0]["last"]["state"])
    assert answers.count("preparing") >= 2
    assert answers[-1] == "serving"
