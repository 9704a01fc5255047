"""Draws a measurement's JSON: images per second, and where an image's CPU time goes.

Stage: after a run of ``python -m benchmarks``; needs the extra ``bench``.
"""

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

mpl.use("agg")

#: One colour a group of contenders, and one a role.
GROUPS = {"limit": "#444444", "three servers": "#7a9cc6", "celery": "#c9a66b", "fleet": "#3b7d4f", "peer": "#b07aa1"}
ROLES = {"worker": "#3b7d4f", "redis": "#c0504d", "client": "#7a9cc6"}


def draw(json_path: Path) -> Path:
    """Draw the figures in ``json_path`` beside it and return the picture's path."""
    found = json.loads(json_path.read_text(encoding="utf-8"))
    lines = found["contenders"][::-1]
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 1.4 + 0.34 * len(lines)), sharey=True)
    _ratios(left, lines)
    _costs(right, lines)
    figure.suptitle(f"{found['model']}: {found['cores_used']} cores of {found['host']['processor']}")
    figure.tight_layout()
    path = json_path.with_suffix(".png")
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def _ratios(axes: Axes, lines: list[dict[str, Any]]) -> None:
    """Bars to the median; whiskers from the slowest round to the fastest."""
    names = [line["kind"]["name"] + ("" if line["kind"]["durable"] else " *") for line in lines]
    ratios = [line["ratio"] for line in lines]
    low = [line["ratio"] - min(line["ratios"]) for line in lines]
    high = [max(line["ratios"]) - line["ratio"] for line in lines]
    axes.barh(names, ratios, xerr=[low, high], color=[GROUPS[line["kind"]["group"]] for line in lines], capsize=2)
    axes.set_xlabel("images per second, of the limit in the same seconds (* nothing is kept if the process dies)")


def _costs(axes: Axes, lines: list[dict[str, Any]]) -> None:
    at = [0.0] * len(lines)
    for role, colour in ROLES.items():
        spent = [line["cpu_ms"].get(role, 0.0) for line in lines]
        axes.barh(range(len(lines)), spent, left=at, color=colour, label=role)
        at = [one + more for one, more in zip(at, spent, strict=True)]
    axes.set_xlabel("CPU milliseconds an image")
    axes.legend()
