"""``fleet dead``: look at the jobs that will not be tried again, send them again, or drop them.

Stage: a front door for people. Neighbours: :mod:`producer.dead` keeps the list, :mod:`producer.replay` sends again.

Exit status: 0 all well; 1 a job could not be shown, sent or dropped, or Redis cannot be reached; 2 wrong usage.
"""

import base64
import binascii
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from redis import Redis

from producer import dead as dead_list
from producer.dead import DeadJob
from producer.errors import FleetError, InvalidRequest
from producer.replay import replay as send_again
from producer.requests import MAX_DEADLINE_S
from producer.terminal import SOME_FAILED, USAGE, connected, end, moment, printable, show_table, url_option
from producer.wire import describe_images, model_of

#: How the formats that the fleet reads begin.
_SUFFIXES = ((b"\xff\xd8\xff", "jpg"), (b"\x89PNG", "png"), (b"RIFF", "webp"), (b"BM", "bmp"))


@click.group()
def dead() -> None:
    """Look after the dead list: jobs that ended their workers, and images kept because they cannot be read."""


@dead.command("list")
@url_option
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
def list_jobs(url: str, *, as_json: bool) -> None:
    """List the jobs, the oldest first: id, when, model, bytes, code, reason."""
    with connected(url) as redis:
        jobs = list(dead_list.read_all(redis))
    if as_json:
        for job in jobs:
            click.echo(json.dumps(_summary(job), ensure_ascii=False))
        return
    rows = [
        (job.id, moment(job.died_at), model_of(job.queue) or job.queue, f"{job.size_bytes:,}", job.code, job.reason)
        for job in jobs
    ]
    show_table(("id", "died", "model", "bytes", "code", "reason"), rows)
    if sys.stdout.isatty():
        click.echo(f"{len(jobs)} job{'s' * (len(jobs) != 1)}", err=True)


@dead.command()
@click.argument("job_id", metavar="ID")
@url_option
@click.option("--json", "as_json", is_flag=True, help="All of it as one JSON object, images inside the message too.")
@click.option("--save", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Write its images here.")
def show(job_id: str, url: str, save: Path | None, *, as_json: bool) -> None:
    """Show one job with all that is known of it."""
    with connected(url) as redis:
        job = dead_list.read(redis, job_id)
        kept: int = redis.exists(*job.images) if job.images else 0
        if as_json:
            click.echo(json.dumps(_summary(job) | {"args": job.args}, ensure_ascii=False))
        else:
            for name, value in (_summary(job) | {"args": describe_images(job.args)}).items():
                click.echo(f"{name}: {printable(value)}")
        if kept < len(job.images):
            click.echo(f"{len(job.images) - kept} of its {len(job.images)} images are no longer in Redis.", err=True)
        if save is not None:
            _save(redis, job, save)
    sys.exit(SOME_FAILED if kept < len(job.images) else 0)


@dead.command()
@click.argument("job_ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "all_of_them", is_flag=True, help="Every job on the list.")
@url_option
@click.option(
    "--deadline",
    type=click.FloatRange(0, MAX_DEADLINE_S, min_open=True),
    default=600.0,
    show_default=True,
    help="Seconds from now after which nobody wants the answers.",
)
def replay(job_ids: tuple[str, ...], url: str, deadline: float, *, all_of_them: bool) -> None:
    """Send jobs again, under their own ids: whoever asks for an id gets the new answer."""
    _each(job_ids, url, lambda redis, job: send_again(redis, job, deadline_s=deadline), "sent again", all_of_them)


@dead.command()
@click.argument("job_ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "all_of_them", is_flag=True, help="Every job on the list.")
@url_option
def drop(job_ids: tuple[str, ...], url: str, *, all_of_them: bool) -> None:
    """Forget jobs and their images."""
    _each(job_ids, url, dead_list.drop, "dropped", all_of_them)


def _each(
    job_ids: tuple[str, ...], url: str, act: Callable[[Redis, DeadJob], None], done: str, all_of_them: bool
) -> None:
    """Do ``act`` to each job; one that fails keeps none of the others from it."""
    if bool(job_ids) == all_of_them:
        end(USAGE, "Name the jobs, or say --all.")
    acted = failed = 0
    with connected(url) as redis:
        for job_id, job in _chosen(redis, job_ids):
            try:
                act(redis, job or dead_list.read(redis, job_id))
            except FleetError as error:
                failed += 1
                click.echo(f"{printable(job_id)}: {error} ({error.code})", err=True)
            else:
                acted += 1
                click.echo(printable(job_id))
    click.echo(f"{acted} {done}" + f", {failed} failed" * (failed > 0), err=True)
    sys.exit(SOME_FAILED if failed else 0)


def _chosen(redis: Redis, job_ids: tuple[str, ...]) -> Iterable[tuple[str, DeadJob | None]]:
    if job_ids:
        return [(job_id, None) for job_id in dict.fromkeys(job_ids)]
    return ((job.id, job) for job in dead_list.read_all(redis))


def _summary(job: DeadJob) -> dict[str, Any]:
    return {
        "id": job.id,
        "died_at": moment(job.died_at),
        "code": job.code,
        "reason": job.reason,
        "task": job.task,
        "queue": job.queue,
        "kwargs": job.kwargs,
        "images": job.images,
        "size_bytes": job.size_bytes,
    }


def _save(redis: Redis, job: DeadJob, folder: Path) -> None:
    name = re.sub(r"[^A-Za-z0-9_-]", "_", job.id)[:128]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(_images(redis, job)):
            path = folder / f"{name}.{number}.{_suffix(data)}"
            path.write_bytes(data)
            click.echo(f"saved: {path}")
    except OSError as error:
        end(USAGE, f"{folder} cannot be used for images: {error.strerror or error}.")


def _images(redis: Redis, job: DeadJob) -> Iterator[bytes]:
    """Yield the bytes of each image that is still there, from Redis or out of the message."""
    first = job.args[0] if job.args else None
    for image in first if isinstance(first, list) else [first]:
        said = image if isinstance(image, dict) else {}
        ref, text = said.get("ref"), said.get("data")
        if isinstance(ref, str) and ref in job.images:
            found: Any = redis.get(ref)
            if found is not None:
                yield bytes(found)
        elif isinstance(text, str):
            try:
                yield base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError):
                raise InvalidRequest("The image inside its message is not base64.") from None


def _suffix(data: bytes) -> str:
    return next((suffix for magic, suffix in _SUFFIXES if data.startswith(magic)), "bin")
