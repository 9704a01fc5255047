"""A full queue and a full server push back."""

import threading
import time

import pytest
from redis import Redis

from producer import Client, Overloaded
from tests.integration.producer.standin import PICTURE


def test_a_full_queue_refuses_when_told_to(url: str, redis: Redis) -> None:
    """Given max_backlog jobs wait, on any priority, then the next is refused; when one is taken, it is accepted."""
    with Client(url, max_backlog=3, when_full="refuse") as client:
        for priority in (0, 5, 9):
            client.submit(PICTURE, priority=priority)
        with pytest.raises(Overloaded, match="3 jobs wait"):
            client.submit(PICTURE)
        redis.rpop("detect.centerface")
        client.submit(PICTURE)


def test_a_full_queue_is_waited_for(url: str, redis: Redis) -> None:
    """Given a full queue, when a worker takes a job, then the waiting submit goes through."""
    with Client(url, max_backlog=1) as client:
        client.submit(PICTURE)
        sent = threading.Event()

        def submit() -> None:
            client.submit(PICTURE)
            sent.set()

        thread = threading.Thread(target=submit)
        thread.start()
        assert not sent.wait(0.2)
        redis.rpop("detect.centerface")
        assert sent.wait(10)
        thread.join()
        assert redis.llen("detect.centerface") == 1


def test_waiting_for_room_ends_at_the_deadline(url: str) -> None:
    """Given a queue that stays full, then a submit fails with Overloaded when its own deadline comes."""
    with Client(url, max_backlog=1) as client:
        client.submit(PICTURE)
        started = time.monotonic()
        with pytest.raises(Overloaded):
            client.submit(PICTURE, deadline_s=0.3)
        assert 0.25 < time.monotonic() - started < 3


def test_in_map_a_full_queue_is_the_answer_of_that_image(url: str) -> None:
    """Given a client that refuses, then images beyond the limit get Overloaded and map ends normally."""
    with Client(url, max_backlog=2, when_full="refuse") as client:
        answers = client.map([PICTURE] * 4, window=4, ordered=False)
        assert [type(next(answers).error) for _ in range(2)] == [Overloaded, Overloaded]
        answers.close()


def test_a_server_out_of_memory_is_overloaded(url: str, redis: Redis) -> None:
    """Given Redis at its limit with noeviction, then Overloaded says so, and nothing of the job was stored."""
    with Client(url) as client:
        client.models()
        redis.config_set("maxmemory", 1)
        with pytest.raises(Overloaded, match="memory"):
            client.submit(PICTURE * 1000)
        redis.config_set("maxmemory", 0)
        assert redis.keys("fleet:blob:*") == []
        assert redis.llen("detect.centerface") == 0
