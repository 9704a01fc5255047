"""A few messages of ``map`` that go in one round trip: each is accepted or refused, and told of, by itself."""

import itertools
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from redis import Redis

from producer import Client, Overloaded, hooks, intake, lines
from producer.scripts import Command
from tests.integration.producer.standin import LARGE, PICTURE, StandIn, answer_all, echo, numbered
from tests.waiting import eventually

#: Four large images go out in nine pieces: each with what goes before, and the end. How many jobs so many pieces make.
ARRIVED = {1: 0, 4: 0, 8: 0, 9: 4}


def watch_offers(client: Client, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note how many jobs each round trip offers that offers any."""
    lines, offered = client._current._lines, []
    ask = lines.ask

    def noted(*commands: Command, atomic: bool = False) -> list[Any]:
        scripts = [command for command in commands if command[0] in ("EVAL", "EVALSHA")]
        offered.extend(sum(isinstance(word, bytes) for word in script) for script in scripts)  # bytes are messages
        return ask(*commands, atomic=atomic)

    monkeypatch.setattr(lines, "ask", noted)
    return offered


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize("image", [PICTURE, LARGE])
def test_a_few_messages_go_in_one_round_trip(
    client: Client, worker: StandIn, monkeypatch: pytest.MonkeyPatch, image: bytes
) -> None:
    """Given a list, then a few jobs are offered at a time, and each is a message of its own."""
    client.detect(image)  # a server that does not know the script yet is asked twice
    offered = watch_offers(client, monkeypatch)
    answers = list(client.map([image] * 40, window=40))
    assert [answer.result is not None for answer in answers] == [True] * 40
    assert offered == [intake.FEW] * (40 // intake.FEW)
    assert len({headers["id"] for headers, _, _ in worker.seen}) == len(worker.seen) == 41


@pytest.mark.usefixtures("together")
def test_where_redis_py_is_traced_a_few_go_together_too(
    client: Client, worker: StandIn, traced_pipelines: list[list[str]]
) -> None:
    """Given redis-py as OpenTelemetry leaves it, then it does the asking, and all are answered."""
    assert all(answer.result for answer in client.map([LARGE] * 8))
    assert ["SET"] * 8 + ["EVALSHA"] in traced_pipelines


def test_an_image_of_a_slow_source_is_sent_before_the_next_is_asked_for(
    client: Client, worker: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a camera that gives its next picture once the last has reached a worker, then it can go on for ever."""

    def camera() -> Iterator[bytes]:
        for number in range(30):
            eventually(lambda number=number: len(worker.seen) == number)
            yield PICTURE

    monkeypatch.setattr(intake, "AT_ONCE_S", 0.0)  # however fast this machine is
    assert len(list(client.map(camera(), window=64))) == 30


@pytest.mark.usefixtures("together")
def test_of_a_few_the_one_for_which_there_is_no_room_is_refused(url: str, redis: Redis) -> None:
    """Given four that go together and room for all but the large one, then it alone is refused, and leaves nothing."""
    with Client(url, max_backlog_bytes=50_000, when_full="refuse") as client:
        answers = client.map([PICTURE, LARGE, PICTURE, PICTURE], ordered=False)
        refused = next(answers)
        assert (refused.index, type(refused.error)) == (1, Overloaded)
        assert redis.llen("detect.centerface") == 3
        assert redis.keys("fleet:blob:*") == []
        assert len(client._current.waiting) == 3
        with StandIn(url, answer_all):
            assert sorted(answer.index for answer in answers) == [0, 2, 3]


@pytest.mark.usefixtures("together")
def test_a_large_image_takes_no_memory_from_small_ones_that_go_with_it(url: str, redis: Redis) -> None:
    """Given memory for all but the last of a few that go together, then it alone is refused, and leaves nothing."""
    with Client(url, when_full="refuse") as client:
        client.submit(PICTURE)  # so that the server has what it keeps for a client
        large = LARGE + bytes(3_000_000)
        in_all = redis.info("memory")["used_memory"] + 7 * len(LARGE) + 2 * len(large)  # it lies in a buffer as well
        redis.config_set("maxmemory", in_all + 500_000)
        try:
            answers = client.map([*[LARGE] * 7, large], ordered=False)
            refused = next(answers)
        finally:
            redis.config_set("maxmemory", 0)
        assert (refused.index, type(refused.error)) == (7, Overloaded)
        assert (redis.llen("detect.centerface"), len(redis.keys("fleet:blob:*"))) == (8, 7)
        answers.close()


@pytest.mark.usefixtures("together")
def test_a_few_that_find_the_queue_full_are_each_refused(url: str, redis: Redis) -> None:
    """Given room for ten jobs, then the ones beyond are refused, those of the same round trip and later ones."""
    with Client(url, max_backlog=10, when_full="refuse") as client:
        answers = client.map([LARGE] * 16, ordered=False)
        assert [next(answers).index for _ in range(6)] == [10, 11, 12, 13, 14, 15]
        assert redis.llen("detect.centerface") == len(redis.keys("fleet:blob:*")) == 10
        answers.close()


@pytest.mark.usefixtures("together")
def test_a_few_that_find_the_queue_full_wait_for_room(url: str) -> None:
    """Given room for two jobs and a client that waits, then every image is answered, and no job was sent twice."""
    with Client(url, max_backlog=2) as client, StandIn(url, echo) as worker:
        answers = list(client.map(numbered(20)))
        assert [answer.result and answer.result.width for answer in answers] == list(range(20))
        assert len(worker.seen) == 20
        assert len(client._current.waiting) == 0


@pytest.mark.usefixtures("together")
def test_a_server_that_forgot_the_script_accepts_a_few_as_one(client: Client, redis: Redis, worker: StandIn) -> None:
    """Given scripts that are flushed while images are taken, then each is answered, and no job was sent twice."""

    def images() -> Iterator[bytes]:
        for number in range(12):
            if number % 6 == 5:
                redis.script_flush()
            yield LARGE

    assert all(answer.result for answer in client.map(images()))
    assert len({headers["id"] for headers, _, _ in worker.seen}) == len(worker.seen) == 12


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize("pieces", ARRIVED)
def test_a_connection_that_is_lost_in_the_middle_of_a_few_loses_and_doubles_none(
    client: Client, url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch, pieces: int
) -> None:
    """Given the connection breaks when some images have arrived, or all, then all go again under the same ids."""
    client.models()
    send, broken = lines._send, []

    def breaks(own: socket.socket, all_pieces: list[bytes]) -> None:
        if len(all_pieces) != max(ARRIVED) or broken:
            return send(own, all_pieces)
        broken.append(True)
        send(own, all_pieces[:pieces])
        eventually(lambda: redis.llen("detect.centerface") == ARRIVED[pieces])
        raise ConnectionResetError

    monkeypatch.setattr(lines, "_send", breaks)
    with ThreadPoolExecutor(1) as thread:
        answers = thread.submit(lambda: list(client.map([LARGE] * 4)))
        eventually(lambda: redis.llen("detect.centerface") == len(redis.keys("fleet:blob:*")) == 4)
        with StandIn(url, answer_all) as worker:
            assert [answer.result is not None for answer in answers.result(20)] == [True] * 4
    assert broken
    assert len({headers["id"] for headers, _, _ in worker.seen}) == len(worker.seen) == 4
    assert redis.llen("detect.centerface") == 0


class Traced:
    """Notes how each job's sending ended; the message says which job it was."""

    def __init__(self) -> None:
        self.ends: list[tuple[int, bool, type | None]] = []
        self._numbers = itertools.count()

    def __call__(self) -> hooks.Sending:
        """Begin one."""
        number, ends = next(self._numbers), self.ends

        class Noted(hooks.Unwatched):
            headers: Mapping[str, str] = {"number": str(number)}

            def end(self, job_id: str | None, error: BaseException | None) -> None:
                ends.append((number, job_id is not None, type(error) if error else None))

        return Noted()


@pytest.fixture
def traced() -> Iterator[Traced]:
    """Trace what is sent."""
    made = Traced()
    hooks.watch_with(made)
    yield made
    hooks.watch_with(None)


@pytest.mark.usefixtures("together")
def test_who_traces_hears_of_each_of_a_few(url: str, traced: Traced) -> None:
    """Given a tracing hook and four that go together of which one is refused, then each has an end of its own."""
    with Client(url, max_backlog_bytes=50_000, when_full="refuse") as client, StandIn(url, echo) as worker:
        list(client.map([*numbered(1), LARGE, *numbered(2)]))
    assert traced.ends == [(0, True, None), (1, False, Overloaded), (2, True, None), (3, True, None)]
    assert sorted(headers["number"] for headers, _, _ in worker.seen) == ["0", "2", "3"]


@pytest.mark.usefixtures("together")
def test_who_traces_hears_once_of_each_that_waits_for_room(url: str, traced: Traced) -> None:
    """Given a tracing hook and room for one job, then one that is built anew for that is still the same to the hook."""
    with Client(url, max_backlog=1) as client, StandIn(url, echo) as worker:
        assert all(answer.result for answer in client.map(numbered(8)))
    assert sorted(traced.ends) == [(number, True, None) for number in range(8)]
    assert sorted(headers["number"] for headers, _, _ in worker.seen) == [str(number) for number in range(8)]
