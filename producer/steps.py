"""Conversations, most of them with Redis, written once and driven by threads or by asyncio.

Stage: under everything that talks to Redis. A conversation is a generator that yields what it wants done (an
:class:`Ask`, a :class:`Pause`, ...) and is sent the replies, or has the error thrown in. :func:`drive` and
:func:`drive_async` do the work; so retries, back-pressure, cancelling and the reading of results exist once.
"""

import random
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from producer.errors import FleetError, Overloaded, Unreachable
from producer.scripts import Command, spelled_out

T = TypeVar("T")
E = TypeVar("E")

#: The connection is lost, or the server is not the master any more; it, or another, may be back in a moment.
LOST = (RedisConnectionError, RedisTimeoutError, ReadOnlyError, MasterDownError, OSError)

#: Seconds between one try and the next; each is stretched or shrunk by up to a half.
RETRY_DELAYS_S = (0.05, 0.2, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Ask:
    """Send ``commands`` in one round trip and reply with the list of answers; ``atomic`` wraps them in MULTI/EXEC."""

    commands: tuple[Command, ...]
    atomic: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    """Do nothing for ``seconds``."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Open:
    """Open the pub/sub connection anew and subscribe to ``pattern``, if any, and ``channels``."""

    pattern: str | None
    channels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Join:
    """Subscribe to one more channel, or leave it."""

    channel: str
    leave: bool = False


@dataclass(frozen=True, slots=True)
class Listen:
    """Wait up to ``seconds`` for a pub/sub message and reply with it, or with None."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Ping:
    """Ask the pub/sub connection for a sign of life, which comes as a message."""


Effect: TypeAlias = Ask | Pause | Open | Join | Listen | Ping
Steps: TypeAlias = Generator[Effect, Any, T]


def drive(steps: Generator[E, Any, T], do: Callable[[E], Any]) -> T:
    """Run ``steps`` to their end, doing each effect with ``do``, and return their value."""
    try:
        effect = next(steps)
        while True:
            try:
                reply = do(effect)
            except StopIteration as error:  # of what a caller brought along; here it would look like the end
                raise RuntimeError(f"{effect!r:.200} raised StopIteration") from error
            except (RedisError, OSError) as error:
                effect = steps.throw(error)
            else:
                effect = steps.send(reply)
    except StopIteration as end:
        value: T = end.value
        return value
    finally:
        # After an interrupt the conversation ends now, and not when the garbage collector finds it.
        steps.close()


async def drive_async(steps: Generator[E, Any, T], do: Callable[[E], Awaitable[Any]]) -> T:
    """Do what :func:`drive` does, with a ``do`` to await."""
    try:
        effect = next(steps)
        while True:
            try:
                reply = await do(effect)
            except (RedisError, OSError) as error:
                effect = steps.throw(error)
            else:
                effect = steps.send(reply)
    except StopIteration as end:
        value: T = end.value
        return value
    finally:
        steps.close()


def patient(ask: Ask) -> Steps[list[Any]]:
    """Ask, and ask again when the connection is lost; what is asked must do no harm when it arrives twice.

    Raises:
        Unreachable: the server did not answer on any try, or refuses us.
        Overloaded: the server has no memory left.
    """
    failure: Exception | None = None
    for delay_s in (0.0, *RETRY_DELAYS_S):
        if failure is not None:
            yield Pause(jittered(delay_s))
        try:
            replies: list[Any] = yield ask
        except NoScriptError:
            ask = replace(ask, commands=spelled_out(ask.commands))
        except LOST as error:
            if isinstance(error, AuthenticationError | AuthorizationError):
                raise explain(error) from error
            failure = error
        except RedisError as error:
            raise explain(error) from error
        else:
            return replies
    raise explain(failure) from failure


def once(ask: Ask) -> Steps[list[Any]]:
    """Ask, with no second try."""
    replies: list[Any] = yield ask
    return replies


def explain(error: Exception | None) -> FleetError:
    """Say in one sentence what an error of Redis means for the caller."""
    if isinstance(error, OutOfMemoryError):
        return Overloaded("Redis has no memory left for more images. Try again later, or give it more memory.")
    if isinstance(error, AuthenticationError | AuthorizationError):
        return Unreachable(f"Redis refuses this client: {_text(error)}. Put user and password into the URL.")
    if isinstance(error, LOST):
        return Unreachable(f"Redis does not answer: {_text(error)}. Is it running, and is the URL right?")
    if isinstance(error, NoPermissionError):
        return Unreachable(f"Redis does not let this user do that: {_text(error)}. To watch the fleet, be `operator`.")
    return Unreachable(f"Redis refuses a command of the fleet: {_text(error)}.")


def jittered(seconds: float) -> float:
    """Stretch or shrink ``seconds`` by up to a half, so that many clients do not come back at once."""
    return seconds * random.uniform(0.5, 1.5)  # noqa: S311 - spreads load, guards nothing


def _text(error: Exception | None) -> str:
    """Return an error's text without the full stop, to go on after it."""
    return str(error).strip().rstrip(".") or type(error).__name__
