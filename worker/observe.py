"""Starts what watches a worker: the trail, and metrics and traces if they are asked for.

Stage: with the worker, after its pool. Nothing on a job's way waits for any of it.
"""

import importlib
import logging
from collections.abc import Callable
from typing import Any, cast

from celery import bootsteps, signals
from celery.exceptions import WorkerShutdown
from celery.platforms import EX_FAILURE

from worker import cpu, metrics, settings
from worker.trail import Trail

logger = logging.getLogger(__name__)


class ObserveStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Lives as long as the worker; ``worker.trail`` is for :mod:`worker.remote`."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **_: Any) -> None:
        self._stops: list[Callable[[], None]] = []
        # After the pool has drained, which is later than stop(): what ends meanwhile is watched as well.
        signals.worker_shutdown.connect(self._end, weak=False)

    def start(self, worker: Any) -> None:
        """Begin to watch, serve metrics where ``FLEET_METRICS_PORT`` says so, trace where ``FLEET_TRACES`` does.

        Raises:
            WorkerShutdown: a port, a file or a package cannot be had; the log has one sentence.
        """
        chosen = settings.load()
        worker.trail = Trail(chosen.models)
        worker.trail.connect()
        if chosen.metrics_port:
            self._serve(worker, chosen)
        if chosen.traces:
            self._trace(worker, chosen.traces)

    def _end(self, **_: Any) -> None:
        """Stop serving metrics, and send the last spans."""
        while self._stops:
            self._stops.pop()()

    def _serve(self, worker: Any, chosen: settings.Settings) -> None:
        redis = metrics.connect(chosen.url)
        plan = cpu.make_plan(chosen)
        registry, jobs = metrics.make_registry(worker.hostname, lambda: worker.pool.info, plan, redis)
        for model in chosen.models:
            jobs.begin(model)
        try:
            stop = metrics.serve(registry, chosen.metrics_host, chosen.metrics_port)
        except OSError as error:
            where = f"{chosen.metrics_host}:{chosen.metrics_port}"
            logger.critical("Metrics cannot be served at %s: %s. Set FLEET_METRICS_PORT.", where, error.strerror)
            raise WorkerShutdown(EX_FAILURE) from None
        self._stops.append(stop)
        worker.trail.listen(jobs.count)
        logger.info("metrics.served host=%s port=%d", chosen.metrics_host, chosen.metrics_port)

    def _trace(self, worker: Any, where: str) -> None:
        """Load :mod:`worker.tracing`, and with it OpenTelemetry, now that somebody wants traces."""
        try:
            tracing = cast("Any", importlib.import_module("worker.tracing")).start(worker.hostname, where)
        except ImportError as error:
            logger.critical('FLEET_TRACES needs OpenTelemetry (%s): pip install "detection-fleet[otel]"', error)
            raise WorkerShutdown(EX_FAILURE) from None
        except OSError as error:
            logger.critical("FLEET_TRACES=%s cannot be written: %s.", where, error.strerror)
            raise WorkerShutdown(EX_FAILURE) from None
        self._stops.append(tracing.stop)
        worker.trail.listen(tracing.trace)
