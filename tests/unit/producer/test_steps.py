"""A question that is asked again: what is lost, forgotten or refused."""

from collections.abc import Generator
from typing import Any

import pytest
from redis.exceptions import NoScriptError, OutOfMemoryError, ReadOnlyError

from producer import Overloaded
from producer.scripts import call, digest_of
from producer.steps import Ask, Effect, Pause, drive, patient

ASK = Ask((("PING",), call(digest_of("return 1"), [], [7])), atomic=True)


def hold(*replies: list[Any] | Exception) -> tuple[list[Effect], list[Any]]:
    """Hold the conversation with a server that gives ``replies``, one after the other."""
    done: list[Effect] = []
    left = iter(replies)

    def do(effect: Effect) -> Any:
        done.append(effect)
        if isinstance(effect, Pause):
            return None
        reply = next(left)
        if isinstance(reply, Exception):
            raise reply
        return reply

    return done, drive(patient(ASK), do)


def test_a_full_server_is_asked_once() -> None:
    """Given no memory, then that is the answer: waiting for room has other rules."""
    with pytest.raises(Overloaded):
        hold(OutOfMemoryError(), [b"never"])


def test_a_script_that_is_missed_is_spelled_out() -> None:
    """Given a server that forgot the script, then it is told the text at once."""
    done, replies = hold(NoScriptError(), [b"PONG", 1])
    assert replies == [b"PONG", 1]
    assert done == [ASK, Ask((("PING",), ("EVAL", "return 1", 0, 7)), atomic=True)]


def test_a_master_that_is_none_any_more_is_waited_for() -> None:
    """Given a failover in the middle, then the same is asked again after a pause."""
    done, replies = hold(ReadOnlyError(), [b"PONG", 1])
    assert replies == [b"PONG", 1]
    assert [type(effect) for effect in done] == [Ask, Pause, Ask]
    assert done[0] == done[2]


def test_an_effect_that_raises_stop_iteration_is_not_the_end() -> None:
    """Given what a caller brought along that raises it, then that is told, and not taken for the conversation's end."""

    def steps() -> Generator[str, Any, str]:
        yield "read"
        return "done"

    def do(_: str) -> Any:
        raise StopIteration

    with pytest.raises(RuntimeError, match="'read' raised StopIteration"):
        drive(steps(), do)
