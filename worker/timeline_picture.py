"""Draws a recording: a lane per thread and per infer request, and below how many requests are in flight.

Stage: behind ``fleet-worker timeline``, which loads this module, and with it matplotlib, only when it draws. Needs the
extra ``timeline``.
"""

import itertools
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from worker.timeline import BLOCKED, Figures, Recording, in_flight, lanes, segments

COLOURS = {
    "fetch": "#8da0cb",
    "decode": "#fc8d62",
    "wait": "#d9d9d9",
    "infer": "#1b9e77",
    "finish": "#e7c24b",
    BLOCKED: "#f4c7c3",
}

LABELS = {
    "fetch": "fetch",
    "decode": "decode",
    "wait": "wait for a free request",
    "infer": "inference",
    "finish": "result",
    BLOCKED: "thread waits for its inference",
}


def draw(recording: Recording, figures: Figures, window: tuple[float, float], path: Path) -> None:
    """Draw what lies in ``window`` (begin and end, seconds since 1970) into a PNG file.

    Raises:
        OSError: the file cannot be written.
    """
    rows = lanes(recording)
    picture = Figure(figsize=(13, 2.2 + 0.36 * len(rows)), dpi=110, layout="constrained")
    above, below = picture.subplots(2, 1, sharex=True, height_ratios=(max(3, len(rows)), 3))
    _draw_lanes(above, recording, rows, window)
    _draw_in_flight(below, recording, figures, window)
    picture.suptitle(_sentence(recording, figures), x=0.01, ha="left", fontsize=12)
    picture.savefig(path)


def _draw_lanes(axes: Axes, recording: Recording, rows: list[str], window: tuple[float, float]) -> None:
    begin, end = window
    place = {lane: len(rows) - 1 - number for number, lane in enumerate(rows)}
    shown = [one for one in segments(recording) if one.end > begin and one.begin < end and one.lane in place]
    stages = [stage for stage in COLOURS if any(one.stage == stage for one in shown)]
    for lane, stage in itertools.product(rows, stages):
        bars = [
            ((one.begin - begin) * 1000, (one.end - one.begin) * 1000)
            for one in shown
            if (one.lane, one.stage) == (lane, stage)
        ]
        axes.broken_barh(
            bars,
            (place[lane] - 0.38, 0.76),
            facecolors=COLOURS[stage],
            edgecolors="white",
            linewidth=0.4,
            hatch="////" if stage == BLOCKED else None,
        )
    axes.set_yticks(list(place.values()), list(place))
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.tick_params(axis="y", length=0)
    axes.legend(
        handles=[Patch(facecolor=COLOURS[stage], label=LABELS[stage]) for stage in stages],
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=len(stages),
        frameon=False,
        fontsize=9,
    )


def _draw_in_flight(axes: Axes, recording: Recording, figures: Figures, window: tuple[float, float]) -> None:
    begin, end = window
    steps = in_flight(recording)
    times = [(moment - begin) * 1000 for moment, _ in steps]
    counts = [count for _, count in steps]
    axes.fill_between(times, counts, step="post", color=COLOURS["infer"], alpha=0.35, linewidth=0)
    axes.axhline(figures.in_flight, color=COLOURS["infer"], linewidth=1.2, linestyle="--")
    axes.text(
        (end - begin) * 1000, figures.in_flight, f"mean {figures.in_flight:.1f} ", ha="right", va="bottom", fontsize=9
    )
    axes.set_xlim(0, (end - begin) * 1000)
    axes.set_ylim(0, recording.requests + 1.2)
    axes.set_ylabel("in flight")
    axes.set_xlabel("milliseconds")


def _sentence(recording: Recording, figures: Figures) -> str:
    """Say what the picture shows, in two lines."""
    threads = len({one.thread for one in recording.passages if one.thread})
    waits = f"threads wait for their own inference {figures.blocked:.0%} of their time"
    feeds = f"threads decode and wait for no inference (for a free request {figures.blocked:.0%} of their time)"
    flying = f"{figures.in_flight:.1f} of {recording.requests} requests in flight on average"
    network = f"the network is busy {figures.busy:.0%} of the time"
    return (
        f"{recording.name}: {figures.images_per_s:.0f} images/s, {flying}, {network}\n"
        f"{threads} {waits if recording.blocking else feeds}"
    )
