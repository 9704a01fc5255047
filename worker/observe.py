"""Starts what watches a worker: the trail, and metrics if they are asked for.

Stage: with the worker, after its pool. Nothing on a job's way waits for any of it.
"""

import logging
from collections.abc import Callable
from typing import Any

from celery import bootsteps
from celery.exceptions import WorkerShutdown
from celery.platforms import EX_FAILURE

from worker import cpu, metrics, settings
from worker.trail import Trail

logger = logging.getLogger(__name__)


class ObserveStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Lives as long as the worker; ``worker.trail`` is for :mod:`worker.remote`."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **_: Any) -> None:
        self._stop: Callable[[], None] | None = None

    def start(self, worker: Any) -> None:
        """Begin to watch, and serve metrics where ``FLEET_METRICS_PORT`` says so.

        Raises:
            WorkerShutdown: the port cannot be had; the log has one sentence.
        """
        chosen = settings.load()
        worker.trail = Trail(chosen.models)
        worker.trail.connect()
        if chosen.metrics_port:
            self._serve(worker, chosen)

    def stop(self, worker: Any) -> None:
        """Stop serving metrics."""
        if self._stop is not None:
            self._stop()
            self._stop = None

    terminate = stop

    def _serve(self, worker: Any, chosen: settings.Settings) -> None:
        redis = metrics.connect(worker.app.conf.result_backend)
        plan = cpu.make_plan(chosen)
        registry, jobs = metrics.make_registry(worker.hostname, lambda: worker.pool.info, plan, redis)
        for model in chosen.models:
            jobs.begin(model)
        try:
            self._stop = metrics.serve(registry, chosen.metrics_host, chosen.metrics_port)
        except OSError as error:
            where = f"{chosen.metrics_host}:{chosen.metrics_port}"
            logger.critical("Metrics cannot be served at %s: %s. Set FLEET_METRICS_PORT.", where, error.strerror)
            raise WorkerShutdown(EX_FAILURE) from None
        worker.trail.listen(jobs.count)
        logger.info("metrics.served host=%s port=%d", chosen.metrics_host, chosen.metrics_port)
