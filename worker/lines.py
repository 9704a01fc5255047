"""A worker's connections for what every job asks: what must be written is, and a worker that ends asks but once.

Stage: under the decode threads, which fetch, the finishers, which end jobs, and the loop, which notes what it takes.
Neighbours: :mod:`producer.lines`, which asks, and :mod:`worker.insist`, which does the same for redis-py's client.
"""

from typing import Any

from redis import Redis
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from producer import lines
from producer.scripts import Command
from worker.insist import last_words, write_anyway


class Lines(lines.Lines):
    """Asks Redis on connections of its own. Thread-safe."""

    def ask(self, *commands: Command, atomic: bool = False) -> list[Any]:
        """Do what :meth:`producer.lines.Lines.ask` does, unless this worker ends and Redis is silent."""
        last_words.check()
        try:
            return super().ask(*commands, atomic=atomic)
        except RedisTimeoutError:
            last_words.no_answer()
            raise

    def write(self, *commands: Command) -> None:
        """Do ``commands`` as one, even if memory is full.

        Raises:
            redis.exceptions.RedisError: what :meth:`ask` raises, or Redis refuses one of them.
        """
        try:
            replies = self.ask(*commands, atomic=True)
        except ResponseError as error:
            write_anyway(Redis(connection_pool=self._pool), commands, error)
            return
        if failed := next((reply for reply in replies if isinstance(reply, ResponseError)), None):
            raise failed
