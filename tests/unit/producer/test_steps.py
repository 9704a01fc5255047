"""Several things asked in one round trip: each has its own answer."""

from typing import Any

from redis.exceptions import NoScriptError, OutOfMemoryError, ReadOnlyError

from producer.scripts import call, digest_of
from producer.steps import Ask, AskEach, Effect, Pause, drive, patient_each

ASKS = [Ask((call(digest_of("return 1"), [], [number]),)) for number in range(3)]


def hold(*replies: list[Any]) -> tuple[list[Effect], list[Any]]:
    """Hold the conversation with a server that gives ``replies``, one after the other."""
    done: list[Effect] = []
    left = iter(replies)

    def do(effect: Effect) -> Any:
        done.append(effect)
        return next(left) if isinstance(effect, AskEach) else None

    return done, drive(patient_each(ASKS), do)


def test_a_refusal_stands_beside_the_answers_of_the_others() -> None:
    """Given no memory for one of three, then the others have their answers, and nobody is asked again."""
    refused = OutOfMemoryError()
    done, replies = hold([[b"a"], refused, [b"c"]])
    assert replies == [[b"a"], refused, [b"c"]]
    assert done == [AskEach(tuple(ASKS))]


def test_a_script_that_one_of_them_missed_is_spelled_out() -> None:
    """Given a server that forgot the script in between, then it is told the text at once."""
    done, replies = hold([[b"a"], NoScriptError(), NoScriptError()], [[b"a"], [b"b"], [b"c"]])
    assert replies == [[b"a"], [b"b"], [b"c"]]
    first, again = done
    assert isinstance(first, AskEach)
    assert isinstance(again, AskEach)
    assert [ask.commands[0][:2] for ask in again.asks] == [("EVAL", "return 1")] * 3
    assert [ask.commands[0][2:] for ask in again.asks] == [ask.commands[0][2:] for ask in first.asks]


def test_a_master_that_is_none_any_more_is_waited_for() -> None:
    """Given a failover in the middle, then all is asked again after a pause."""
    done, replies = hold([[b"a"], ReadOnlyError(), ReadOnlyError()], [[b"a"], [b"b"], [b"c"]])
    assert replies == [[b"a"], [b"b"], [b"c"]]
    assert [type(effect) for effect in done] == [AskEach, Pause, AskEach]
    assert done[0] == done[2]
