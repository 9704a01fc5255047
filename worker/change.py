"""Another version of a model takes over while the worker works.

Stage: beside :mod:`worker.detector`; :mod:`worker.swaps` passes orders on. A version is loaded beside the running one,
tried, noted in the fleet's record, and put into the lineup; the one before is let go when its last request has ended.
Whatever fails before that leaves everything as it was. All of it happens on threads of its own: the event loop and the
decode threads only ever see a lineup that is whole.
"""

import logging
import threading
import time
from contextlib import suppress
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from worker import models, network, room, trial, versions
from worker.detector import Detector
from worker.lineup import Lineup, Serving, find
from worker.model_toml import ModelSpec
from worker.models import ModelError
from worker.settings import Settings
from worker.versions import Order, Version, Wanted

logger = logging.getLogger(__name__)

#: A version that was prepared and then not ordered to serve is let go after this.
HOLD_S = 60.0

#: States of an order; the last three are its end.
PREPARING, READY, SERVING, FAILED = "preparing", "ready", "serving", "failed"


class Changer:
    """Changes the versions of one worker, one at a time. Thread-safe; nothing in :meth:`begin` blocks."""

    def __init__(self, engine: Detector, settings: Settings, threads: int, redis: Redis) -> None:
        self._engine, self._settings, self._threads, self._redis = engine, settings, threads, redis
        self._ordering = threading.Lock()  # held for a moment, to look at the report and change it
        self._changing = threading.Lock()  # held for a whole change
        self._held: tuple[Serving, float] | None = None
        self._known: dict[str, Wanted] = {}  # the record as this worker last followed it
        self._refused: dict[str, Wanted] = {}  # a record that this worker could not follow
        self._report: dict[str, Any] = {"state": "idle"}

    # ------------------------------------------------------------------------------------------ any thread

    def begin(self, order: Order) -> str | None:
        """Begin to carry out an order; return why not, if it is refused at once."""
        if order.model not in self._engine.lineups:
            served = ", ".join(sorted(self._engine.lineups))
            return f"This worker does not serve the model {order.model[:64]!r}; it serves {served}."
        with self._ordering:
            if self._report["state"] == PREPARING:
                return f"{self._report['version']} is being prepared; one change at a time."
            self._report = {"order": order.id, "version": order.label, "state": PREPARING}
        threading.Thread(target=self._carry_out, args=(order,), name="change", daemon=True).start()
        return None

    def report(self) -> dict[str, Any]:
        """Tell what became of the last order, and of the record."""
        unfollowed = {name: one.to_json() for name, one in self._refused.items()}
        return dict(self._report) | ({"not_followed": unfollowed} if unfollowed else {})

    def follow(self) -> None:
        """Follow the fleet's record where it says something else than what serves here. Blocks; not for the loop.

        Raises:
            redis.exceptions.RedisError: Redis cannot be reached.
        """
        if not self._changing.acquire(blocking=False):
            return
        try:
            self._drop_held(older_than_s=HOLD_S)
            records = versions.read(self._redis)
            for name, lineup in self._engine.lineups.items():
                self._follow_one(name, lineup, records.get(name))
        finally:
            self._changing.release()

    def close(self) -> None:
        """Let go of what was prepared; the rest is the detector's."""
        with suppress(RuntimeError):
            self._drop_held()

    # ---------------------------------------------------------------------------- a change's own thread, one at a time

    def _carry_out(self, order: Order) -> None:
        began = time.monotonic()
        try:
            with self._changing:
                state, more = self._attempt(order)
        except Exception as error:  # noqa: BLE001 - whatever it is, the old version stays and the operator is told
            state, more = FAILED, {"reason": _reason(error)}
            logger.error("version.refused version=%s reason=%s", order.label, more["reason"])  # noqa: TRY400 - one line
        seconds = round(time.monotonic() - began, 2)
        with self._ordering:
            self._report = {**self._report, "state": state, "seconds": seconds, **more}

    def _attempt(self, order: Order) -> tuple[str, dict[str, Any]]:
        lineup = self._engine.lineups[order.model]
        if order.share == 0:
            self._apply(order.model, lineup, Wanted(_version(lineup.current)), note=True)
            return SERVING, {"digest": lineup.current.network.digest}
        serving = self._prepare(order.model, order.version, "", other_labels=order.other_labels)
        if order.prepare:
            return READY, {"digest": serving.network.digest}
        self._apply(order.model, lineup, _wanted(order, lineup, serving), note=True, fresh=serving)
        return SERVING, {"digest": serving.network.digest}

    def _follow_one(self, name: str, lineup: Lineup, record: Wanted | None) -> None:
        if record is None:
            if name in self._known:
                versions.restore(self._redis, name, self._known[name])
            return
        if record == _served(lineup):
            self._known[name] = record
            self._refused.pop(name, None)
            return
        if record == self._refused.get(name):
            return
        try:
            self._apply(name, lineup, record, note=False)
        except RedisError:
            raise
        except Exception as error:  # noqa: BLE001 - as for an order
            self._refused[name] = record
            logger.error("version.not_followed record=%s reason=%s", record.to_json(), _reason(error))  # noqa: TRY400

    def _apply(self, name: str, lineup: Lineup, wanted: Wanted, *, note: bool, fresh: Serving | None = None) -> None:
        """Make ``wanted`` serve. The record is written first: a worker that begins just now must not miss it."""
        current = self._have(name, wanted.current, fresh)
        canary = self._have(name, wanted.canary, fresh) if wanted.canary else None
        if note:
            versions.write(self._redis, name, wanted)
        lineup.set(current, canary, wanted.share)
        self._known[name] = wanted
        self._refused.pop(name, None)
        self._held = None if self._held and self._held[0] in (current, canary) else self._held
        logger.info("version.serving model=%s record=%s", name, wanted.to_json())
        with suppress(RedisError):  # it is said again every few seconds
            self._engine.announce()

    def _have(self, name: str, version: Version, fresh: Serving | None) -> Serving:
        for one in (fresh, find(self._engine.lineups.values(), name, version.number, version.digest)):
            if one is not None and _version(one) == version:
                return one
        return self._prepare(name, version.number, version.digest, other_labels=True)

    def _prepare(self, name: str, number: int, digest: str, *, other_labels: bool) -> Serving:
        """Load, warm up and try a version, and hold it; or give it if it serves or is held.

        Raises:
            ModelError: it cannot serve.
        """
        spec, path = models.read(f"{name}@{number}", self._settings.model_store)
        found = models.digest(path)
        if digest and found != digest:
            raise ModelError(f"{name}@{number} in this host's store is {found}, not {digest}.")
        running = self._engine.lineups[name].current.network.spec
        if not other_labels:
            _check_labels(spec, running)
        there = find(self._engine.lineups.values(), name, number, found)
        if there is None and self._held is not None:
            there = self._held[0] if _is(self._held[0], name, number, found) else None
        if there is not None:
            return there
        self._drop_held()
        room.check(models.files(path))
        serving = self._engine.serve(network.load(spec, path, self._settings, self._threads))
        try:
            trial.try_on_sample(serving.queue, spec, path.parent)
        except BaseException:
            serving.stop()
            raise
        self._held = serving, time.monotonic()
        return serving

    def _drop_held(self, older_than_s: float = 0.0) -> None:
        if self._held is not None and time.monotonic() - self._held[1] >= older_than_s:
            held, self._held = self._held[0], None
            held.stop()


def _wanted(order: Order, lineup: Lineup, serving: Serving) -> Wanted:
    if order.share is None or order.share >= 1:
        return Wanted(_version(serving))
    if serving is lineup.current:
        raise ModelError(f"{order.label} serves all jobs already; a canary is another version.")
    return Wanted(_version(lineup.current), _version(serving), order.share)


def _served(lineup: Lineup) -> Wanted:
    current, *canary = lineup.shares()
    if canary:
        return Wanted(_version(current.serving), _version(canary[0].serving), canary[0].share)
    return Wanted(_version(current.serving))


def _version(one: Serving) -> Version:
    return Version(one.network.spec.version, one.network.digest)


def _is(one: Serving, name: str, number: int, digest: str) -> bool:
    return one.network.spec.name == name and _version(one) == Version(number, digest)


def _check_labels(new: ModelSpec, running: ModelSpec) -> None:
    if new.labels != running.labels:
        raise ModelError(
            f"Its labels ({_shown(new.labels)}) are not those of version {running.version} "
            f"({_shown(running.labels)}), which clients know. To change them too, say --other-labels."
        )


def _shown(labels: tuple[str, ...]) -> str:
    return ", ".join(labels[:5]) + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")


def _reason(error: BaseException) -> str:
    if isinstance(error, MemoryError) or "bad_alloc" in str(error) or "allocate" in str(error):
        return f"There is not enough memory for it beside the running version ({str(error) or 'out of memory'})."
    if isinstance(error, ModelError):
        return str(error)
    if isinstance(error, RedisError):
        return f"Redis could not note the change: {error}."
    return f"{type(error).__name__}: {error}"
