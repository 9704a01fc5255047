"""What an image costs, apart: the figures meet the same moments of a machine that is faster and slower by itself."""

import dataclasses
from types import SimpleNamespace

import pytest

from tests.unit.worker.test_bench_sentences import PARTS, said
from worker.bench import anatomy, measure
from worker.bench.contender import ContenderError


class Machine:
    """Does half as much in its first seconds as later; its time goes on with its work only."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def clock(self) -> float:
        """Tell the time."""
        return self.now_s

    def work(self, cost_s: float) -> None:
        """Be busy."""
        self.now_s += cost_s * (2 if self.now_s < 10 else 1)


def test_equal_work_has_equal_figures_on_a_machine_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a slow beginning, then what is measured first comes out as what is measured last."""
    machine = Machine()
    monkeypatch.setattr(anatomy, "time", SimpleNamespace(perf_counter=machine.clock))

    took_ms = anatomy.in_turns(
        {
            "first": (lambda: machine.work(0.01), machine.clock),
            "twice": (lambda: machine.work(0.02), machine.clock),
            "last": (lambda: machine.work(0.01), machine.clock),
        },
        each_s=6,
    )

    assert took_ms == pytest.approx({"first": 10, "twice": 20, "last": 10})


def test_work_that_takes_long_is_done_three_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given work longer than all the time there is, then it still has three tries, and the best of them counts."""
    machine = Machine()
    monkeypatch.setattr(anatomy, "time", SimpleNamespace(perf_counter=machine.clock))

    assert anatomy.in_turns({"long": (lambda: machine.work(4), machine.clock)}, each_s=1) == {"long": 4000.0}
    assert machine.now_s == 20


def test_floats_that_are_as_fast_are_said_to_cost_nothing() -> None:
    """Given 32-bit floats slower and faster than what OpenVINO chose, then each is told as it is."""
    assert "2.00 times as much, for boxes that are exact to rounding." in said(parts=PARTS)
    faster = dataclasses.replace(PARTS, f32_ms=8.1)
    assert "0.90 times as much, for boxes that are exact to rounding: they cost nothing here." in said(parts=faster)


def test_cores_that_are_more_than_their_number_bound_nothing() -> None:
    """Given all cores more than so many times as fast as one, then no most gain of streams is claimed from that."""
    assert "1.80 times as fast. A stream per core can gain at most 1.11 times" in said(parts=PARTS)
    odd = said(parts=dataclasses.replace(PARTS, one_core_ms=11.0))
    assert "2.20 times as fast, more than the cores are: by their caches, or because the machine changed" in odd
    assert "at most" not in odd
    edge = said(parts=dataclasses.replace(PARTS, one_core_ms=10.0, all_cores_ms=4.9999))
    assert "2.00 times as fast. A stream per core can gain at most 1.00 times" in edge


def test_what_an_image_costs_is_the_best_of_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a machine that was slow for the whole of one measurement, then each time is that of its better one."""
    later = dataclasses.replace(PARTS, decode_ms=4.0, one_core_ms=8.0, f32_ms=12.0, free_ms=8.0)
    monkeypatch.setattr(anatomy, "measure", lambda *_: later)
    told: list[str] = []
    best = measure._once_more(None, PARTS, 1.0, told.append)
    assert best == dataclasses.replace(PARTS, one_core_ms=8.0, f32_ms=12.0, free_ms=8.0)
    assert told == ["what an image costs, apart, once more"]


def test_a_bench_does_not_lose_its_rounds_to_a_last_measurement_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given that the second look at an image's cost fails, then that is told, and the first one holds."""

    def fail(*_: object) -> None:
        raise ContenderError("no more memory")

    monkeypatch.setattr(anatomy, "measure", fail)
    told: list[str] = []
    assert measure._once_more(None, PARTS, 1.0, told.append) is PARTS
    assert told[-1] == "no more memory"


@pytest.mark.parametrize("outcome", [OSError(12, "no memory"), "a warning on the wrong stream", "[]"])
def test_a_measurement_that_cannot_be_had_says_so(monkeypatch: pytest.MonkeyPatch, outcome: OSError | str) -> None:
    """Given no memory for one more process, or one that prints something else, then there is an error of the bench."""

    def run(*_: object, **__: object) -> SimpleNamespace:
        if isinstance(outcome, OSError):
            raise outcome
        return SimpleNamespace(returncode=0, stdout=outcome)

    monkeypatch.setattr(anatomy, "subprocess", SimpleNamespace(run=run, PIPE=None))
    with pytest.raises(ContenderError, match="The network cannot be measured on its own: "):
        anatomy.measure(SimpleNamespace(folder=""), 1.0)
