"""What the bench says follows from its figures, and it claims nothing that the rounds do not show."""

import dataclasses

from worker import cpu
from worker.bench.anatomy import Anatomy
from worker.bench.contender import Kind
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


def line(name: str, *ratios: float, worker_ms: float = 12.0, busy: float = 2.0, others: float = 0.0) -> Line:
    """A contender's line with the figures that matter; the limit does 100 images/s at 12 ms of CPU each."""
    rates = tuple(100 * ratio for ratio in ratios)
    cost = {"worker": worker_ms}
    more_ms = (worker_ms - 12.0,) * len(ratios)
    return Line(Kind(name, "any"), rates, ratios, cost, busy, others, 100.0, 12.0, 15.0, more_ms, 0.0, 0.0)


def said(*lines: Line, cores: int = 2, parts: Anatomy = PARTS) -> str:
    """All sentences for these lines."""
    named = {one.kind.name: one for one in lines}
    return "\n".join(explain(Figures(cores, f"{cores} inference threads.", parts, named, 200.0)))


def test_the_processor_is_the_limit_only_when_its_cores_are_busy() -> None:
    """Given a limit with busy cores, idle cores, and cores that others use, then each is told apart."""
    assert "The processor limits this host: at 160 images/s" in said(line(LIMIT, 1.6, busy=1.95))
    assert "The cores are not full" in said(line(LIMIT, 0.8, busy=1.0))
    shared = said(line(LIMIT, 0.8, busy=1.0, others=0.95))
    assert "with all cores it would be about 167" in shared
    assert "Other programs kept up to 0.9" in shared or "Other programs kept up to 1.0" in shared


def test_a_gain_is_claimed_when_nearly_all_rounds_show_it() -> None:
    """Given five rounds, then four agreeing ones make a gain and three do not."""
    sync = line("synchronous", 1.0, 1.0, 1.0, 1.0, 1.0)
    clear = line("asynchronous", 1.2, 1.2, 1.2, 1.2, 0.9)
    noisy = line("asynchronous", 1.2, 1.2, 1.2, 0.9, 0.9)
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
    one = line(ONE_WORKER, 1.0, worker_ms=14.0)
    assert "an image costs 2.00 ms less of CPU" in said(one, line(BATCHES, 1.0, worker_ms=12.0))
    assert "Batches do not pay" in said(one, line(BATCHES, 1.0, worker_ms=16.0))
    assert "Batches are worth it" in said(one, line(BATCHES, 1.0, worker_ms=12.0))
    assert "Batches change little" in said(one, line(BATCHES, 1.0, worker_ms=13.9))


def test_the_price_of_the_queue_is_told_only_where_there_is_one() -> None:
    """Given a fleet that costs more than the limit beside it, one that costs less, and one round, then each is said."""
    dear, cheap = (line(ONE_WORKER, 1.0, 1.0, 1.0, worker_ms=spent) for spent in (14.0, 11.0))
    assert "2.00 ms more than the limit in the same seconds, the price" in said(dear)
    assert "1.00 ms less than the limit, which is no more than noise" in said(cheap)
    assert "2.00 ms more than the limit, which is no more than noise" in said(line(ONE_WORKER, 1.0, worker_ms=14.0))


def test_the_limit_beside_itself_is_the_noise() -> None:
    """Given how the limit came out beside itself, then the reader learns what differences are worth."""
    assert "was up to 7% off the first" in said(line(LIMIT, 1.0, 0.93, 1.04))


def test_one_core_and_full_precision_have_sentences_of_their_own() -> None:
    """Given one core and 32-bit floats, then nothing is said of streams or of a precision to leave."""
    text = said(cores=1, parts=dataclasses.replace(PARTS, precision="f32"))
    assert "There is one core" in text
    assert "FLEET_PRECISION" not in text
