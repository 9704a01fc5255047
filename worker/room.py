"""Whether there is memory for one more network in this process.

Stage: before :mod:`worker.change` loads a version beside the running one. A container that passes its limit is killed
with all its jobs, so a version that plainly cannot fit is refused while nothing has happened yet.
"""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from worker.models import ModelError

CGROUP = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")

#: A network takes its file's bytes, about as much while it is compiled, and as much again for its weights in the order
#: that the processor likes; what its requests take beside that cannot be told before it runs.
COPIES_OF_NETWORK = 3

#: Where a cgroup's limit and use are told, and the name of what it could give back: version 2, then version 1.
_BOOKS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)


def check(parts: Iterable[Path], *, cgroup: Path = CGROUP, meminfo: Path = MEMINFO) -> None:
    """Check that a network of these files fits.

    Raises:
        ModelError: it does not.
    """
    free = free_bytes(cgroup=cgroup, meminfo=meminfo)
    need = COPIES_OF_NETWORK * sum(part.stat().st_size for part in parts)
    if free is not None and need > free:
        raise ModelError(
            f"There is not enough memory for it beside the running version: it takes about {need / 2**20:,.0f} MiB, "
            f"and {free / 2**20:,.0f} MiB are free."
        )


def free_bytes(*, cgroup: Path = CGROUP, meminfo: Path = MEMINFO) -> int | None:
    """Return what this process may still take, by the host's and its container's books; None where neither tells."""
    told = [value for value in (_host(meminfo), *(_group(cgroup, *names) for names in _BOOKS)) if value is not None]
    return min(told, default=None)


def _host(meminfo: Path) -> int | None:
    with suppress(OSError, ValueError, KeyError):
        return 1024 * _table(meminfo)["MemAvailable:"]
    return None


def _group(root: Path, limit: str, used: str, spare: str) -> int | None:
    with suppress(OSError, ValueError):  # no such version of cgroups, or "max": no limit
        free = int((root / limit).read_text()) - int((root / used).read_text())
        return max(0, free) + _table((root / used).with_name("memory.stat")).get(spare, 0)
    return None


def _table(path: Path) -> dict[str, int]:
    lines = (line.split() for line in path.read_text().splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdecimal()}
