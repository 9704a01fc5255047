"""``fleet autoscale``: sets the number of a compose stack's workers by the backlog.

Stage: a front door for operators. Neighbours: :mod:`producer.autoscale` decides, ``docker compose`` does. On Kubernetes
KEDA is there for it.
"""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import click
from redis import Redis
from redis.exceptions import RedisError

from producer.autoscale import Rules, Scaler, read
from producer.errors import InvalidRequest
from producer.redis_url import check_url, hide_password
from producer.report import plural
from producer.steps import explain
from producer.terminal import SOME_FAILED, USAGE, end, url_option

#: Longer than a worker may take to drain: compose waits for those that go.
_COMPOSE_WITHIN_S = 120.0


class ComposeError(Exception):
    """``docker compose`` did not do what it was asked to."""


class Compose:
    """One service of a compose stack."""

    def __init__(self, service: str, files: Sequence[str], project: str | None) -> None:
        """Speak of ``service`` in the stack of these files, by default the one of the folder."""
        self._service = service
        self._command = ["docker", "compose", *(word for name in files for word in ("-f", name))]
        self._command += ["-p", project] if project else []

    def count(self) -> int:
        """Count the containers that run.

        Raises:
            ComposeError: compose cannot say.
        """
        return len(self._run("ps", "--quiet", "--status", "running", self._service).split())

    def scale(self, workers: int) -> None:
        """Have so many; others of the stack stay as they are, and those that go finish what they hold.

        Raises:
            ComposeError: compose could not.
        """
        number = f"{self._service}={workers}"
        self._run("up", "--detach", "--no-deps", "--no-recreate", "--no-build", "--scale", number, self._service)

    def _run(self, *words: str) -> str:
        try:
            done = subprocess.run(  # noqa: S603 - the operator's own stack
                [*self._command, *words], capture_output=True, text=True, timeout=_COMPOSE_WITHIN_S, check=False
            )
        except FileNotFoundError as error:
            raise ComposeError("There is no docker here; --dry-run shows what would be done.") from error
        except subprocess.TimeoutExpired as error:
            raise ComposeError(f"docker compose {words[0]} took more than {_COMPOSE_WITHIN_S:g} s.") from error
        if done.returncode:
            raise ComposeError(f"docker compose {words[0]} failed: {done.stderr.strip().splitlines()[-1:]}")
        return done.stdout


@click.command()
@url_option
@click.option("--min", "least", type=click.IntRange(0), default=1, show_default=True, help="Workers always there.")
@click.option("--max", "most", type=click.IntRange(1), default=4, show_default=True, help="Workers at most.")
@click.option("--jobs", type=click.IntRange(1), default=40, show_default=True, help="Jobs per worker.")
@click.option("--oldest", type=click.FloatRange(0), default=5.0, show_default=True, help="Seconds; more if older.")
@click.option("--calm", type=click.FloatRange(0), default=60.0, show_default=True, help="Seconds before workers go.")
@click.option("--every", type=click.FloatRange(0.1), default=5.0, show_default=True, help="Seconds between looks.")
@click.option("--service", default="worker", show_default=True, help="The workers' name in the compose file.")
@click.option("--file", "-f", "files", multiple=True, help="Compose file; may be given more than once.")
@click.option("--project", "-p", help="Compose project; default: the folder's.")
@click.option("--once", is_flag=True, help="Look once and end.")
@click.option("--dry-run", type=click.IntRange(0), metavar="WORKERS", help="Only say it, as if so many ran at first.")
def autoscale(**options: Any) -> None:
    """Set the number of a compose stack's workers by the backlog, until Ctrl-C.

    There is a worker for every --jobs jobs that wait or are in flight, and one more while the oldest has waited longer
    than --oldest. Workers come at once and go after --calm seconds in which fewer were needed; those that go finish
    what they hold. Every change is one line.

    Exit status: 0 after Ctrl-C or --once; 1 with --once when Redis or compose fails; 2 wrong usage.
    """
    if options["least"] > options["most"]:
        end(USAGE, "--min is more than --max.")
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    rules = Rules(options["least"], options["most"], options["jobs"], options["oldest"], options["calm"])
    compose = Compose(options["service"], options["files"], options["project"])
    assumed: int | None = options["dry_run"]
    try:
        redis = Redis.from_url(check_url(options["url"]), socket_timeout=10, socket_connect_timeout=5)
    except (ValueError, TypeError, InvalidRequest) as error:
        end(USAGE, f"{hide_password(options['url'])!r} is not a Redis URL: {error}")
    scaler, failed = Scaler(rules), False
    with redis:
        while True:
            try:
                assumed, failed = _step(redis, scaler, compose, assumed), False
            except (RedisError, ComposeError, OSError) as error:
                failed = True
                why = str(explain(error) if isinstance(error, RedisError) else error or type(error).__name__)
                click.echo(f"{why.rstrip('.')}; the number of workers stays as it is", err=True)
            if options["once"] or over.wait(options["every"]):
                break
    sys.exit(SOME_FAILED if failed else 0)


def _step(redis: Redis, scaler: Scaler, compose: Compose, assumed: int | None) -> int | None:
    """Look, decide and do; return how many there would be now in a dry run, else None."""
    workers = compose.count() if assumed is None else assumed
    backlog = read(redis)
    wanted = scaler.decide(backlog, workers, time.monotonic())
    if wanted != workers:
        dry = "" if assumed is None else " (dry run)"
        why = f"{backlog.waiting} waiting, {backlog.held} in flight, oldest {backlog.oldest_s:.1f} s"
        click.echo(f"{why}: {workers} -> {plural(wanted, 'worker')}{dry}")
        sys.stdout.flush()
        if assumed is None:
            compose.scale(wanted)
    return None if assumed is None else wanted
