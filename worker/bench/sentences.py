"""What the figures mean, in sentences that are true for this run: each one is made from what was measured.

Stage: the end of the bench. Pure. A difference counts as one only when nearly all rounds agree on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from worker import cpu
from worker.bench.anatomy import Anatomy
from worker.bench.fleet import BATCH, BATCHES, ONE_WORKER, PER_CORE
from worker.bench.inprocess import LIMIT
from worker.bench.summary import Line

#: From this part of all cores on, the processor is what limits.
BUSY = 0.9

#: Cores' worth of other programs from which on their share is mentioned.
DISTURBING = 0.1

#: Part of an image's CPU time that is worth another way of sending.
WORTH_SAVING = 0.05


@dataclass(frozen=True, slots=True)
class Figures:
    """All that was measured."""

    cores: int
    why_cores: str
    anatomy: Anatomy
    lines: Mapping[str, Line]
    benchmark_app: float | None

    def __getitem__(self, name: str) -> Line | None:
        return self.lines.get(name)


def explain(figures: Figures) -> list[str]:
    """Say what limits this host, what asynchronous submission gains and why, and what to change."""
    about_host = (_host, _disturbed, _noise)
    about_servers = (_submission, _streams, _waiting, _precision, _arrangement)
    about_fleet = (_fleet, _batches, _workers)
    return [sentence for part in (*about_host, *about_servers, *about_fleet) for sentence in part(figures)]


def _host(figures: Figures) -> list[str]:
    limit, parts = figures[LIMIT], figures.anatomy
    first = (
        f"An image costs {parts.decode_ms:.2f} ms of one core to decode and {parts.one_core_ms:.2f} ms in the network "
        f"({parts.precision}); decoding is {parts.decode_ms / parts.total_ms:.0%} of it. {figures.why_cores}"
    )
    said = [first]
    if figures.benchmark_app is not None:
        said.append(f"benchmark_app runs the network alone, without decoding, at {figures.benchmark_app:.0f} images/s.")
    if limit is None:
        return said
    used = f"{_cores(limit.busy)} of {figures.cores}"
    if limit.busy >= BUSY * figures.cores:
        said.append(
            f"The processor limits this host: at {limit.rate:.0f} images/s {used} are busy. More comes only from "
            "more cores or from less work an image (smaller photos, a smaller input, a lower precision)."
        )
    elif limit.busy + limit.others >= BUSY * figures.cores:
        most = figures.cores / limit.total_ms * 1000
        said.append(
            f"The processor limits this host, and the bench had {used} while other programs had "
            f"{_cores(limit.others)}: the limit was {limit.rate:.0f} images/s; "
            f"with all cores it would be about {most:.0f}."
        )
    else:
        said.append(
            f"The cores are not full at the limit of {limit.rate:.0f} images/s: {used} are busy, {limit.total_ms:.2f} "
            "ms an image. Something else holds it back, such as waiting for one another."
        )
    return said


def _disturbed(figures: Figures) -> list[str]:
    worst = max((line.others for line in figures.lines.values()), default=0.0)
    if worst < DISTURBING * figures.cores:
        return []
    said = (
        f"Other programs kept up to {_cores(worst)} busy during these runs: images per second are lower than on a "
        "quiet machine; CPU milliseconds are less affected, and ratios need more rounds."
    )
    return [said]


def _noise(figures: Figures) -> list[str]:
    limit = figures[LIMIT]
    if limit is None:
        return []
    off = max(abs(ratio - 1) for ratio in limit.ratios)
    said = f"A second process of the limit, measured like all others, was up to {off:.0%} off the first: in one round "
    return [f"{said}a smaller difference is noise."]


def _submission(figures: Figures) -> list[str]:
    one, many = figures["synchronous"], figures["asynchronous"]
    if one is None or many is None:
        return []
    parts, gain = figures.anatomy, many.times(one)
    if not many.differs_from(one):
        first = f"Asynchronous submission gains nothing that stands out of the noise here ({gain:.2f} times)."
    else:
        word = "gains" if gain > 1 else "loses"
        first = f"Asynchronous submission {word}: {gain:.2f} times the synchronous server."
    used = one.busy / figures.cores
    decoding = parts.decode_ms / (parts.decode_ms + parts.all_cores_ms)
    why = (
        f"The synchronous server keeps {_cores(one.busy)} of {figures.cores} busy ({used:.0%}), the asynchronous one "
        f"{_cores(many.busy)}: the former works on one core while it decodes, {decoding:.0%} of its time, and then "
        f"with all of them on one image. An image costs it {one.total_ms:.2f} ms of CPU, the asynchronous one "
        f"{many.total_ms:.2f} ms."
    )
    return [first, why]


def _streams(figures: Figures) -> list[str]:
    parts, cores = figures.anatomy, figures.cores
    if cores == 1:
        return ["There is one core, so that streams have nothing to share out: only waiting can be saved, not work."]
    scale = parts.one_core_ms / parts.all_cores_ms
    said = (
        f"The network takes {parts.one_core_ms:.2f} ms for an image on one core and {parts.all_cores_ms:.2f} ms on "
        f"{cores}: {scale:.2f} times as fast. A stream per core can gain at most {cores / scale:.2f} times over all "
        f"cores on one image; OpenVINO's throughput hint chose {parts.streams} streams and {parts.requests} requests."
    )
    if parts.streams < cores and cores / scale > 1.1:
        said += f" Try FLEET_STREAMS={cores}."
    return [said]


def _waiting(figures: Figures) -> list[str]:
    one, four, many = figures["synchronous"], figures["start and wait, 4 threads"], figures["asynchronous"]
    if one is None or four is None or many is None:
        return []
    requests = figures.anatomy.latency_requests
    said = (
        f"Four threads that start and wait reach {four.times(one):.2f} times the synchronous server and "
        f"{four.times(many):.2f} times the asynchronous one."
    )
    if not four.differs_from(one):
        said += " That is nothing that stands out of the noise."
    elif four.times(one) > 1 and requests == 1:
        said += " What they gain is that one thread decodes while another waits."
    return [f"{said} OpenVINO's default here is to run {requests} at a time."]


def _precision(figures: Figures) -> list[str]:
    parts = figures.anatomy
    if parts.precision == "f32":
        return ["The network runs in 32-bit floats: this processor offers OpenVINO nothing shorter, or was told so."]
    times = parts.f32_ms / parts.one_core_ms
    said = (
        f"The network runs in {parts.precision}; 32-bit floats (FLEET_PRECISION=f32) would cost {parts.f32_ms:.2f} ms "
        f"on one core, {times:.2f} times as much, for boxes that are exact to rounding"
    )
    return [said + (": they cost nothing here." if times < 1 else ".")]


def _arrangement(figures: Figures) -> list[str]:
    limits, fleets = figures["limit: process per core"], figures[PER_CORE]
    said = []
    if limits:
        itself = [1.0] * len(limits.ratios)
        said.append(f"Without a queue: {cpu.arrangement(itself, limits.ratios, figures.cores)}")
    if (one := figures[ONE_WORKER]) and fleets:
        said.append(f"In the fleet: {cpu.arrangement(one.ratios, fleets.ratios, figures.cores)}")
    return said


def _fleet(figures: Figures) -> list[str]:
    one = figures[ONE_WORKER]
    if one is None:
        return []
    parts = ", ".join(f"{role} {spent:.2f} ms" for role, spent in sorted(one.cpu_ms.items()))
    more, added = one.more_cpu_ms, one.more_p50_ms
    price = (
        f"{more:.2f} ms more than the limit in the same seconds, the price of a durable queue"
        if one.costs_more
        else f"{abs(more):.2f} ms {'more' if more >= 0 else 'less'} than the limit, which is no more than noise"
    )
    said = (
        f"The fleet with one worker and one image a message reaches {one.ratio:.2f} of the limit. An image "
        f"costs {one.total_ms:.2f} ms of CPU ({parts}), {price}. An image asked for alone takes {one.p50_ms:.1f} ms, "
        f"{abs(added):.1f} ms {'more' if added >= 0 else 'less'} than in the limit's process."
    )
    return [said]


def _batches(figures: Figures) -> list[str]:
    """CPU time decides: it says more than a few rounds' rates."""
    one, batches = figures[ONE_WORKER], figures[BATCHES]
    if one is None or batches is None:
        return []
    saved, times = one.more_cpu_ms - batches.more_cpu_ms, batches.times(one)
    costs = f"measured by the limit, an image costs {abs(saved):.2f} ms {'less' if saved >= 0 else 'more'} of CPU"
    is_clear = batches.differs_from(one)
    if is_clear:
        costs += f", and there were {times:.2f} times as many images/s"
    if saved > WORTH_SAVING * one.total_ms and not (is_clear and times < 1):
        return [f"Batches are worth it for this network, client.map(..., batch={BATCH}): {costs}."]
    if saved < -WORTH_SAVING * one.total_ms:
        return [f"Batches do not pay for this network: {costs}."]
    return [f"Batches change little for this network: {costs}."]


def _workers(figures: Figures) -> list[str]:
    one = figures[ONE_WORKER]
    others = [(count, figures[f"fleet: {count} workers"]) for count in (2, 4)]
    found = [f"{count} workers reach {line.times(one):.2f} times one" for count, line in others if line and one]
    return [f"On this host {' and '.join(found)}."] if found else []


def _cores(number: float) -> str:
    return f"{number:.1f} core{'s' * (round(number, 1) != 1.0)}"
