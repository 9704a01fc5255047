"""Stretches of time, their sums and their overlaps, on recordings that one can reckon in the head."""

import itertools

import pytest

from worker.timeline import BLOCKED, FINISH_LANE, Recording, chrome_trace, figures, in_flight, lanes, segments, spans
from worker.trail import Passage


def passage(begun_at: float, stages_ms: dict[str, float], *, thread: str = "decode_0", slot: int | None = 0) -> Passage:
    """Make an image's way."""
    return Passage(f"job{begun_at}", 0, "m", "ok", begun_at, {}, stages_ms, thread, slot, 100)


TIMES = {"queued": 5000.0, "fetch": 100.0, "decode": 200.0, "wait": 0.0, "infer": 500.0, "finish": 100.0}
#: Two images, the second 300 ms later on the other request.
OURS = Recording("ours", [passage(10.0, TIMES), passage(10.3, TIMES, slot=1)], 2)


def test_the_stages_of_an_image_follow_each_other() -> None:
    """Given one image, then its stretches begin where the ones before end, each on the lane of who did it."""
    found = segments(Recording("one", OURS.passages[:1], 2))
    assert [(one.lane, one.stage) for one in found] == [
        ("decode_0", "fetch"),
        ("decode_0", "decode"),
        ("decode_0", "wait"),
        ("request_0", "infer"),
        (FINISH_LANE, "finish"),
    ]
    assert all(left.end == right.begin for left, right in itertools.pairwise(found))
    assert found[-1].end == pytest.approx(10.9)


def test_a_stage_whose_beginning_was_noted_begins_there() -> None:
    """Given a gap between two stages, then the later one begins when it was noted, and the rest follows."""
    times = {"fetch": 100.0, "decode": 200.0, "infer": 500.0}
    one = Passage("j", 0, "m", "ok", 10.0, {"fetch": 10.0, "infer": 10.5}, times, "decode_0", 0, 1)
    found = {one.stage: (one.begin, one.end) for one in segments(Recording("gap", [one], 1))}
    assert found["decode"] == (pytest.approx(10.1), pytest.approx(10.3))
    assert found["infer"] == (10.5, 11.0)


def test_a_thread_that_waits_for_its_inference_is_shown_as_blocked() -> None:
    """Given a server that blocks, then the thread's lane is taken during the inference, and for the result."""
    found = segments(Recording("theirs", OURS.passages[:1], 1, blocking=True))
    assert [one.stage for one in found if one.lane == "decode_0"] == ["fetch", "decode", "wait", BLOCKED, "finish"]


def test_an_image_that_failed_early_has_only_the_stages_it_came_to() -> None:
    """Given an image that was not readable, then it takes no request."""
    found = segments(Recording("bad", [passage(10.0, {"fetch": 100.0}, slot=None)], 1))
    assert [one.stage for one in found] == ["fetch"]


def test_the_figures_are_those_of_the_picture() -> None:
    """Given two images half overlapping, then rate, requests in flight, waiting and feeding are as one counts them."""
    summed = figures(OURS, 10.0, 11.0)
    assert summed.images_per_s == 1  # one inference ends at 10.8, the other at 11.1
    assert summed.in_flight == pytest.approx(0.5 + 0.4)
    assert summed.busy == pytest.approx(0.7)  # from 10.3 on
    assert summed.blocked == 0
    assert summed.fed == pytest.approx(0.3)  # the second is fetched and decoded while the first is in inference
    theirs = Recording("theirs", OURS.passages, 2, blocking=True)
    assert figures(theirs, 10.0, 11.0).blocked == pytest.approx(0.9)
    assert in_flight(OURS) == [(pytest.approx(at), count) for at, count in [(10.3, 1), (10.6, 2), (10.8, 1), (11.1, 0)]]


def test_spans_that_touch_become_one() -> None:
    """Given stretches on several lanes, then the times in which any runs do not overlap."""
    assert spans(segments(OURS)) == [(10.0, pytest.approx(11.2))]


def test_the_trace_has_every_lane_and_every_stretch() -> None:
    """Given two recordings, then each is a process with named rows, and times are microseconds."""
    trace = chrome_trace([OURS, Recording("theirs", OURS.passages, 2, blocking=True)])["traceEvents"]
    names = [one["args"]["name"] for one in trace if one["name"] == "thread_name" and one["pid"] == 1]
    assert names == lanes(OURS) == ["decode_0", "request_0", "request_1", FINISH_LANE]
    first = next(one for one in trace if one["name"] == "infer")
    assert (first["ph"], first["dur"]) == ("X", pytest.approx(500_000))
    pairs = [one["ph"] for one in trace if one["name"] == "finish" and one["pid"] == 1]
    assert sorted(pairs) == ["b", "b", "e", "e"]
