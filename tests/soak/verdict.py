"""What must be true after a chaos run, and the table that says so."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis import Redis

from producer import blobs, wire
from producer.books import COUNTERS_KEY
from tests.soak import pictures

#: Code of an answer by the kind of its image; a good image's is its detections.
CODES = {"damaged": "invalid_image", "fatal": "internal_error"}


@dataclass
class Verdict:
    """Figures of a run, and every promise that was broken."""

    figures: dict[str, object] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    unlucky: list[int] = field(default_factory=list)

    def promise(self, kept: bool, otherwise: str) -> None:
        """Note a promise that was broken."""
        if not kept:
            self.broken.append(otherwise)

    def table(self) -> str:
        """Give the figures and the judgement as text."""
        lines = [f"{name:44} {value}" for name, value in self.figures.items()]
        return "\n".join([*lines, *(f"BROKEN: {one}" for one in self.broken), "red" if self.broken else "green"])


def judge_answers(
    verdict: Verdict, logs: Sequence[Path], expected: Sequence[Any], *, seed: int, images: int, fatal: float
) -> None:
    """Compare every line of the producers with what a quiet run gave.

    An image that chaos took two workers with is on the dead list although it is good: it is unlucky, and sent again.
    """
    lines = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    kinds, wrong = Counter[str](), []
    for line in lines:
        kind = pictures.kind_of(seed, line["index"], fatal=fatal)
        kinds[kind] += 1
        if kind == "good" and _is_unlucky(line):
            verdict.unlucky.append(line["index"])
        elif not _is_right(line, kind, expected[line["index"] % len(expected)]):
            wrong.append(line)
    answered = Counter(line["index"] for line in lines)
    verdict.figures |= {
        "images accepted": images,
        "images answered": len(answered),
        "  good, damaged, fatal": f"{kinds['good']}, {kinds['damaged']}, {kinds['fatal']}",
        "  tries of sending beyond the first": sum(line["tries"] - 1 for line in lines),
        "  taken for fatal by mistake, then sent again": len(verdict.unlucky),
    }
    verdict.promise(len(answered) == images == len(lines), f"{images} accepted, {len(lines)} lines")
    verdict.promise(not wrong, f"{len(wrong)} wrong answers, such as {str(wrong[:3])[:1000]}")


def judge_rest(verdict: Verdict, redis: Redis, stats: Mapping[str, Any], *, connections_of: int) -> None:
    """Look for what a job or a worker may have left behind."""
    prefixes = (wire.BEGUN_PREFIX, wire.LEDGER_PREFIX)
    left = {prefix: sum(1 for _ in redis.scan_iter(f"{prefix}*", count=1000)) for prefix in prefixes}
    images = [redis.get(key) for key in redis.scan_iter(f"{wire.BLOB_PREFIX}*", count=1000)]
    left["images"] = sum(image != blobs.CANCELLED.decode() for image in images)
    left |= {"unacked": redis.hlen("unacked"), "jobs on the ledger": redis.hlen(wire.JOBS_KEY)}
    busy = {name: (said["pool"]["jobs"], said["pool"]["models"]) for name, said in stats.items()}
    in_use = sum(jobs + sum(one["in_flight"] for one in models.values()) for jobs, models in busy.values())
    counters: Any = redis.hgetall(COUNTERS_KEY)
    verdict.figures |= {
        "messages delivered again": counters.get("redelivered", 0),
        "  of them answered before, and dropped": counters.get("answered_before", 0),
        "left in Redis": left,
        "  marks of submits that were given up, until their time": len(images) - left["images"],
        "requests and places in use": in_use,
        "connections to Redis": len(redis.client_list()),
    }
    verdict.promise(not any(left.values()), f"something is left: {left}")
    verdict.promise(in_use == 0, f"workers still hold something: {busy}")
    verdict.promise(len(redis.client_list()) <= connections_of, "connections are left over")


def _is_right(line: Mapping[str, Any], kind: str, expected: Any) -> bool:
    return bool(line.get("detections") == expected if kind == "good" else line.get("code") == CODES[kind])


def _is_unlucky(line: Mapping[str, Any]) -> bool:
    return line.get("code") == "internal_error" and "fleet dead show" in line.get("text", "")
