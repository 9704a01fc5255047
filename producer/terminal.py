"""What all commands of ``fleet`` share: exit statuses, the option ``--url``, a connection, and how text is shown.

Stage: under :mod:`producer.cli` and its neighbours.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NoReturn

import click
from redis import Redis
from redis.exceptions import RedisError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from producer.errors import InvalidRequest
from producer.link import CONNECT_TIMEOUT_S, REPLY_TIMEOUT_S
from producer.redis_url import DEFAULT_URL, URL_VARIABLE, check_url, hide_password, url_of
from producer.steps import explain

SOME_FAILED, USAGE = 1, 2


def _default_url() -> str:
    try:
        return url_of()
    except InvalidRequest as error:
        raise click.UsageError(str(error)) from error


#: A password on a command line is seen by everybody on this host: the environment or a file is better.
url_option: Callable[[Any], Any] = click.option(
    "--url",
    envvar=URL_VARIABLE,
    default=_default_url,
    show_default=f"what the file FLEET_URL_FILE holds, or {DEFAULT_URL}",
    show_envvar=True,
    help="The Redis.",
)


def end(status: int, sentence: str) -> NoReturn:
    """End the program with ``status``, having said why on standard error."""
    click.echo(sentence, err=True)
    sys.exit(status)


@contextmanager
def connected(url: str) -> Iterator[Redis]:
    """Give a connection; whatever Redis raises in the block ends the program with one sentence."""
    try:
        redis = Redis.from_url(check_url(url), socket_timeout=REPLY_TIMEOUT_S, socket_connect_timeout=CONNECT_TIMEOUT_S)
    except (ValueError, TypeError, InvalidRequest) as error:
        end(USAGE, f"{hide_password(url)!r} is not a Redis URL such as {DEFAULT_URL}: {error}")
    try:
        with redis:
            yield redis
    except InvalidRequest as error:
        end(SOME_FAILED, str(error))
    except (RedisError, OSError) as error:
        end(SOME_FAILED, str(explain(error)))


def show_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table on a terminal, and lines of values between tabs anywhere else."""
    texts = [[printable(value) for value in row] for row in rows]
    if not sys.stdout.isatty():
        for row in texts:
            click.echo("\t".join(row))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=number == 0)
    for row in texts:
        table.add_row(*map(Text, row))
    Console(highlight=False).print(table)


def printable(value: object) -> str:
    """Show ``value`` on one line; what could steer a terminal is shown as an escape."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in str(value))


def moment(seconds: float) -> str:
    """Show a time, seconds since 1970, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
