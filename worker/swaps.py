"""Control commands that change versions while a worker works: ``celery -A worker.app control swap_model faces@2``.

Stage: beside the consumer. A command only begins a change and answers at once, for it is obeyed on the event loop;
``inspect model_change`` tells what became of it. Neighbours: :mod:`worker.change` does it,
:mod:`worker.swaps_cli` is the operator's side. ``FLEET_REMOTE_CONTROL=off`` refuses both commands.
"""

import importlib
import logging
import threading
from typing import Any, cast

from celery import bootsteps
from celery.worker.control import control_command, inspect_command
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from producer import address
from worker import cpu, settings
from worker.insist import InsistentRedis
from worker.versions import Order, split

logger = logging.getLogger(__name__)

#: Seconds between two looks at the fleet's record.
FOLLOW_EVERY_S = 2.0


@control_command(name="swap_model", args=[("version", str)], signature="NAME@NUMBER", visible=True)
def swap_model(
    state: Any, version: str, order: str = "", prepare: bool = False, other_labels: bool = False, **_: Any
) -> dict[str, str]:
    """Load and try the version beside the running one, let it take over, then let the old one go."""
    return _begin(state, version, order=order, prepare=prepare, other_labels=other_labels)


@control_command(
    name="canary_model", args=[("version", str), ("share", float)], signature="NAME@NUMBER SHARE", visible=True
)
def canary_model(
    state: Any, version: str, share: float, *, order: str = "", prepare: bool = False, **more: Any
) -> dict[str, str]:
    """Give a share (0 to 1) of the jobs to the version, beside the running one; 0 ends that."""
    if not isinstance(share, int | float) or not 0 <= share <= 1:
        return {"error": f"A share is 0 to 1, not {share!r:.40}."}
    return _begin(
        state, version, share=float(share), order=order, prepare=prepare, other_labels=bool(more.get("other_labels"))
    )


@inspect_command(name="model_change", visible=True)
def tell_change(state: Any, **_: Any) -> dict[str, Any]:
    """What became of the last change of a model's version on this worker, and which versions serve."""
    changer = _changer(state)
    models = state.consumer.controller.pool.info["models"]
    return {
        "last": changer.report() if changer else {"state": "idle"},
        "models": {name: stats.get("versions", []) for name, stats in models.items()},
    }


def _begin(state: Any, version: str, **how: Any) -> dict[str, str]:
    changer = _changer(state)
    if changer is None:
        return {"error": "This worker serves no models."}
    try:
        name, number = split(str(version))
    except ValueError as error:
        return {"error": str(error)}
    refused = changer.begin(Order(name, number, id=str(how.pop("order"))[:64], **how))
    return {"error": refused} if refused else {"ok": f"{version} is being prepared; ask: inspect model_change"}


def _changer(state: Any) -> Any:
    return getattr(state.consumer.controller, "changer", None)  # a worker.change.Changer


class ChangeStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Follows the fleet's record for as long as the worker lives; ``worker.changer`` is for the commands."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **_: Any) -> None:
        worker.changer = None
        self._over = threading.Event()

    def start(self, worker: Any) -> None:
        """Start the thread that follows, where the pool has models to change.

        Only then :mod:`worker.change` is loaded, and OpenVINO with it: who sends commands needs neither.
        """
        engine = worker.pool.engine
        if not hasattr(engine, "lineups"):
            return
        chosen = settings.load()
        limits = {"socket_timeout": 3, "socket_connect_timeout": 3, "socket_keepalive": True}
        redis = InsistentRedis.from_pool(address.pool(chosen.url, retry=Retry(NoBackoff(), 0), **limits))
        make = cast("Any", importlib.import_module("worker.change")).Changer
        worker.changer = make(engine, chosen, cpu.make_plan(chosen).threads, redis)
        threading.Thread(target=self._follow, args=(worker.changer,), name="versions", daemon=True).start()

    def stop(self, worker: Any) -> None:
        """End the thread, and let go of what was prepared."""
        self._over.set()
        if worker.changer is not None:
            worker.changer.close()

    terminate = stop

    def _follow(self, changer: Any) -> None:
        while True:
            try:
                changer.follow()
            except RedisError as error:
                logger.warning("versions.not_read error=%s", error)
            except Exception:
                logger.exception("versions.not_read")
            if self._over.wait(FOLLOW_EVERY_S):
                return
