"""What the figures mean, in sentences that are true for this run: each one is made from what was measured.

Stage: the end of the bench. Pure. A difference counts as one only when nearly all rounds agree on it, and it is larger
than those between the limit and a second process of it.
"""

import statistics

from worker import cpu
from worker.bench.figures import Figures
from worker.bench.fleet import BATCH, BATCHES, ONE_WORKER, PER_CORE
from worker.bench.inprocess import LIMIT
from worker.bench.summary import LEAST_ROUNDS, doubt

#: From this part of all cores on, the processor is what limits.
BUSY = 0.9

#: Cores' worth of other programs from which on their share is mentioned.
DISTURBING = 0.1

#: Part of an image's CPU time that is worth another way of sending.
WORTH_SAVING = 0.05


def explain(figures: Figures) -> list[str]:
    """Say what limits this host, what asynchronous submission gains and why, and what to change."""
    about_host = (_left_out, _image, _host, _disturbed, _noise)
    about_servers = (_submission, _streams, _waiting, _precision, _arrangement)
    about_fleet = (_told, _fleet, _batches, _workers)
    return [sentence for part in (*about_host, *about_servers, *about_fleet) for sentence in part(figures)]


def _left_out(figures: Figures) -> list[str]:
    return [
        f"Left out{' after some rounds' if figures[name] else ''}: {name}. {why}"
        for name, why in figures.left_out.items()
    ]


def _image(figures: Figures) -> list[str]:
    parts = figures.anatomy
    said = [
        (
            f"At the machine's best moments an image costs {parts.decode_ms:.2f} ms of one core to decode and "
            f"{parts.one_core_ms:.2f} ms in the network ({parts.precision}); decoding is "
            f"{parts.decode_ms / parts.total_ms:.0%} of it. {figures.why_cores}"
        )
    ]
    if figures.benchmark_app is not None:
        said.append(
            f"benchmark_app runs the network alone, without decoding, at {figures.benchmark_app:.0f} images/s, in "
            "seconds of its own."
        )
    return said


def _host(figures: Figures) -> list[str]:
    limit = figures[LIMIT]
    if limit is None:
        return []
    used = f"{_cores(limit.busy)} of {figures.cores}"
    at = f"{limit.rate:.0f} images/s, {limit.total_ms:.2f} ms of CPU an image"
    disturbing = figures.disturbing(limit)
    if limit.busy >= BUSY * figures.cores:
        said = f"The processor limits this host: at {at}, the limit has {used} busy. More comes only from "
        if figures.allowed > figures.cores:
            said += f"a larger part of the {figures.allowed} CPUs here (quota, FLEET_THREADS) or from "
        else:
            said += "more cores or from "
        said += "less work an image (smaller photos or input)."
    elif limit.busy + disturbing >= BUSY * figures.cores:
        most = figures.cores / limit.total_ms * 1000
        said = (
            f"The processor limits this host, and the bench had {used} while other programs, or a hypervisor's "
            f"other guests, had {_cores(disturbing)}: the limit was {at}; with all cores it would be about {most:.0f}."
        )
    else:
        said = (
            f"The cores are not full at the limit of {at}: it has {used} busy. Something else holds it back, such as a "
            "quota of less than whole cores, or waiting for one another."
        )
    return [said]


def _disturbed(figures: Figures) -> list[str]:
    worst = max(map(figures.disturbing, figures.lines.values()), default=0.0)
    if worst < DISTURBING * figures.cores:
        return []
    said = (
        f"Other programs, or a hypervisor's other guests, kept up to {_cores(worst)} busy during these runs: images "
        "per second are lower than on a quiet machine; CPU milliseconds are less affected, and ratios need more rounds."
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
    doubtful = doubt(many.gains_on(one), figures.noise)
    if doubtful:
        first = f"Asynchronous submission does {gain:.2f} times what the synchronous server does, {doubtful}."
    else:
        first = f"Asynchronous submission {'gains' if gain > 1 else 'loses'}: {gain:.2f} times the synchronous server."
    why = (
        f"The synchronous server keeps {_cores(one.busy)} of {figures.cores} busy ({one.busy / figures.cores:.0%}), "
        f"the asynchronous one {_cores(many.busy)}. An image costs it {one.total_ms:.2f} ms of CPU, the asynchronous "
        f"one {many.total_ms:.2f} ms."
    )
    if figures.cores > 1:
        decoding = parts.decode_ms / (parts.decode_ms + parts.all_cores_ms)
        most = decoding + (1 - decoding) * figures.cores
        why += f" The synchronous one decodes, with one thread, for {decoding:.0%} of its time, and inference waits"
        if one.busy > 1.1 * most:
            why += f"; by these parts alone that would be {_cores(most)}"
        why += "."
    return [first, why]


def _streams(figures: Figures) -> list[str]:
    parts, cores = figures.anatomy, figures.cores
    if cores == 1:
        return ["With one core, streams have nothing to share out: only waiting can be saved, not work."]
    scale = parts.one_core_ms / parts.all_cores_ms
    said = (
        f"The network takes {parts.one_core_ms:.2f} ms for an image on one core and {parts.all_cores_ms:.2f} ms on "
        f"{cores}: {scale:.2f} times as fast"
    )
    if round(scale, 2) > cores:
        said += (
            ", more than the cores are: by their caches, or because the machine changed meanwhile. What a stream per "
            "core can gain over all cores on one image, these figures do not tell"
        )
    else:
        said += f". A stream per core can gain at most {max(1.0, cores / scale):.2f} times over all cores on one image"
    said += f"; OpenVINO's throughput hint chose {parts.streams} streams and {parts.requests} requests."
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
    if doubtful := doubt(four.gains_on(one), figures.noise):
        said += f" The former is a difference {doubtful}."
    elif four.times(one) > 1 and requests == 1:
        said += " What they gain is that one thread decodes while another waits."
    return [f"{said} OpenVINO's default here is to run {requests} at a time."]


def _precision(figures: Figures) -> list[str]:
    parts = figures.anatomy
    if parts.told:
        return [
            (
                f"The network runs in {parts.precision}, as it was told (FLEET_PRECISION, or precision in model.toml), "
                f"{parts.one_core_ms:.2f} ms on one core; left to itself OpenVINO takes {parts.free_precision} here, "
                f"{parts.free_ms:.2f} ms."
            )
        ]
    if parts.precision == "f32":
        return ["The network runs in 32-bit floats, OpenVINO's own choice for it on this processor."]
    times = parts.f32_ms / parts.one_core_ms
    said = (
        f"The network runs in {parts.precision}; 32-bit floats (FLEET_PRECISION=f32) would cost {parts.f32_ms:.2f} ms "
        f"on one core, {times:.2f} times as much, for boxes that are exact to rounding"
    )
    return [said + (": they cost nothing here." if times < 1 else ".")]


def _arrangement(figures: Figures) -> list[str]:
    limits, fleets, cores, noise = figures["limit: process per core"], figures[PER_CORE], figures.cores, figures.noise
    said = []
    if limits:
        itself = [1.0] * len(limits.ratios)
        told = cpu.arrangement(itself, limits.ratios, cores, for_workers=False, noise=noise)
        said.append(f"Without a queue: {told}")
    if (one := figures[ONE_WORKER]) and fleets and not {"FLEET_STREAMS", "FLEET_HINT"} & figures.told.keys():
        said.append(f"In the fleet: {cpu.arrangement(one.ratios, fleets.ratios, cores, noise=noise)}")
    return said


def _told(figures: Figures) -> list[str]:
    if not figures.told or not any(line.kind.group == "fleet" for line in figures.lines.values()):
        return []
    named = ", ".join(f"{name}={value}" for name, value in figures.told.items())
    return [f"The fleet went by {named}, of which the limit and the servers know nothing: they differ by that as well."]


def _fleet(figures: Figures) -> list[str]:
    one = figures[ONE_WORKER]
    if one is None:
        return []
    parts = ", ".join(f"{role} {spent:.2f} ms" for role, spent in sorted(one.cpu_ms.items()))
    more, added = one.more_cpu_ms, one.more_p50_ms
    price = f"{abs(more):.2f} ms {'more' if more >= 0 else 'less'} than the limit in the same seconds"
    if doubtful := doubt([each / one.total_ms for each in one.more_ms], figures.cpu_noise):
        price += f", {doubtful}"
    elif more > 0 and not figures.told:
        price += ", the price of a durable queue"
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
    saved = [(own - other) / one.total_ms for own, other in zip(one.more_ms, batches.more_ms, strict=False)]
    part, times = statistics.median(saved), batches.times(one)
    costs = (
        f"measured by the limit, an image costs {abs(part) * one.total_ms:.2f} ms {'less' if part >= 0 else 'more'} "
        "of CPU"
    )
    saving_doubt = doubt(saved, max(WORTH_SAVING, figures.cpu_noise))
    is_other_rate = not doubt(batches.gains_on(one), figures.noise)
    if is_other_rate:
        costs += f", and there were {times:.2f} times as many images/s"
    if len(saved) < LEAST_ROUNDS or (abs(part) >= WORTH_SAVING and saving_doubt and not is_other_rate):
        said = f"With batches, {costs}, {saving_doubt}."
    elif not saving_doubt and part > 0 and not (is_other_rate and times < 1):
        said = f"Batches are worth it for this network, client.map(..., batch={BATCH}): {costs}."
    elif not saving_doubt and part < 0 and not (is_other_rate and times > 1):
        said = f"Batches do not pay for this network: {costs}."
    elif is_other_rate:
        said = f"With batches, {costs}: try both with what you send."
    else:
        said = f"Batches change little for this network: {costs}."
    return [said]


def _workers(figures: Figures) -> list[str]:
    one = figures[ONE_WORKER]
    others = [(count, figures[f"fleet: {count} workers"]) for count in (2, 4)]
    found = [f"{count} workers reach {line.times(one):.2f} times one" for count, line in others if line and one]
    return [f"On this host {' and '.join(found)}."] if found else []


def _cores(number: float) -> str:
    return f"{number:.1f} core{'s' * (round(number, 1) != 1.0)}"
