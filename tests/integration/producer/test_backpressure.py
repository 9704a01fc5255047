"""A full queue and a full server push back."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import NoScriptError

from producer import Client, InvalidImage, InvalidRequest, Overloaded, dispatch, offering
from producer.books import BYTES_KEY, SIZES_KEY, strike_out
from producer.ids import deadline_of
from producer.scripts import Command
from producer.status import read_status
from producer.steps import Effect, Pause
from producer.wire import JOBS_KEY, ledger_key
from tests.integration.producer.standin import LARGE, PICTURE


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


class SlowFleet:
    """Takes a job every so many seconds, by a clock that goes only while the client waits for room."""

    def __init__(self, client: Client, redis: Redis, monkeypatch: pytest.MonkeyPatch, *, every_s: float) -> None:
        self.now = 1_800_000_000.0
        self.accepted_at: dict[str, float] = {}
        self._every_s = every_s
        self._next = self.now + every_s
        self._redis = redis
        link = client._current
        self._port = link._port
        for module in (dispatch, offering):
            monkeypatch.setattr(module, "time", self)
        monkeypatch.setattr(link.dispatch.clock, "now", self.monotonic)
        monkeypatch.setattr(link, "_port", self)

    def monotonic(self) -> float:
        """Tell the time."""
        return self.now

    def __call__(self, effect: Effect) -> Any:
        """Do what the client asks for, and note when which job was accepted."""
        if isinstance(effect, Pause):
            self._wait(effect.seconds)
            return None
        reply = self._port(effect)
        for job_id in self._redis.hkeys(JOBS_KEY):
            self.accepted_at.setdefault(job_id.decode(), self.now)
        return reply

    def _wait(self, seconds: float) -> None:
        self.now += seconds
        while self._next <= self.now:
            self._next += self._every_s
            self._redis.rpop("detect.centerface")


@pytest.mark.usefixtures("together")
def test_in_map_the_deadline_of_one_that_waits_does_not_run_while_those_before_it_do(
    url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a fast source, room for one job, and time for three to be taken, then each image gets in, in its own time.

    The image at the end cannot be read: its answer says that all before it have been sent, or refused before.
    """
    with Client(url, max_backlog=1) as client:
        client.models()
        fleet = SlowFleet(client, redis, monkeypatch, every_s=0.2)
        answers = client.map([*[PICTURE] * 60, b""], ordered=False, deadline_s=0.7)
        last = next(answers)
        assert (last.index, type(last.error)) == (60, InvalidImage)
        accepted = list(fleet.accepted_at.items())
        assert len(accepted) == 60
        for (job_id, at), (_, before_at) in zip(accepted[1:], accepted[:-1], strict=True):
            assert at <= (deadline_of(job_id) or 0) + 0.001
            assert deadline_of(job_id) == pytest.approx(before_at + 0.7, abs=0.002)
        answers.close()


def test_a_server_out_of_memory_is_overloaded(url: str, redis: Redis) -> None:
    """Given Redis at its limit with noeviction, then Overloaded says so, and nothing of the job was stored."""
    with Client(url, when_full="refuse") as client:
        client.models()
        redis.config_set("maxmemory", 1)
        for image in (LARGE, PICTURE, LARGE):
            with pytest.raises(Overloaded, match="memory"):
                client.submit(image)
        redis.config_set("maxmemory", 0)
        assert redis.keys("fleet:blob:*") == []
        assert redis.llen("detect.centerface") == 0
        client.submit(LARGE)


def test_memory_is_waited_for(url: str, redis: Redis) -> None:
    """Given Redis at its limit, when memory becomes free, then the waiting submit goes through."""
    with Client(url) as client, ThreadPoolExecutor() as pool:
        client.models()
        redis.config_set("maxmemory", 1)
        sent = pool.submit(client.submit, LARGE)
        with pytest.raises(TimeoutError):
            sent.result(0.2)
        redis.config_set("maxmemory", 0)
        sent.result(10)


def test_images_that_were_stored_in_vain_do_not_stay(url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a server that stored an image, forgot the script and is full since, then the image is gone again."""
    with Client(url, when_full="refuse") as client:
        client.models()
        lines = client._current._lines
        ask = lines.ask

        def ask_and_fill(*commands: Command, atomic: bool = False) -> list[Any]:
            replies = ask(*commands, atomic=atomic)
            if any(isinstance(reply, NoScriptError) for reply in replies):
                redis.config_set("maxmemory", 1)
            return replies

        redis.script_flush()
        monkeypatch.setattr(lines, "ask", ask_and_fill)
        try:
            with pytest.raises(Overloaded):
                client.submit(LARGE)
        finally:
            redis.config_set("maxmemory", 0)
        assert redis.keys("fleet:blob:*") == []


def test_the_last_fifth_of_the_memory_is_kept_for_results(url: str, redis: Redis) -> None:
    """Given more than four fifths in use, then jobs are refused while results can be stored; a cache is no limit."""
    with Client(url, when_full="refuse") as client:
        client.submit(PICTURE)
        redis.config_set("maxmemory", int(redis.info("memory")["used_memory"] / 0.85))
        with pytest.raises(Overloaded, match="kept for results"):
            client.submit(PICTURE)
        redis.set("celery-task-meta-some", b"a result")
        redis.config_set("maxmemory-policy", "allkeys-lru")
        client.submit(PICTURE)
        redis.config_set("maxmemory-policy", "noeviction")


def test_bytes_are_limited_as_well_as_jobs(url: str, redis: Redis) -> None:
    """Given room for three images in bytes, then the fourth is refused, until one job has ended and left the books."""
    with Client(url, max_backlog_bytes=4 * len(LARGE), when_full="refuse") as client:
        jobs = [client.submit(LARGE) for _ in range(3)]
        with pytest.raises(Overloaded, match="bytes"):
            client.submit(LARGE)
        assert len(redis.keys("fleet:blob:*")) == 3
        client.submit(PICTURE, model="another")  # each queue has its own limit
        strike_out(redis, "detect.centerface", [jobs[0].id])
        client.submit(LARGE)


def test_one_job_above_the_limit_is_accepted_by_an_empty_queue(url: str) -> None:
    """Given a limit smaller than the image, then it goes alone: waiting would not make it smaller."""
    with Client(url, max_backlog_bytes=1000, when_full="refuse") as client:
        client.submit(LARGE)
        with pytest.raises(Overloaded, match="bytes"):
            client.submit(PICTURE)


def test_bytes_are_taken_down_once(url: str, redis: Redis) -> None:
    """Given jobs struck out twice, by a worker and by the sweep say, then the books are empty, never less."""
    with Client(url) as client:
        jobs = [client.submit(image) for image in (LARGE, PICTURE, LARGE)]
    held = int(redis.hget(BYTES_KEY, "detect.centerface"))
    assert held == sum(int(size) for size in redis.hvals(SIZES_KEY)) > 2 * len(LARGE)
    for job in jobs * 2:
        strike_out(redis, "detect.centerface", [job.id, "never heard of"])
    assert redis.exists(BYTES_KEY, SIZES_KEY, JOBS_KEY, ledger_key("detect.centerface")) == 0


@pytest.mark.parametrize("broken", ["many", "1.5", "inf", "1e30", "0x7fffffffffff", "-9", "9" * 18, "9" * 20, ""])
def test_a_sum_that_somebody_broke_is_begun_anew(url: str, redis: Redis, broken: str) -> None:
    """Given no whole number where the queue's bytes are summed up, then a job is accepted, and counts from there."""
    redis.hset(BYTES_KEY, "detect.centerface", broken)
    assert [queue.bytes for queue in read_status(redis).queues] == [0]
    with Client(url) as client:
        job = client.submit(PICTURE)
    assert redis.llen("detect.centerface") == 1
    assert redis.hget(BYTES_KEY, "detect.centerface") == redis.hget(SIZES_KEY, job.id)


def test_a_full_server_lets_jobs_leave_the_books(url: str, redis: Redis) -> None:
    """Given Redis at its limit, when a job ends, then it can be struck out all the same."""
    with Client(url) as client:
        jobs = [client.submit(LARGE) for _ in range(2)]
        redis.config_set("maxmemory", 1)
        strike_out(redis, "detect.centerface", [jobs[0].id])
        assert redis.hkeys(SIZES_KEY) == redis.hkeys(JOBS_KEY) == [jobs[1].id.encode()]
        assert redis.hget(BYTES_KEY, "detect.centerface") == redis.hget(SIZES_KEY, jobs[1].id)
        strike_out(redis, "detect.centerface", [jobs[1].id])
        assert redis.exists(BYTES_KEY, SIZES_KEY, JOBS_KEY) == 0


def test_the_limit_holds_for_all_clients_together(url: str, redis: Redis) -> None:
    """Given eight clients that submit at once, then no more jobs than the limit are accepted."""
    verdicts: list[str] = []

    def submit() -> None:
        with Client(url, max_backlog=50, when_full="refuse") as client:
            for _ in range(20):
                try:
                    client.submit(LARGE)
                    verdicts.append("accepted")
                except Overloaded:
                    verdicts.append("overloaded")

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(submit) for _ in range(8)]:
            done.result()
    assert (verdicts.count("accepted"), verdicts.count("overloaded")) == (50, 110)
    assert redis.llen("detect.centerface") == len(redis.keys("fleet:blob:*")) == 50


@pytest.mark.parametrize(
    "limits", [{"max_backlog": 0}, {"max_backlog_bytes": 0}, {"max_backlog_bytes": 1.5}, {"max_backlog": True}]
)
def test_limits_are_checked(url: str, limits: dict[str, Any]) -> None:
    """Given a limit that is none, then InvalidRequest."""
    with pytest.raises(InvalidRequest):
        Client(url, **limits)
