"""What a server did when, as stretches of time on lanes: what overlaps, and what waits.

Stage: behind ``fleet-worker timeline``. Neighbours: :mod:`worker.trail` says what a passage is,
:mod:`worker.timeline_picture` draws a recording. Pure functions of what was recorded.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from worker.trail import STAGES, Passage

#: Stands on a thread's lane while the thread waits for its own inference.
BLOCKED = "blocked"

#: Stages that a decode thread spends its time in; the others are OpenVINO's and a finisher's.
ON_THREAD = ("fetch", "decode", "wait")

#: Lane of what follows an inference, on threads of its own.
FINISH_LANE = "finish"


class RecordingError(Exception):
    """Nothing could be recorded or drawn; the message says why."""


@dataclass(frozen=True, slots=True)
class Recording:
    """What one server did.

    Attributes:
        name: of the server.
        passages: its images, in any order.
        requests: infer requests it has.
        blocking: whether the thread that started an inference waits for it.
    """

    name: str
    passages: Sequence[Passage]
    requests: int
    blocking: bool = False


@dataclass(frozen=True, slots=True)
class Segment:
    """One stretch on one lane, in seconds since 1970."""

    lane: str
    stage: str
    begin: float
    end: float
    passage: Passage


@dataclass(frozen=True, slots=True)
class Figures:
    """What a recording says in numbers, between two moments.

    Attributes:
        images_per_s: inferences that ended, per second.
        in_flight: infer requests in flight, on average.
        busy: share of the time in which any inference runs.
        blocked: share of the threads' time in which they wait: for a free request, or for their own inference.
        fed: share of the time in which some image is fetched or decoded while another is in inference.
    """

    images_per_s: float
    in_flight: float
    busy: float
    blocked: float
    fed: float


def request_lane(slot: int) -> str:
    """Name the lane of an infer request."""
    return f"request_{slot}"


def segments(recording: Recording) -> list[Segment]:
    """Lay out all passages of a recording, the earliest first."""
    found = [one for passage in recording.passages for one in _segments_of(passage, blocking=recording.blocking)]
    return sorted(found, key=lambda one: one.begin)


def _segments_of(passage: Passage, *, blocking: bool) -> Iterator[Segment]:
    at = passage.begun_at
    for stage in STAGES[1:]:  # queued was before, and elsewhere
        if stage not in passage.stages_ms:
            continue
        at = passage.starts_at.get(stage, at)
        end = at + passage.stages_ms[stage] / 1000
        if stage in ON_THREAD or (stage == "finish" and blocking):
            yield Segment(passage.thread, stage, at, end, passage)
        elif stage == "finish":
            yield Segment(FINISH_LANE, stage, at, end, passage)
        elif passage.slot is not None:
            yield Segment(request_lane(passage.slot), stage, at, end, passage)
            if blocking:
                yield Segment(passage.thread, BLOCKED, at, end, passage)
        at = end


def lanes(recording: Recording) -> list[str]:
    """List the lanes from top to bottom: threads, requests, finish."""
    threads = sorted({one.thread for one in recording.passages if one.thread})
    finish = [] if recording.blocking else [FINISH_LANE]
    return [*threads, *(request_lane(slot) for slot in range(recording.requests)), *finish]


def steady(recording: Recording) -> tuple[float, float]:
    """Give begin and end of the time without its first and last tenth, where the queue fills and empties."""
    begins = [one.begun_at for one in recording.passages]
    first, last = min(begins), max(begins)
    return first + (last - first) / 10, last - (last - first) / 10


def figures(recording: Recording, begin: float, end: float) -> Figures:
    """Sum up a recording between two moments."""
    found = segments(recording)
    length = max(1e-9, end - begin)
    inferring = [one for one in found if one.stage == "infer"]
    threads = len({one.thread for one in recording.passages if one.thread})
    waiting = sum(_within(one, begin, end) for one in found if one.stage in ("wait", BLOCKED))
    working = spans([one for one in found if one.stage in ("fetch", "decode")])
    return Figures(
        images_per_s=sum(begin <= one.end < end for one in inferring) / length,
        in_flight=sum(_within(one, begin, end) for one in inferring) / length,
        busy=_common(spans(inferring), [(begin, end)], begin, end) / length,
        blocked=waiting / length / max(1, threads),
        fed=_common(working, spans(inferring), begin, end) / length,
    )


def _within(segment: Segment, begin: float, end: float) -> float:
    return max(0.0, min(segment.end, end) - max(segment.begin, begin))


def spans(found: Iterable[Segment]) -> list[tuple[float, float]]:
    """Give the times in which at least one of the segments runs, in order, none touching another."""
    merged: list[tuple[float, float]] = []
    for one in sorted(found, key=lambda one: one.begin):
        if merged and one.begin <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], one.end)
        else:
            merged.append((one.begin, one.end))
    return merged


def _common(left: list[tuple[float, float]], right: list[tuple[float, float]], begin: float, end: float) -> float:
    """Seconds between two moments that both lists of spans cover."""
    total, place = 0.0, 0
    for first, last in left:
        while place and right[place - 1][1] > first:
            place -= 1
        while place < len(right) and right[place][0] < last:
            total += max(0.0, min(last, right[place][1], end) - max(first, right[place][0], begin))
            place += 1
    return total


def in_flight(recording: Recording) -> list[tuple[float, int]]:
    """Give the moments at which the number of requests in flight changes, and the number from then on."""
    inferring = [one for one in segments(recording) if one.stage == "infer"]
    steps = sorted([(one.begin, 1) for one in inferring] + [(one.end, -1) for one in inferring])
    count, found = 0, []
    for moment, change in steps:
        count += change
        found.append((moment, count))
    return found


def chrome_trace(recordings: Iterable[Recording]) -> dict[str, Any]:
    """Give the recordings in Chrome's trace format: open it at ui.perfetto.dev or chrome://tracing."""
    events: list[dict[str, Any]] = []
    for process, recording in enumerate(recordings, start=1):
        rows = {lane: number for number, lane in enumerate(lanes(recording), start=1)}
        events.append({"ph": "M", "name": "process_name", "pid": process, "args": {"name": recording.name}})
        for lane, row in rows.items():
            named = {"ph": "M", "pid": process, "tid": row}
            events.append({**named, "name": "thread_name", "args": {"name": lane}})
            events.append({**named, "name": "thread_sort_index", "args": {"sort_index": row}})
        for number, one in enumerate(segments(recording)):
            events += _events(one, process, rows.get(one.lane, 0), number)
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _events(one: Segment, process: int, row: int, number: int) -> list[dict[str, Any]]:
    """A stretch that may overlap another on its lane, as on ``finish``, is a pair of asynchronous events."""
    begin_us, end_us = one.begin * 1e6, one.end * 1e6
    job = {"job": one.passage.job, "index": one.passage.index, "code": one.passage.code, "bytes": one.passage.bytes}
    common = {"name": one.stage, "cat": one.stage, "pid": process, "tid": row}
    if one.lane != FINISH_LANE:
        return [{**common, "ph": "X", "ts": begin_us, "dur": end_us - begin_us, "args": job}]
    ends = {"id": number, **common}
    return [{**ends, "ph": "b", "ts": begin_us, "args": job}, {**ends, "ph": "e", "ts": end_us}]
