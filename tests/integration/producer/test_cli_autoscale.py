"""``fleet autoscale``: reads the backlog, says what it would do, and has compose do it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis

from producer import Client
from producer.autoscale import read
from producer.envelope import UNACKED_KEY
from producer.wire import MODELS_KEY
from tests.integration.producer.standin import PICTURE
from tests.integration.producer.test_cli import environment
from tests.waiting import eventually

COMMAND = [sys.executable, "-c", "from producer.cli import main; main()", "autoscale"]

#: Stands in for docker: notes what it is asked, counts what it was told to run.
DOCKER = """#!/bin/sh
echo "$*" >> "$0.log"
case "$*" in
*" ps "*) seq "$(cat "$0.number")" ;;
*" up "*) echo "$*" | sed 's/.*worker=\\([0-9]*\\).*/\\1/' > "$0.number" ;;
esac
"""


def autoscale(*words: object, url: str, path: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """Run the command to its end, with the programs of ``path`` only."""
    environ = environment(url) | ({} if path is None else {"PATH": f"{path}:{os.environ['PATH']}"})
    command = [*COMMAND, *map(str, words)]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=30, check=False)


@pytest.fixture
def jobs(url: str, client: Client, redis: Redis) -> Redis:
    """Twenty-five jobs, and one that a worker holds."""
    redis.hset(MODELS_KEY, "centerface", "{}")
    for number in range(25):
        client.submit(PICTURE, model="centerface", priority=9 * (number % 2))
    redis.hset(UNACKED_KEY, "a-tag", "a message")
    return redis


@pytest.fixture
def docker(tmp_path: Path) -> Path:
    """A stand-in for docker with one worker running."""
    program = tmp_path / "docker"
    program.write_text(DOCKER)
    program.chmod(0o755)
    (tmp_path / "docker.number").write_text("1\n")
    return program


def test_the_backlog_is_read_over_all_priorities(jobs: Redis) -> None:
    """Given jobs of two priorities and one in flight, then all are counted, and the oldest grows old."""
    backlog = read(jobs)
    assert (backlog.waiting, backlog.held) == (25, 1)
    eventually(lambda: 0 < read(jobs).oldest_s < 30)
    jobs.lpush("detect.centerface", "not ours", "{}")
    assert read(jobs).waiting == 27


def test_the_first_job_of_a_fleet_that_never_ran_is_seen(client: Client, redis: Redis) -> None:
    """Given a fleet without workers ever, when a job is sent, then it counts."""
    client.submit(PICTURE)
    assert read(redis).waiting == 1


def test_a_dry_run_says_what_it_would_do(jobs: Redis, url: str, tmp_path: Path) -> None:
    """Given --dry-run, then no docker is needed, and one line says why and what."""
    done = autoscale("--dry-run", 1, "--once", "--jobs", 10, url=url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("25 waiting, 1 in flight, oldest ")
    assert done.stdout.endswith(": 1 -> 3 workers (dry run)\n")
    assert autoscale("--dry-run", 3, "--once", "--jobs", 10, url=url).stdout == ""


def test_compose_is_asked_to_scale(jobs: Redis, url: str, docker: Path) -> None:
    """Given a compose stack with one worker, then it is asked for three, and nothing else of the stack is touched."""
    words = ["--once", "--jobs", 10, "-f", "stack.yml", "-p", "mine"]
    done = autoscale(*words, url=url, path=docker.parent)
    assert done.returncode == 0, done.stderr
    asked = (docker.parent / "docker.log").read_text().splitlines()
    assert asked == [
        "compose -f stack.yml -p mine ps --quiet --status running worker",
        "compose -f stack.yml -p mine up --detach --no-deps --no-recreate --no-build --scale worker=3 worker",
    ]


def test_it_follows_the_backlog_until_it_is_stopped(jobs: Redis, url: str, docker: Path) -> None:
    """Given jobs that end, then workers come at once and go after the calm; SIGTERM ends it with status 0."""
    words = ["--jobs", "5", "--max", "4", "--calm", "0.5", "--every", "0.1"]
    environ = environment(url) | {"PATH": f"{docker.parent}:{os.environ['PATH']}"}
    with subprocess.Popen([*COMMAND, *words], env=environ, stdout=subprocess.PIPE, text=True) as process:
        number = docker.parent / "docker.number"
        eventually(lambda: number.read_text().strip() == "4")
        jobs.delete(UNACKED_KEY, "detect.centerface", "detect.centerface\x06\x169")
        eventually(lambda: number.read_text().strip() == "1")
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=10)
    assert process.returncode == 0
    changes = [line.partition(": ")[2] for line in said.splitlines()]
    assert changes == ["1 -> 3 workers", "3 -> 4 workers", "4 -> 1 worker"]


def test_what_fails_is_one_sentence_and_changes_nothing(url: str, docker: Path) -> None:
    """Given no Redis, or no docker, then one sentence; with --once status 1."""
    done = autoscale("--once", url="redis://127.0.0.1:1/0", path=docker.parent)
    assert done.returncode == 1
    assert done.stderr.endswith("the number of workers stays as it is\n")
    assert "up" not in (docker.parent / "docker.log").read_text().split()
    docker.write_text("#!/bin/sh\necho no such stack >&2\nexit 1\n")
    done = autoscale("--once", url=url, path=docker.parent)
    assert done.returncode == 1
    assert "no such stack" in done.stderr
    assert autoscale("--min", 5, "--max", 2, url=url).returncode == 2
