"""A change of version for the whole fleet: every worker prepares it, and only when all have, all change.

Stage: under ``fleet-worker models swap`` and ``canary``. Neighbours: :mod:`worker.swaps` obeys on the worker's side.
"""

import os
import socket
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from celery import Celery
from redis import Redis

from producer import address
from producer.redis_url import tls_of
from producer.status import read_status
from producer.wire import ALIVE_WITHIN_S
from worker.versions import LOCK_PREFIX, Order

#: Longest wait for the workers' answers to a command or a question.
ANSWER_WITHIN_S = 5.0

#: Wait for the answers of workers that nobody knows of yet, such as those that have just begun.
GATHER_S = 1.0

#: Seconds between two questions of how far a change is: at first, and later.
ASK_FIRST_S, ASK_EVERY_S = 0.02, 0.25

#: States of a worker's order that are its end.
_ENDED = ("ready", "serving", "failed")


class RolloutError(Exception):
    """The fleet was not changed, or not all of it; the message says why."""


@dataclass(frozen=True, slots=True)
class Said:
    """What one worker made of an order: whether it did it, and a sentence."""

    worker: str
    done: bool
    sentence: str


class Rollout:
    """An operator's line to all workers. Not thread-safe.

    Args:
        url: the fleet's Redis.
        within_s: longest time for each of the two steps.
    """

    def __init__(self, url: str, *, within_s: float = 120.0) -> None:
        self._within_s = within_s
        self._redis: Redis = address.connect(url, socket_timeout=ANSWER_WITHIN_S, socket_connect_timeout=3)
        self._app = Celery("models", broker=url, broker_use_ssl=tls_of(url), set_as_current=False)

    def __enter__(self) -> "Rollout":
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self._app.close()
        self._redis.close()

    def served(self) -> dict[str, dict[str, Any]]:
        """Ask each worker that lives which versions it serves; one that does not answer has an empty answer."""
        alive = set(read_status(self._redis).workers)
        answers = self._send("model_change", {}, None, known=len(alive))
        missing = alive - set(answers)
        answers |= self._send("model_change", {}, missing) if missing else {}
        return {name: answers.get(name, {}) for name in sorted(missing | set(answers))}

    def change(self, order: Order) -> list[Said]:
        """Have every worker that serves the model carry out ``order``, or none.

        Returns:
            What each worker says of it; all have done it unless one failed in the last moment.

        Raises:
            RolloutError: nothing was changed.
        """
        workers = self._workers_of(order.model)
        with self._alone(order.model):
            if order.share != 0:  # to end a canary needs no preparation
                prepared = self._order(order, workers, prepare=True)
                if not all(one.done for one in prepared):
                    reasons = "\n".join(f"  {one.worker}: {one.sentence}" for one in prepared)
                    raise RolloutError(f"Nothing was changed, because not every worker can serve it:\n{reasons}")
            return self._order(order, workers, prepare=False)

    def _workers_of(self, model: str) -> list[str]:
        until = time.monotonic() + 2 * ALIVE_WITHIN_S
        served = self.served()
        while silent := [name for name, said in served.items() if not said]:
            if time.monotonic() > until:  # one that has ended is forgotten by then
                raise RolloutError(f"Nothing was changed: no answer from {', '.join(silent)}. Look at it, or stop it.")
            served = self.served()
        found = [name for name, said in served.items() if model in said["models"]]
        if not found:
            raise RolloutError(f"No worker serves the model {model!r}.")
        return found

    @contextmanager
    def _alone(self, model: str) -> Iterator[None]:
        """Let nobody else change the model meanwhile, whichever host they are on."""
        key, me = LOCK_PREFIX + model, f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        if not self._redis.set(key, me, nx=True, ex=int(2 * self._within_s) + 10):
            other = cast("bytes", self._redis.get(key) or b"?").decode("utf-8", "replace")
            raise RolloutError(f"{model} is being changed by {other}; one change at a time.")
        try:
            yield
        finally:
            if self._redis.get(key) == me.encode():
                self._redis.delete(key)

    def _order(self, order: Order, workers: Collection[str], *, prepare: bool) -> list[Said]:
        words: dict[str, Any] = {"version": order.label, "order": uuid.uuid4().hex, "prepare": prepare}
        words["other_labels"] = order.other_labels
        command = "swap_model" if order.share is None else "canary_model"
        answers = self._send(command, words | ({} if order.share is None else {"share": order.share}), workers)
        begun = {name for name in workers if "ok" in answers.get(name, {})}
        said = {
            name: Said(name, False, str(answers.get(name, {}).get("error", "it did not answer.")))
            for name in workers
            if name not in begun
        }
        said |= self._await(words["order"], begun, order.share)
        return [said[name] for name in sorted(said)]

    def _await(self, order_id: str, workers: Collection[str], share: float | None) -> dict[str, Said]:
        """Ask until the order has ended everywhere."""
        until, said, pause_s = time.monotonic() + self._within_s, dict[str, Said](), ASK_FIRST_S
        while (left := set(workers) - set(said)) and time.monotonic() < until:
            for name, answer in self._send("model_change", {}, left).items():
                last = answer.get("last", {})
                if last.get("order") == order_id and last.get("state") in _ENDED:
                    said[name] = _said(name, last, share)
            if set(workers) != set(said):
                time.sleep(pause_s)
                pause_s = min(ASK_EVERY_S, 1.5 * pause_s)
        late = {name: Said(name, False, "it did not end in time; ask it later: models served") for name in left}
        return said | {name: one for name, one in late.items() if name not in said}

    def _send(
        self, command: str, words: dict[str, Any], workers: Collection[str] | None, *, known: int = 0
    ) -> dict[str, dict[str, Any]]:
        """Send to these workers and wait for them all; or to whoever is there, and wait for as many as are known.

        Where nobody is known, or one that is known does not answer, the wait is a second.
        """
        how: dict[str, Any] = {"timeout": GATHER_S} | ({"limit": known} if known else {})
        if workers is not None:
            how = {"destination": sorted(workers), "timeout": ANSWER_WITHIN_S, "limit": len(workers)}
        replies = self._app.control.broadcast(command, arguments=words, reply=True, **how)
        return {name: answer for reply in replies or () for name, answer in reply.items()}


def _said(worker: str, last: dict[str, Any], share: float | None) -> Said:
    if last["state"] == "failed":
        return Said(worker, False, str(last.get("reason")))
    if share == 0:
        return Said(worker, True, f"{last['version']} gets no more jobs, digest {last.get('digest')} has them all")
    return Said(worker, True, f"{last['version']} {last['state']}, digest {last.get('digest')}, {last['seconds']:g} s")
