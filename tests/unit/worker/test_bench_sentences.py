"""What the bench says follows from its figures, and it claims nothing that the rounds do not show."""

import dataclasses
from typing import Any

from worker import cpu
from worker.bench.anatomy import Anatomy
from worker.bench.contender import Kind
from worker.bench.figures import Figures
from worker.bench.fleet import BATCHES, ONE_WORKER
from worker.bench.inprocess import LIMIT
from worker.bench.sentences import explain
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
    told=False,
    free_ms=9.0,
    free_precision="bf16",
)


def line(name: str, *ratios: float, worker_ms: float = 12.0, busy: float = 2.0, others: float = 0.0) -> Line:
    """A contender's line with the figures that matter; the limit does 100 images/s at 12 ms of CPU each."""
    rates = tuple(100 * ratio for ratio in ratios)
    cost = {"worker": worker_ms}
    more_ms = (worker_ms - 12.0,) * len(ratios)
    return Line(Kind(name, "any"), rates, ratios, cost, busy, others, 100.0, 12.0, 15.0, more_ms, 0.0, 0.0)


def said(*lines: Line, cores: int = 2, parts: Anatomy = PARTS, **more: Any) -> str:
    """All sentences for these lines."""
    named = {one.kind.name: one for one in lines}
    return "\n".join(explain(Figures(cores, f"{cores} inference threads.", parts, named, 200.0, **more)))


def test_the_processor_is_the_limit_only_when_its_cores_are_busy() -> None:
    """Given a limit with busy cores, idle cores, and cores that others use, then each is told apart."""
    assert "The processor limits this host: at 160 images/s" in said(line(LIMIT, 1.6, busy=1.95))
    assert "More comes only from a larger part of the 4 CPUs" in said(line(LIMIT, 1.6, busy=1.95), allowed=4)
    assert "The cores are not full" in said(line(LIMIT, 0.8, busy=1.0))
    shared = said(line(LIMIT, 0.8, busy=1.0, others=0.95))
    assert "with all cores it would be about 167" in shared
    assert "guests, kept up to 0.9" in shared or "guests, kept up to 1.0" in shared
    assert "The cores are not full" in said(line(LIMIT, 0.8, busy=1.0, others=2.5), allowed=64)


def test_a_gain_is_claimed_when_nearly_all_rounds_show_it() -> None:
    """Given five rounds, then four agreeing ones make a gain; three, less than the noise, and one round do not."""
    sync = line("synchronous", 1.0, 1.0, 1.0, 1.0, 1.0)
    clear = line("asynchronous", 1.2, 1.2, 1.2, 1.2, 0.9)
    noisy = line("asynchronous", 1.2, 1.2, 1.2, 0.9, 0.9)
    assert "Asynchronous submission gains: 1.20 times" in said(sync, clear)
    assert "does 1.20 times what the synchronous server does, which these rounds do not tell" in said(sync, noisy)
    small = line("asynchronous", 1.01, 1.01, 1.01, 1.01, 1.01)
    assert "does 1.01 times what the synchronous server does, which these" in said(sync, small)
    loud = line(LIMIT, 1.3, 0.75, 1.25, 0.7, 1.3)
    assert "does 1.20 times what the synchronous server does, which these" in said(sync, clear, loud)
    waiting = line("start and wait, 4 threads", 1.1, 1.1, 1.1, 0.9, 0.9)
    assert "The former is a difference which these rounds do not tell from noise." in said(sync, clear, waiting)
    assert "does 2.00 times what the synchronous server does, in too few rounds" in said(
        line("synchronous", 1.0), line("asynchronous", 2.0)
    )


def test_an_arrangement_is_recommended_only_when_it_is_worth_it() -> None:
    """Given rounds of both arrangements, then settings are named for a clear gain and for nothing else."""
    many = [100.0] * 5
    assert "FLEET_THREADS=1" in cpu.arrangement(many, [110.0] * 5, 2)
    assert "FLEET_THREADS=1" not in cpu.arrangement(many, [110.0] * 5, 2, for_workers=False)
    assert "no clear difference" in cpu.arrangement(many, [110.0] * 5, 2, noise=0.15)
    assert "run more of them" in cpu.arrangement([100.0] * 3, [50.0, 100.0, 190.0], 2)
    assert "no clear difference" in cpu.arrangement(many, [101.0] * 5, 2)
    assert "more in 3 of 5 rounds" in cpu.arrangement(many, [120.0, 120.0, 120.0, 90.0, 90.0], 2)
    assert "several streams is faster" in cpu.arrangement(many, [80.0] * 5, 2)
    assert "too few rounds" in cpu.arrangement([100.0], [200.0], 2)
    assert "one core" in cpu.arrangement(many, many, 1)


def test_batches_are_judged_by_cpu_time() -> None:
    """Given what an image costs alone and in a batch, then batches are advised only where they save."""
    one, even = line(ONE_WORKER, 1.0, 1.0, 1.0, worker_ms=14.0), (1.0, 1.0, 1.0)
    assert "an image costs 2.00 ms less of CPU" in said(one, line(BATCHES, *even, worker_ms=12.0))
    assert "Batches do not pay" in said(one, line(BATCHES, *even, worker_ms=16.0))
    assert "Batches are worth it" in said(one, line(BATCHES, *even, worker_ms=12.0))
    assert "Batches change little" in said(one, line(BATCHES, *even, worker_ms=13.9))
    assert "in too few rounds to tell" in said(
        line(ONE_WORKER, 1.0, worker_ms=14.0), line(BATCHES, 1.0, worker_ms=12.0)
    )
    slower = said(line(ONE_WORKER, *even, worker_ms=14.0), line(BATCHES, 0.7, 0.7, 0.7, worker_ms=10.0))
    assert "With batches, measured by the limit, an image costs 4.00 ms less of CPU, and there were 0.70" in slower
    torn = dataclasses.replace(line(BATCHES, *even, worker_ms=12.0), more_ms=(0.0, 0.0, 4.0))
    assert "less of CPU, which these rounds do not tell" in said(one, torn)


def test_the_price_of_the_queue_is_told_only_where_there_is_one() -> None:
    """Given a fleet that costs more than the limit beside it, one that costs less, and one round, then each is said."""
    dear, cheap = (line(ONE_WORKER, 1.0, 1.0, 1.0, worker_ms=spent) for spent in (14.0, 11.0))
    assert "2.00 ms more than the limit in the same seconds, the price" in said(dear)
    assert "1.00 ms less than the limit in the same seconds." in said(cheap)
    torn = dataclasses.replace(line(LIMIT, 1.1, 0.9, 1.1), more_ms=(0.0, 0.0, 0.0))
    assert "the price of a durable queue" in said(dear, torn)
    torn = dataclasses.replace(torn, more_ms=(3.0, -3.0, 3.0))
    assert "which these rounds do not tell from noise" in said(dear, torn)
    once = said(line(ONE_WORKER, 1.0, worker_ms=14.0))
    assert "2.00 ms more than the limit in the same seconds, in too few rounds to tell that from noise" in once
    with_settings = said(dear, told={"FLEET_STREAMS": "1"})
    assert "the price of" not in with_settings
    assert "went by FLEET_STREAMS=1" in said(
        dataclasses.replace(dear, kind=Kind(ONE_WORKER, "fleet")), told={"FLEET_STREAMS": "1"}
    )


def test_the_limit_beside_itself_is_the_noise() -> None:
    """Given how the limit came out beside itself, then the reader learns what differences are worth."""
    assert "was up to 7% off the first" in said(line(LIMIT, 1.0, 0.93, 1.04))


def test_one_core_and_full_precision_have_sentences_of_their_own() -> None:
    """Given one core and 32-bit floats, then nothing is said of streams or of a precision to leave."""
    text = said(cores=1, parts=dataclasses.replace(PARTS, precision="f32"))
    assert "With one core, streams" in text
    assert "FLEET_PRECISION" not in text
    told = dataclasses.replace(PARTS, precision="f32", told=True, free_ms=4.0)
    assert "as it was told (FLEET_PRECISION, or precision in model.toml), 9.00 ms" in said(parts=told)
    assert "left to itself OpenVINO takes bf16 here, 4.00 ms" in said(parts=told)


def test_the_synchronous_server_is_explained_by_its_own_figures() -> None:
    """Given a server that keeps as many cores busy as its parts say, and more, then only the latter is wondered at."""
    sync, many = line("synchronous", *(1.0,) * 5, busy=1.6), line("asynchronous", *(1.3,) * 5)
    assert "decodes, with one thread, for 38% of its time, and inference waits." in said(sync, many)
    spinning = dataclasses.replace(sync, busy=2.0)
    assert "by these parts alone that would be 1.6 cores." in said(spinning, many)
    assert "one decodes" not in said(sync, many, cores=1)


def test_who_was_left_out_is_said() -> None:
    """Given a contender that failed, then the reader learns of it."""
    why = {"mosec": "It did not start.", "asynchronous": "It broke."}
    text = said(line("asynchronous", 1.0), left_out=why)
    assert "Left out: mosec. It did not start." in text
    assert "Left out after some rounds: asynchronous. It broke." in text
