"""``fleet top``: the state of the fleet, live in a terminal.

Stage: behind :mod:`producer.cli_top`, which loads this module, and with it Celery, only when somebody looks. It asks no
worker: what stands in Redis is read (:mod:`producer.status`), and the workers' events are listened to.
"""

import contextlib
import threading
import time
from collections.abc import Iterator

from celery import Celery
from kombu.exceptions import OperationalError
from redis import Redis
from redis.exceptions import RedisError
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from producer.happenings import Happenings
from producer.redis_url import tls_of
from producer.status import Status, read_status
from producer.terminal import moment, printable
from producer.wire import model_of

_BARS = " ▁▂▃▄▅▆▇█"

#: A job that waits longer than this is shown in red.
LONG_S = 60.0


def watch(redis: Redis, url: str, *, interval_s: float, once: bool, console: Console) -> None:
    """Show the fleet until interrupted, or once.

    Raises:
        redis.exceptions.RedisError: Redis does not answer at the beginning; later losses are shown and outlived.
    """
    status = read_status(redis)
    with _listening(url) as happenings:
        if once:
            time.sleep(interval_s)
            console.print(render(read_status(redis), happenings))
            return
        with Live(render(status, happenings), console=console, screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(interval_s)
                try:
                    status, notes = read_status(redis), []
                except (RedisError, OSError):
                    notes = [Text("Redis does not answer; what follows is old.", "bold red")]
                live.update(Group(*notes, render(status, happenings)), refresh=True)


@contextlib.contextmanager
def _listening(url: str) -> Iterator[Happenings]:
    happenings, over = Happenings(), threading.Event()
    thread = threading.Thread(target=_listen, args=(url, happenings, over), daemon=True)
    thread.start()
    try:
        yield happenings
    finally:
        over.set()


def _listen(url: str, happenings: Happenings, over: threading.Event) -> None:
    """Take in events, across losses of the connection."""
    with Celery("top", broker=url, broker_use_ssl=tls_of(url), set_as_current=False) as app:
        while not over.is_set():
            try:
                with app.connection_for_read() as connection:
                    receiver = app.events.Receiver(connection, handlers={"*": happenings.see})
                    happenings.listens = True
                    receiver.capture(limit=None, timeout=None, wakeup=True)
            except (OperationalError, RedisError, OSError):
                happenings.listens = False
                over.wait(1.0)


def render(status: Status, happenings: Happenings) -> RenderableType:
    """Lay out one frame."""
    parts: list[RenderableType] = [_header(status, happenings), _workers(status, happenings), _queues(status)]
    if happenings.failures():
        parts.append(_failures(happenings))
    return Group(*parts)


def _header(status: Status, happenings: Happenings) -> Panel:
    history = happenings.history()
    line = Text()
    line.append(f"{_rate(sum(history[-10:]) / 10)} jobs/s ", "bold")
    line.append(_spark(history), "green")
    line.append(f"\nin flight {status.in_flight}   not ended {status.ledger}   ")
    line.append(f"dead {status.dead}", "bold red" if status.dead else "")
    for name, count in sorted(status.counters.items()):
        line.append(f"   {printable(name)} {count}")
    if status.memory:
        used, limit = status.memory["used_bytes"] / 2**20, status.memory["limit_bytes"] / 2**20
        line.append(f"   Redis {used:,.0f} MiB" + (f" of {limit:,.0f}" if limit else ""))
    title = f"detection fleet   {moment(time.time())}" + ("" if happenings.listens else "   (no events yet)")
    return Panel(line, title=title, title_align="left")


def _workers(status: Status, happenings: Happenings) -> Table:
    table = _table("worker", "seen", "jobs", "done/s", "failed/s", "load")
    rates, beats = happenings.rates(), happenings.heartbeats()
    for name, age_s in sorted(status.workers.items()):
        done, failed = rates.get(name, (0.0, 0.0))
        active, load = beats.get(name, (None, None))
        table.add_row(
            printable(name),
            f"{age_s:.0f} s",
            "" if active is None else str(active),
            _rate(done),
            Text(_rate(failed), "red" if failed else ""),
            "" if load is None else f"{load:.1f}",
        )
    if not status.workers:
        table.add_row(Text("none lives", "bold red"), "", "", "", "", "")
    return table


def _queues(status: Status) -> Table:
    table = _table("queue", "waiting", "oldest", "MiB", "served", "digest")
    for one in status.queues:
        said = status.models.get(model_of(one.queue) or "", {})
        late = one.oldest_s is not None and one.oldest_s > LONG_S
        table.add_row(
            printable(one.queue),
            str(one.waiting),
            Text("" if one.oldest_s is None else f"{one.oldest_s:.1f} s", "bold red" if late else ""),
            f"{one.bytes / 2**20:,.1f}",
            ("yes" if said["served"] else Text("no", "bold red")) if said else "",
            printable(said.get("digest", "")),
        )
    return table


def _failures(happenings: Happenings) -> Table:
    """List the failures, each with its reason below its id: beside it a terminal of 80 columns has no room."""
    table = Table(
        title="last failures", title_justify="left", title_style="bold", box=None, expand=True, pad_edge=False
    )
    table.add_column("when", no_wrap=True)
    table.add_column("job, and why", ratio=1, no_wrap=True, overflow="ellipsis")
    for one in happenings.failures():
        table.add_row(moment(one.at)[11:19], Text(f"{printable(one.job)}\n{printable(one.why)}"))
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, expand=True, pad_edge=False, header_style="bold cyan", padding=(0, 1))
    table.add_column(first, ratio=1, no_wrap=True, overflow="ellipsis")
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _rate(value: float) -> str:
    return f"{value:.1f}"


def _spark(history: list[int]) -> str:
    most = max([*history, 1])
    return "".join(_BARS[-(-count * (len(_BARS) - 1) // most)] for count in history)
