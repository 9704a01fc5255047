"""What the bench says follows from its figures, and it claims nothing that the rounds do not show."""

import dataclasses

import pytest

from worker import cpu
from worker.bench import runner
from worker.bench.anatomy import Anatomy
from worker.bench.contender import ContenderError, Kind
from worker.bench.fleet import BATCHES, ONE_WORKER
from worker.bench.inprocess import LIMIT
from worker.bench.sentences import Figures, explain
from worker.bench.summary import Line

PARTS = Anatomy(
    decode_ms=3.0,
    one_core_ms=9.0,
    all_cores_ms=5.0,
    f32_ms=18.0,
    precision="bf16",
    streams=2,
    requests=2,
    latency_requests=1,
)


def line(name: str, *rates: float, worker_ms: float = 12.0, busy: float = 2.0, others: float = 0.0) -> Line:
    """A contender's line with the figures that matter."""
    kind = Kind(name, "any")
    return Line(kind, rates, {"worker": worker_ms}, busy, others, memory_mb=100.0, p50_ms=12.0, p99_ms=15.0)


def said(*lines: Line, cores: int = 2, parts: Anatomy = PARTS) -> str:
    """All sentences for these lines."""
    named = {one.kind.name: one for one in lines}
    return "\n".join(explain(Figures(cores, f"{cores} inference threads.", parts, named, 200.0)))


def test_the_processor_is_the_limit_only_when_its_cores_are_busy() -> None:
    """Given a limit with busy cores, idle cores, and cores that others use, then each is told apart."""
    assert "The processor limits this host: at 160 images/s" in said(line(LIMIT, 160.0, busy=1.95))
    assert "The cores are not full" in said(line(LIMIT, 80.0, busy=1.0))
    shared = said(line(LIMIT, 80.0, busy=1.0, others=0.95))
    assert "with all cores it would be about 167" in shared
    assert "Other programs kept up to 0.9" in shared or "Other programs kept up to 1.0" in shared


def test_a_gain_is_claimed_when_nearly_all_rounds_show_it() -> None:
    """Given five rounds, then four agreeing ones make a gain and three do not."""
    sync = line("synchronous", 100.0, 100.0, 100.0, 100.0, 100.0)
    clear = line("asynchronous", 120.0, 120.0, 120.0, 120.0, 90.0)
    noisy = line("asynchronous", 120.0, 120.0, 120.0, 90.0, 90.0)
    assert "Asynchronous submission gains: 1.20 times" in said(sync, clear)
    assert "gains nothing that stands out of the noise" in said(sync, noisy)


def test_an_arrangement_is_recommended_only_when_it_is_worth_it() -> None:
    """Given rounds of both arrangements, then settings are named for a clear gain and for nothing else."""
    many = [100.0] * 5
    assert "FLEET_THREADS=1" in cpu.arrangement(many, [110.0] * 5, 2)
    assert "no clear difference" in cpu.arrangement(many, [101.0] * 5, 2)
    assert "more in 3 of 5 rounds" in cpu.arrangement(many, [120.0, 120.0, 120.0, 90.0, 90.0], 2)
    assert "several streams is faster" in cpu.arrangement(many, [80.0] * 5, 2)
    assert "too few rounds" in cpu.arrangement([100.0], [200.0], 2)
    assert "one core" in cpu.arrangement(many, many, 1)


def test_batches_are_judged_by_cpu_time() -> None:
    """Given what an image costs alone and in a batch, then batches are advised only where they save."""
    one = line(ONE_WORKER, 100.0, worker_ms=5.0)
    assert "Batches are worth it" in said(one, line(BATCHES, 100.0, worker_ms=3.0))
    assert "Batches change little" in said(one, line(BATCHES, 100.0, worker_ms=4.9))


def test_one_core_and_full_precision_have_sentences_of_their_own() -> None:
    """Given one core and 32-bit floats, then nothing is said of streams or of a precision to leave."""
    text = said(cores=1, parts=dataclasses.replace(PARTS, precision="f32"))
    assert "There is one core" in text
    assert "FLEET_PRECISION" not in text


def test_a_contender_with_other_boxes_is_refused() -> None:
    """Given answers, then rounding passes and a missing, moved or renamed box does not."""
    wanted = [[[0, 0.90, 10.0, 10.0, 110.0, 110.0]], []]
    runner.check("near", [[[0, 0.91, 11.0, 10.0, 111.0, 110.0]], []], wanted)
    for found in ([], [[0, 0.9, 60.0, 10.0, 160.0, 110.0]], [[1, 0.9, 10.0, 10.0, 110.0, 110.0]]):
        with pytest.raises(ContenderError, match="On photo 1"):
            runner.check("far", [found, []], wanted)
