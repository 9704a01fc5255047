"""The table, and everything as JSON.

Stage: the end of the bench, beside :mod:`worker.bench.sentences`.
"""

import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.table import Table

from worker.bench.figures import Figures
from worker.bench.summary import Line


def table(title: str, figures: Figures) -> Table:
    """Lay out one line a contender."""
    shown = Table(title=title, title_justify="left", caption=CAPTION, caption_justify="left")
    shown.add_column("contender")
    for name in COLUMNS:
        shown.add_column(name, justify="right")
    shown.add_column("durable")
    group = None
    for line in figures.lines.values():
        if group not in (None, line.kind.group):
            shown.add_section()
        group = line.kind.group
        shown.add_row(*_row(line, figures))
    return shown


#: What is told of each contender.
COLUMNS = ("images/s", "x limit", "min to max", "x sync", "worker", "redis", "client", "+ ms", "p50 ms", "p99 ms", "MB")

#: What the columns mean.
CAPTION = (
    "images/s: median of the rounds. x limit: of the limit's rate in the same seconds, median and spread of the "
    "rounds; the limit's own shows the noise. x sync: by way of the limit. worker, redis, client: CPU milliseconds an "
    "image; + ms: of all, over the limit's. p50, p99: one image at a time on an idle server. durable: a request "
    "outlives its worker."
)


def _row(line: Line, figures: Figures) -> list[str]:
    sync = figures["synchronous"]
    spent = [f"{line.cpu_ms[role]:.2f}" if role in line.cpu_ms else "" for role in ("worker", "redis", "client")]
    if line.kind.group in ("limit", "three servers"):
        spent[2] = ""  # nobody sends anything
    return [
        line.kind.name,
        f"{line.rate:.1f}",
        f"{line.ratio:.2f}",
        f"{min(line.ratios):.2f} to {max(line.ratios):.2f}",
        f"{line.times(sync):.2f}" if sync else "",
        *spent,
        f"{line.more_cpu_ms:.2f}",
        f"{line.p50_ms:.1f}",
        f"{line.p99_ms:.1f}",
        f"{line.memory_mb:.0f}",
        "yes" if line.kind.durable else "no",
    ]


def host() -> dict[str, Any]:
    """Describe this machine."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {
            name: version(name) for name in ("openvino", "celery", "redis", "numpy", "opencv-python-headless")
        },
    }


def write(path: Path, about: dict[str, Any], figures: Figures, sentences: Sequence[str]) -> None:
    """Write all of it to ``path``."""
    content = {
        "host": host(),
        **about,
        "anatomy": {name: getattr(figures.anatomy, name) for name in figures.anatomy.__dataclass_fields__},
        "benchmark_app": figures.benchmark_app,
        "contenders": [line.to_json() for line in figures.lines.values()],
        "sentences": list(sentences),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
