"""What single hostile messages, keys and broadcasts can do to a worker: nothing."""

import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from celery.canvas import chunks, xmap, xstarmap

from producer import wire
from producer.ids import new_job_id
from tests.hostile.conftest import Victim
from tests.integration.kit import QUEUE, USERS, faces
from tests.waiting import eventually

CORPUS = Path(__file__).parent / "corpus"


def restarts(victim: Victim) -> int:
    """Count how often the worker has connected again."""
    return victim.fleet.worker.log.count("Connection to broker lost")


@pytest.mark.parametrize("path", sorted(CORPUS.iterdir()), ids=lambda path: path.name)
def test_what_once_ended_a_worker_does_nothing_now(victim: Victim, path: Path) -> None:
    """Given a message or file that ended a worker, or might have, then it does not even reconnect."""
    before = restarts(victim)
    if path.suffix == ".message":
        victim.push([path.read_bytes().replace(b"QUEUE", QUEUE.encode())])
    else:
        victim.fleet.redis.set(f"{wire.BLOB_PREFIX}corpus", path.read_bytes(), ex=60)
        error = victim.fleet.detect({"ref": f"{wire.BLOB_PREFIX}corpus"}).get(timeout=30, propagate=False)
        assert error.args[1] in ("invalid_image", "image_too_large")
    assert faces(victim.fleet.detect().get(timeout=30)) == 1
    victim.settle()
    assert restarts(victim) == before


def test_bytes_that_are_no_message_are_dropped_with_a_line_and_nothing_comes_back(victim: Victim) -> None:
    """Given items that are not JSON, too deep or no objects, then each is one line in the log."""
    before, dropped = restarts(victim), victim.fleet.worker.log.count("message.dropped")
    items = [case.item for case in victim.maker(5).raw(0)]
    victim.push(items)
    victim.assert_well()
    assert victim.fleet.worker.log.count("message.dropped") == dropped + len(items)
    assert restarts(victim) == before


def test_a_message_that_cannot_be_read_is_answered_if_it_names_its_job(victim: Victim) -> None:
    """Given bodies in unknown encodings, compressions and protocols, then each sender gets invalid_request."""
    maker = victim.maker(6)
    codes = {case.name: victim.refused(case) for case in maker.bombs() if case.job_id is not None}
    assert codes == dict.fromkeys(codes, "invalid_request")
    assert len(codes) > 20
    victim.assert_well()


def test_work_that_is_to_follow_a_job_must_be_such_as_celery_can_send(victim: Victim) -> None:
    """Given links, chains and chords that point at nonsense, keys and pickle, then the job is refused first."""
    codes = {case.name: victim.refused(case) for case in victim.maker(7).signatures()}
    assert codes == dict.fromkeys(codes, "invalid_request")
    victim.assert_well()


def test_celery_s_own_tasks_send_nothing_that_a_link_may_not(victim: Victim) -> None:
    """Given Celery's own tasks with signatures that go to keys, in pickle or without end, then they are refused."""
    codes = {case.name: victim.refused(case) for case in victim.maker(15).celery_tasks()}
    assert codes == dict.fromkeys(codes, "invalid_request")
    victim.assert_well()


def test_celery_s_own_tasks_do_what_they_are_there_for(victim: Victim) -> None:
    """Given a users' task over a list, in one message and in chunks, then it is called for each."""
    app = victim.fleet.app
    step = app.signature("spy.echo")
    assert xmap(step, [1, 2], app=app).apply_async(queue=USERS).get(timeout=30) == [1, 2]
    assert xstarmap(step, [[1], [2]], app=app).apply_async(queue=USERS).get(timeout=30) == [1, 2]
    assert chunks(step, [[1], [2], [3]], 2, app=app).apply_async(queue=USERS).get(timeout=30) == [[1, 2], [3]]
    sent = victim.fleet.app.send_task("celery.accumulate", [1, 2], {"index": 1}, queue=USERS)
    assert sent.get(timeout=30) == 2


def test_a_time_of_sending_that_no_result_could_tell_is_refused(victim: Victim) -> None:
    """Given a job that was sent before all time, then no infinity comes into a result, which would not be JSON."""
    maker = victim.maker(16)
    for number, moment in enumerate((-1e308, float("-inf"), float("nan"), float("inf"))):
        message = maker.good(maker.job_id())
        message["headers"]["fleet_sent_at"] = moment
        assert victim.refused(maker.case(f"moment {number}", message["headers"]["id"], message)) == "invalid_request"


def test_a_job_with_real_work_to_follow_is_done(victim: Victim) -> None:
    """Given a link with a nested group, as Celery writes them, then the job and its followers are answered."""
    app = victim.fleet.app
    step = app.signature("fleet.detect", args=[victim.fleet.image], queue=QUEUE, immutable=True)
    after = step.clone().set(link=[step.clone()], link_error=[step.clone()], priority=3, expires=60)
    job = victim.fleet.detect(link=after, shadow="Kamera 7 ä", headers={"camera": {"n": 7}}, retries=2)
    assert faces(job.get(timeout=30)) == 1
    eventually(lambda: len(victim.fleet.redis.keys("celery-task-meta-*")) >= 3, "the followers")
    victim.settle()


def test_a_message_cannot_be_held_for_years_and_one_for_a_second_can(victim: Victim) -> None:
    """Given an ETA in 31 days, then it is refused, and nothing stays in ``unacked``; one in a second is kept."""
    late = victim.fleet.detect(eta=datetime.now(UTC) + timedelta(days=31)).get(timeout=30, propagate=False)
    assert late.args[1] == "invalid_request"
    assert faces(victim.fleet.detect(countdown=1).get(timeout=30)) == 1
    victim.settle()


def test_no_name_that_a_message_bears_can_forge_a_line_of_the_log(victim: Victim) -> None:
    """Given ids, tasks, names and options with line breaks in them, then no line begins with what they say."""
    maker, forged = victim.maker(8), "\n[2026-01-01 00:00:00,000: INFO/MainProcess] forged"
    for header in ("id", "task", "shadow", "origin", "lang", "root_id", "group", "argsrepr"):
        message = maker.good(maker.job_id())
        message["headers"][header] = f"x{forged}"
        victim.push([maker.case(header, None, message).item])
    for options in ({f"a{forged}": 1}, {"model": f"m{forged}"}, {"v": forged}):
        victim.fleet.detect(options=options)
    victim.assert_well()
    assert not re.search(r"^\[[^\]]*\] forged", victim.fleet.worker.log, re.MULTILINE)


@pytest.mark.parametrize("kind", ["list", "hash", "set", "zset", "stream", "empty", "json", "png header"])
def test_whatever_lies_under_a_blob_s_key_is_a_typed_error_and_goes(victim: Victim, kind: str) -> None:
    """Given another Redis type, or bytes that are no image, under the key, then the answer is invalid_image."""
    redis, key = victim.fleet.redis, f"{wire.BLOB_PREFIX}type"
    puts: dict[str, Any] = {
        "list": lambda: redis.lpush(key, "x"),
        "hash": lambda: redis.hset(key, "x", "y"),
        "set": lambda: redis.sadd(key, "x"),
        "zset": lambda: redis.zadd(key, {"x": 1}),
        "stream": lambda: redis.xadd(key, {"x": "y"}),
        "empty": lambda: redis.set(key, ""),
        "json": lambda: redis.set(key, "{}"),
        "png header": lambda: redis.set(key, b"\x89PNG\r\n\x1a\n"),
    }
    puts[kind]()
    error = victim.fleet.detect({"ref": key}).get(timeout=30, propagate=False)
    assert error.args[1] == "invalid_image"
    eventually(lambda: not redis.exists(key), "the removal of the key")


def test_a_result_s_key_that_holds_something_else_does_not_make_the_job_go_round(victim: Victim) -> None:
    """Given a list under the key of the result, then the job is done once and acknowledged: nobody can be answered."""
    maker = victim.maker(9)
    for bad in (False, True):
        job_id = maker.job_id()
        victim.fleet.redis.lpush(f"celery-task-meta-{job_id}", "x")
        message = maker.good(job_id)
        if bad:
            message["headers"]["retries"] = "x"
        victim.push([maker.case("x", job_id, message).item])
    victim.assert_well()


def test_a_queue_s_key_that_holds_something_else_stops_the_worker_no_longer_than_it_lasts(victim: Victim) -> None:
    """Given a string where a list of messages should be, then the worker tries again until it is gone."""
    key = wire.queue_keys(QUEUE)[-1]
    victim.fleet.redis.set(key, "x")
    eventually(lambda: "consumer.refused error=WRONGTYPE" in victim.fleet.worker.log, "the error")
    victim.fleet.redis.delete(key)
    victim.assert_well()


def test_a_permission_that_is_taken_away_stops_the_worker_no_longer_than_it_is_missing(victim: Victim) -> None:
    """Given a user of Redis that may not wait for messages, then the log says so, and the worker tries until it may."""
    victim.fleet.redis.acl_setuser("default", enabled=True, nopass=True, commands=["-blmpop"])
    eventually(lambda: re.search("consumer.refused error=.*permission", victim.fleet.worker.log), "the error")
    victim.fleet.redis.acl_setuser("default", enabled=True, nopass=True, commands=["+blmpop"])
    victim.assert_well()


def test_nonsense_in_the_ledger_neither_stops_the_sweep_nor_is_sent_for_ever(victim: Victim) -> None:
    """Given ids and messages that none of our clients wrote, then they are struck out; a lost job still comes."""
    redis, maker = victim.fleet.redis, victim.maker(10)
    junk = [b"\xff\xfe", b"", b"a b\n", b"x" * 10_000, b"12"]
    garbled, lost = (new_job_id("0" * 12, time.time() + 60) for _ in range(2))
    for one in (*junk, garbled, lost):
        redis.zadd(wire.ledger_key(QUEUE), {one: time.time() - 60})
    redis.hset(wire.JOBS_KEY, garbled, "not a message")
    redis.hset(wire.JOBS_KEY, lost, maker.case("lost", lost, maker.good(lost)).item)
    eventually(lambda: isinstance(victim.answer(lost), wire.Result), "the lost job's answer")
    victim.assert_well()


BROADCASTS: dict[str, bytes] = {
    "not json": b"\xff\x00",
    "a list": b"[]",
    "nothing": b"{}",
    "no properties": b'{"body": "e30=", "headers": {}}',
    "a body that is none": b'{"body": 5, "properties": {"delivery_tag": 1, "delivery_info": 7}}',
    "too deep": b"[" * 100_000,
}


@pytest.mark.parametrize("channel", ["/0.celery.pidbox", "/0.celeryev/worker.heartbeat"])
def test_broadcasts_that_are_nonsense_are_dropped(victim: Victim, channel: str) -> None:
    """Given nonsense where control commands and events come in, then the worker does not even reconnect."""
    before = restarts(victim)
    for data in BROADCASTS.values():
        assert victim.fleet.redis.publish(channel, data) > 0
    victim.assert_well()
    assert restarts(victim) == before


def test_users_messages_on_the_other_queue_are_looked_at_as_well(victim: Victim) -> None:
    """Given hostile messages on the queue of users' tasks, then they are answered alike."""
    maker = victim.maker(14)
    for header, value in (("timelimit", [1]), ("retries", "x"), ("expires", 5)):
        job_id = maker.job_id()
        message = maker.good(job_id, task="spy.modules")
        message["headers"][header] = value
        assert victim.refused(maker.case(header, job_id, message), USERS) == "invalid_request"
    victim.assert_well()
