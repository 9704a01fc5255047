"""``map`` is interrupted, at whatever moment: no job that may have arrived is left to run for nobody.

The reader of results does not run here, so that what is given up stays where a test can see it.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from producer import Client, Unreachable, answers, blobs, dispatch, hooks, link, offering, steps, together
from producer import client as whole_client
from producer.answers import Window
from producer.scripts import Command
from producer.steps import Ask, Effect, Pause
from producer.wire import JOBS_KEY
from tests.integration.producer.interrupting import Interrupt, compile_in
from tests.integration.producer.standin import LARGE, PICTURE

QUEUE = "detect.centerface"

#: The modules through which a group of jobs goes while ``map`` sends it. Not those that only build what is sent, nor
#: those with locks: what is compiled in may raise where a lock would be left, at which Python lets no signal in.
STAGES = (whole_client, together, dispatch, offering, steps, link, answers, hooks)

pytestmark = pytest.mark.usefixtures("together")


@pytest.fixture(params=[10_000, 2], ids=["room", "full"])
def client(url: str, redis: Redis, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """Give a client that finds room for all, or for two jobs; whenever it waits for more, one job is taken."""
    with Client(url, max_backlog=request.param) as made:
        link = made._current
        monkeypatch.setattr(link, "_start_reader", lambda: None)
        made.models()
        port = link._port

        def do(effect: Effect) -> Any:
            if not isinstance(effect, Pause):
                return port(effect)
            redis.rpop(QUEUE)
            return None

        monkeypatch.setattr(link, "_port", do)
        yield made


def forgotten(client: Client, redis: Redis) -> set[str]:
    """Return the jobs that arrived and that nobody will cancel."""
    return {job_id.decode() for job_id in redis.hkeys(JOBS_KEY)} - set(client._current.waiting.take_abandoned())


@pytest.fixture
def interrupt(client: Client, monkeypatch: pytest.MonkeyPatch) -> Interrupt:
    """Give what interrupts the sending of a group, once it is armed."""
    made, start = Interrupt(), client._start

    def counted(*args: Any) -> None:
        try:
            start(*args)
        finally:
            made.armed = False

    monkeypatch.setattr(client, "_start", counted)
    for stage in STAGES:
        compile_in(monkeypatch, stage, made)
    return made


def test_an_interrupt_at_any_statement_leaves_no_job(client: Client, redis: Redis, interrupt: Interrupt) -> None:
    """Given four that go together, when Ctrl-C comes before each statement in turn, then all that arrived are given up.

    It goes on until there is no such statement any more. The image at the end cannot be read: its answer is at once
    there.
    """
    given_up: set[str] = set()
    left: dict[str, str | None] = {}
    for at in range(1, 2_000):
        client._current.dispatch._full.clear()
        redis.delete(QUEUE)
        answers = client.map([*[PICTURE] * 4, b""], ordered=False)
        interrupt.arm(at)
        with contextlib.suppress(KeyboardInterrupt):
            next(answers)
        answers.close()
        given_up |= set(client._current.waiting.take_abandoned())
        for job_id in {name.decode() for name in redis.hkeys(JOBS_KEY)} - given_up:
            left.setdefault(job_id, interrupt.met)
        if interrupt.met is None:
            break
    assert left == {}
    assert at > 100
    assert interrupt.met is None, "each call goes through more statements than the one before"
    assert len(client._current.waiting) == 0


class Once:
    """Does the work of ``call``; the time with a certain number it raises as well, once the work is done."""

    def __init__(self, call: Callable[..., Any], at: int) -> None:
        self._call = call
        self._left = at

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Call, and interrupt."""
        value = self._call(*args, **options)
        self._left -= 1
        if self._left == 0:
            raise KeyboardInterrupt
        return value

    def __get__(self, instance: object, _owner: type | None = None) -> Callable[..., Any]:
        """Be a method where it stands in the place of one."""
        return lambda *args, **options: self(instance, *args, **options)


@pytest.mark.parametrize("at", [1, 2, 4])
@pytest.mark.parametrize(
    "step", [(Window, "sent"), (hooks.Unwatched, "end"), (Future, "add_done_callback")], ids=lambda step: step[1]
)
def test_an_interrupt_after_each_step_leaves_no_job(
    client: Client, redis: Redis, monkeypatch: pytest.MonkeyPatch, step: tuple[type, str], at: int
) -> None:
    """Given Ctrl-C just after a job was noted, told to who traces, or waited for, then all four are given up."""
    monkeypatch.setattr(*step, Once(getattr(*step), at))
    with pytest.raises(KeyboardInterrupt):
        next(client.map([LARGE] * 4))
    assert forgotten(client, redis) == set()
    assert len(client._current.waiting) == 0


@pytest.mark.parametrize("batch", [1, 3])
def test_an_interrupt_just_after_all_were_sent_leaves_no_job(
    client: Client, redis: Redis, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """Given Ctrl-C as the conversation is over, then all four are given up, each with the number of its images."""
    monkeypatch.setattr(client._current, "run", Once(client._current.run, 1))
    with pytest.raises(KeyboardInterrupt):
        next(client.map([LARGE] * 4 * batch, batch=batch))
    abandoned = client._current.waiting.take_abandoned()
    assert {job_id.encode() for job_id in abandoned} == set(redis.hkeys(JOBS_KEY))
    assert list(abandoned.values()) == [batch if batch > 1 else 0] * 4


@pytest.mark.parametrize("client", [2], indirect=True)
def test_a_server_that_is_gone_while_one_waits_for_room_leaves_no_job(
    client: Client, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given two accepted and two without room, when Redis is lost, then map raises that, and the two are given up."""
    do, asked = client._current._port, []

    def lost(effect: Effect) -> Any:
        if asked and not isinstance(effect, Pause):
            raise RedisConnectionError
        if isinstance(effect, Ask) and effect.atomic:  # before it may come a question for the models
            asked.append(effect)
        return do(effect)

    monkeypatch.setattr(client._current, "_port", lost)
    with pytest.raises(Unreachable):
        next(client.map([LARGE] * 4))
    assert redis.hlen(JOBS_KEY) == 2
    assert forgotten(client, redis) == set()


@pytest.mark.parametrize(
    ("jobs", "send"),
    [(1, lambda client: client.submit(LARGE)), (4, lambda client: next(client.map([LARGE] * 4)))],
    ids=["submit", "map"],
)
def test_an_interrupt_just_after_jobs_arrived_leaves_no_orphan(
    url: str, redis: Redis, jobs: int, send: Callable[[Client], object]
) -> None:
    """Given Ctrl-C when the transactions have arrived, then the jobs that nobody will ask for are withdrawn."""
    with Client(url) as client:
        client.models()
        port = client._current._port
        real = port._ask

        def interrupted(commands: Sequence[Command], *, atomic: bool) -> Any:
            replies = real(commands, atomic=atomic)
            if atomic:
                raise KeyboardInterrupt
            return replies

        port._ask = interrupted
        with pytest.raises(KeyboardInterrupt):
            send(client)
    assert [redis.get(key) for key in redis.keys("fleet:blob:*")] == [blobs.CANCELLED] * jobs
