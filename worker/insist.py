"""A Redis client that may write when the server's memory is full.

Stage: under what a worker says to Redis by redis-py's client; :mod:`worker.lines` is under the rest. Redis with
``noeviction`` refuses every write once its memory is full. To the clients this is the sign to wait; but a worker that
cannot note what it holds, nor store a result, never makes room either. What a worker writes is small, and each job
that ends leaves Redis emptier, for its image goes. So what was refused for want of memory is written by a script that
may exceed the limit (``allow-oom``, Redis 7 and later).

A worker that was told to end now asks a server that is silent once, and not for each thing that it would put in order.

Mirrors redis-py 8 ``redis.client.Pipeline``.
"""

from collections.abc import Sequence
from typing import Any

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import ExecAbortError, OutOfMemoryError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

#: First line of a script that may run, and write, when memory is full.
MAY_EXCEED = "#!lua flags=allow-oom\n"

#: Does several commands as one. Arguments, for each: how many words, then the words.
WRITE_ANYWAY = (
    MAY_EXCEED
    + """
local replies, at = {}, 1
while at <= #ARGV do
  local words = tonumber(ARGV[at])
  replies[#replies + 1] = redis.call(unpack(ARGV, at + 1, at + words)) or false
  at = at + words + 1
end
return replies
"""
)


def write_anyway(redis: Redis, commands: Sequence[Sequence[Any]], refusal: ResponseError) -> list[Any]:
    """Do ``commands``, which ``refusal`` says there is no memory for, all the same; their replies are as on the wire.

    Raises:
        ResponseError: ``refusal`` itself, where the server is too old or has another reason.
    """
    if not isinstance(refusal, OutOfMemoryError) and "OOM" not in str(refusal):
        raise refusal
    words = [word for command in commands for word in (len(command), *command)]
    try:
        replies: list[Any] = Redis.execute_command(redis, "EVAL", WRITE_ANYWAY, 0, *words)  # type: ignore[no-untyped-call]
    except ResponseError as error:
        raise refusal from error
    return replies


class LastWords:
    """Whether a worker that ends still asks. Thread-safe; may be told inside a signal's handler."""

    def __init__(self) -> None:
        self._ends = False
        self._silent = False

    def end(self) -> None:
        """Say that the worker ends now: who gets no answer from here on is the last to ask."""
        self._ends = True

    def no_answer(self) -> None:
        """Say that something was asked in vain."""
        self._silent = self._ends

    def check(self) -> None:
        """Let whoever wants to ask do so.

        Raises:
            redis.exceptions.TimeoutError: the worker ends, and another has waited in vain already.
        """
        if self._silent:
            raise RedisTimeoutError("Redis is silent, and this worker ends")


#: Of all clients of this process.
last_words = LastWords()


def drop_idle(pool: Any) -> None:
    """Close the idle connections: where one was lost without a sign, each may be, and would be waited for in turn."""
    pool.disconnect(inuse_connections=False)


class InsistentPipeline(Pipeline):
    """A transaction that is written even if memory is full; not one that watches keys, which may have changed."""

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send all commands and return the replies."""
        commands = [command[0] for command in self.command_stack]
        insist = bool(vars(self)["transaction"]) and not self.watching
        last_words.check()
        try:
            replies: list[Any] = super().execute(raise_on_error)
            return replies
        except RedisTimeoutError:
            last_words.no_answer()
            drop_idle(self.connection_pool)
            raise
        except (OutOfMemoryError, ExecAbortError) as error:
            if not insist:
                raise
            return write_anyway(Redis(connection_pool=self.connection_pool), commands, error)

    def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command at once, as a transaction does that watches keys."""
        last_words.check()
        try:
            return super().immediate_execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except RedisTimeoutError:
            last_words.no_answer()
            raise


class InsistentRedis(Redis):
    """A client whose writes, alone or in a transaction, are done even if memory is full."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command and return the reply."""
        last_words.check()
        try:
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except RedisTimeoutError:
            last_words.no_answer()
            drop_idle(self.connection_pool)
            raise
        except OutOfMemoryError as error:
            return write_anyway(self, [args], error)[0]

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Pipeline:
        """Begin a pipeline."""
        return InsistentPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
