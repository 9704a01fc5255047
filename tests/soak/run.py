"""A chaos run from beginning to end: a quiet look first, then harm, then the reckoning.

``python -m tests.soak.run --images 20000 --seed 7 --log docs/soak.log``; a short one is part of the test suite.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from celery import Celery
from redis import Redis

from producer import Client, dead
from tests.conftest import cache
from tests.integration.kit import MODEL, ROOT
from tests.soak import pictures
from tests.soak.stack import Chaos, Server, Workers
from tests.soak.verdict import Verdict, judge_answers, judge_rest
from tests.waiting import eventually

PRODUCERS = 2

#: Connections to Redis of one worker (18 when it has connected anew, however often), and of everything else.
CONNECTIONS_A_WORKER = 20
OTHER_CONNECTIONS = 12

#: What a producer or the server may grow by between its middle and its end.
GROWTH_MIB = 24


@dataclass(frozen=True)
class Plan:
    """What a run does.

    Attributes:
        images: how many, of all producers together.
        per_s: how many a second.
        every_s: seconds between two harms, on the average.
        fatal: share of images that end their worker.
    """

    images: int
    seed: int
    per_s: float = 40.0
    every_s: float = 4.0
    fatal: float = pictures.FATAL
    deadline_s: float = 600.0


def run(plan: Plan, store: Path, samples: Path, folder: Path) -> tuple[Verdict, list[str]]:
    """Do what ``plan`` says; return the verdict and the log of harm."""
    server = Server(folder / "data")
    workers = Workers(server.url, store, folder, wanted=3)
    try:
        eventually(workers.ready, "three ready workers", 120)
        expected = _quiet_look(server.url, samples)
        logs = [folder / f"producer-{number}.jsonl" for number in range(PRODUCERS)]
        feeders = [_feed(plan, server.url, samples, log, number) for number, log in enumerate(logs)]
        began, memory = time.monotonic(), _Memory(feeders, server)
        chaos = Chaos(server, workers, plan.seed, every_s=plan.every_s)
        memory.look_until(lambda: any(feeder.poll() is not None for feeder in feeders))
        chaos.stop()
        statuses = [feeder.wait(plan.deadline_s) for feeder in feeders]
        verdict = Verdict({"seed": plan.seed, "seconds": round(time.monotonic() - began), "harm": chaos.counts})
        verdict.figures["workers started, died"] = f"{workers.started}, {workers.deaths}"
        verdict.promise(statuses == [0] * PRODUCERS, f"producers ended with {statuses}")
        judge_answers(verdict, logs, expected, seed=plan.seed, images=plan.images, fatal=plan.fatal)
        memory.judge(verdict)
        eventually(workers.ready, "all workers", 120)
        _send_unlucky_again(plan, verdict, server.url, expected, samples)
        _look_for_leftovers(verdict, server, workers)
        return verdict, chaos.log
    finally:
        workers.close()
        server.kill()


def _quiet_look(url: str, samples: Path) -> list[Any]:
    with Client(url, model=MODEL) as client:
        answers = list(client.map(pictures.variants(samples)))
    assert all(answer.result is not None for answer in answers), answers
    expected = [[found.to_json() for found in answer.result.detections] for answer in answers if answer.result]
    assert len({json.dumps(one) for one in expected}) > pictures.VARIANTS // 2  # a mix-up would be seen
    return expected


def _feed(plan: Plan, url: str, samples: Path, log: Path, number: int) -> "subprocess.Popen[str]":
    orders = {
        "url": url,
        "model": MODEL,
        "samples": str(samples),
        "log": str(log),
        "seed": plan.seed,
        "fatal": plan.fatal,
        "indexes": list(range(number, plan.images, PRODUCERS)),
        "per_s": plan.per_s / PRODUCERS,
        "deadline_s": plan.deadline_s,
        "window": 2000,
    }
    command = [sys.executable, "-m", "tests.soak.feeder"]
    feeder = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, text=True)
    assert feeder.stdin is not None
    json.dump(orders, feeder.stdin)
    feeder.stdin.close()
    return feeder


class _Memory:
    """Looks at the memory of the producers while they run, and of the server's data."""

    def __init__(self, feeders: Sequence["subprocess.Popen[str]"], server: Server) -> None:
        self._feeders = [psutil.Process(one.pid) for one in feeders]
        self._seen: list[float] = []
        self._server = server
        with server.connect() as redis:
            self._data_mib = _used_mib(redis)

    def look_until(self, over: Any) -> None:
        while not over():
            try:
                self._seen.append(sum(one.memory_info().rss for one in self._feeders) / 2**20)
            except psutil.NoSuchProcess:
                return
            time.sleep(0.5)

    def judge(self, verdict: Verdict) -> None:
        middle, end = self._seen[len(self._seen) // 2], self._seen[-1]
        with self._server.connect() as redis:
            data_mib = _used_mib(redis)
        verdict.figures["producers' memory, middle and end, MiB"] = f"{middle:.0f}, {end:.0f}"
        verdict.figures["data in Redis, begin and end, MiB"] = f"{self._data_mib:.1f}, {data_mib:.1f}"
        verdict.promise(end - middle < GROWTH_MIB, "the producers grow")
        verdict.promise(data_mib - self._data_mib < GROWTH_MIB, "Redis grows")


def _used_mib(redis: Redis) -> float:
    return int(redis.info("memory")["used_memory_dataset"]) / 2**20


def _send_unlucky_again(plan: Plan, verdict: Verdict, url: str, expected: Sequence[Any], samples: Path) -> None:
    """Empty the dead list, and send again what was taken for fatal by mistake."""
    photos = pictures.variants(samples)
    with Redis.from_url(url) as redis:
        for job in dead.read_all(redis):
            dead.drop(redis, job)
    with Client(url, model=MODEL) as client:
        for index in verdict.unlucky:
            result = client.detect(pictures.picture(photos, plan.seed, index, fatal=plan.fatal))
            found = [one.to_json() for one in result.detections]
            verdict.promise(found == expected[index % len(expected)], f"image {index} is wrong the second time, too")


def _look_for_leftovers(verdict: Verdict, server: Server, workers: Workers) -> None:
    allowed = CONNECTIONS_A_WORKER * len(workers.alive) + OTHER_CONNECTIONS
    with server.connect() as redis, Celery(broker=server.url, set_as_current=False) as app:
        eventually(lambda: not redis.hlen("unacked"), "the acknowledgements", 60)
        stats = eventually(lambda: _stats(app, workers), "an answer of every worker", 60)
        judge_rest(verdict, redis, stats, connections_of=allowed)


def _stats(app: Celery, workers: Workers) -> Any:
    said = app.control.inspect(timeout=3).stats() or {}
    return said if len(said) == len(workers.alive) else None


def main() -> None:
    """Run as the command line says; the exit status says whether all promises were kept."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--per-s", type=float, default=40.0)
    parser.add_argument("--every-s", type=float, default=4.0)
    parser.add_argument("--log", type=Path)
    chosen = parser.parse_args()
    plan = Plan(chosen.images, chosen.seed, chosen.per_s, chosen.every_s)
    with tempfile.TemporaryDirectory(prefix="fleet-soak-") as folder:
        verdict, harm = run(plan, cache() / "models", cache() / "photos", Path(folder))
    print(verdict.table())
    if chosen.log:
        chosen.log.write_text("\n".join([verdict.table(), "", *harm, ""]))
    sys.exit(bool(verdict.broken))


if __name__ == "__main__":
    main()
