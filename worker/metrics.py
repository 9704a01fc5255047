"""The worker's figures for Prometheus, at ``http://FLEET_METRICS_HOST:FLEET_METRICS_PORT/metrics``.

Stage: beside the flow; :mod:`worker.observe` starts it. What happens to jobs is counted as it happens, from
:mod:`worker.trail`; what can be looked at (places, requests, queues) is looked at when somebody asks. Figures of the
whole fleet, which stand in Redis, are given by every worker alike: take their ``max``, never their ``sum``.
"""

import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector
from redis import Redis
from redis.exceptions import RedisError

from producer import address
from producer.status import Status, read_status
from producer.wire import model_of
from worker.cpu import Plan
from worker.trail import RETRIED, STAGES, Ended, Passage

#: Upper ends of the histogram's buckets, seconds; a fetch takes a millisecond, a backlog may be hours old.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)

#: Figures of the fleet are read from Redis at most this often.
FRESH_S = 1.0

#: Longest wait for Redis when somebody asks for metrics; Prometheus itself gives up after ten seconds.
PATIENCE_S = 2.0

#: What pool says of itself: ``jobs``, ``max-concurrency``, and ``models`` with ``digest``, ``requests``, ``in_flight``.
PoolInfo = Callable[[], dict[str, Any]]


class JobMetrics:
    """Counts what happens to jobs and images. Thread-safe."""

    def __init__(self, registry: CollectorRegistry) -> None:
        what = ("model", "code")
        self._jobs = Counter("fleet_jobs", "Jobs that ended, by outcome: ok or an error.", what, registry=registry)
        self._images = Counter("fleet_images", "Images that ended, by outcome.", what, registry=registry)
        self._retries = Counter("fleet_job_retries", "Jobs put back to be tried again.", ("model",), registry=registry)
        self._bytes = Counter("fleet_image_bytes", "Bytes of encoded images read.", ("model",), registry=registry)
        self._versions = Counter(
            "fleet_version_images",
            "Images by the digest of their network.",
            ("model", "digest", "code"),
            registry=registry,
        )
        self._stages = Histogram(
            "fleet_stage_duration_seconds",
            "Time of an image in each stage: queued, fetch, decode, wait (for a free infer request), infer, finish.",
            ("model", "stage"),
            registry=registry,
            buckets=BUCKETS,
        )
        self._of: dict[str, list[Histogram]] = {}  # the histograms of a model, found once

    def begin(self, model: str) -> None:
        """Show ``model`` at nought, so that its first job is an increase."""
        self._jobs.labels(model, "ok")
        self._images.labels(model, "ok")
        self._retries.labels(model)
        self._bytes.labels(model)
        self._of[model] = [self._stages.labels(model, stage) for stage in STAGES]

    def count(self, ended: Ended) -> None:
        """Count a job that has ended, and its images."""
        if ended.code == RETRIED:
            self._retries.labels(ended.model).inc()
            return
        self._jobs.labels(ended.model, ended.code).inc()
        for passage in ended.images:
            self._count_image(passage)

    def _count_image(self, passage: Passage) -> None:
        self._versions.labels(passage.model, passage.digest, passage.code).inc()
        if passage.model not in self._of:
            self.begin(passage.model)
        self._images.labels(passage.model, passage.code).inc()
        self._bytes.labels(passage.model).inc(passage.bytes)
        for stage, histogram in zip(STAGES, self._of[passage.model], strict=True):
            took_ms = passage.stages_ms.get(stage)
            if took_ms is not None:
                histogram.observe(took_ms / 1000)


class WorkerCollector(Collector):
    """Looks at this worker when somebody asks: places, infer requests, models, threads."""

    def __init__(self, name: str, pool: PoolInfo, plan: Plan) -> None:
        self._name, self._pool, self._plan = name, pool, plan

    def describe(self) -> Iterator[Metric]:
        """Promise nothing: the pool is not asked before it has started."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Yield the figures of this moment."""
        info = self._pool()
        yield InfoMetricFamily("fleet_worker", "This worker.", {"worker": self._name, "version": VERSION})
        yield GaugeMetricFamily("fleet_job_slots", "Jobs that the worker holds at most.", info["max-concurrency"])
        yield GaugeMetricFamily("fleet_jobs_in_flight", "Jobs that the worker holds now.", info["jobs"])
        yield GaugeMetricFamily("fleet_inference_threads", "CPU threads for inference.", self._plan.threads)
        yield GaugeMetricFamily("fleet_decode_threads", "Threads that fetch and decode.", self._plan.decoders)
        digests = InfoMetricFamily("fleet_model", "Networks that are loaded.", labels=("model",))
        size = GaugeMetricFamily("fleet_infer_requests", "Infer requests, free or busy.", labels=("model",))
        busy = GaugeMetricFamily("fleet_infer_requests_busy", "Infer requests that run now.", labels=("model",))
        share = GaugeMetricFamily(
            "fleet_version_share",
            "Part of the jobs that a version gets; 0: it was replaced and ends its last.",
            labels=("model", "version", "digest"),
        )
        for model, stats in info["models"].items():
            digests.add_metric((model,), {"digest": stats["digest"]})
            size.add_metric((model,), stats["requests"])
            busy.add_metric((model,), stats["in_flight"])
            for one in stats["versions"]:
                share.add_metric((model, str(one["version"]), one["digest"]), one["share"])
        yield from (digests, size, busy, share)


class FleetCollector(Collector):
    """Looks at Redis when somebody asks, and so shows what ``fleet status`` shows."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._status: Status | None = None

    def describe(self) -> Iterator[Metric]:
        """Promise nothing: Redis is not asked at start."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Yield the figures; only that it is away when Redis does not answer."""
        status = self._fresh()
        yield GaugeMetricFamily("fleet_redis_up", "Whether Redis answers this worker.", float(status is not None))
        if status is None:
            return
        jobs = GaugeMetricFamily("fleet_queue_jobs", "Jobs that wait, fleet-wide.", labels=("model",))
        age = GaugeMetricFamily("fleet_queue_age_seconds", "Age of the oldest waiting job; 0: none.", labels=("model",))
        for queue in status.queues:
            model = model_of(queue.queue)
            if model is not None:
                jobs.add_metric((model,), queue.waiting)
                age.add_metric((model,), queue.oldest_s or 0.0)
        yield from (jobs, age)
        yield GaugeMetricFamily("fleet_workers", "Workers that live, fleet-wide.", len(status.workers))
        yield GaugeMetricFamily("fleet_jobs_held", "Jobs that workers hold, fleet-wide.", status.in_flight)
        yield GaugeMetricFamily("fleet_dead_jobs", "Jobs on the dead list.", status.dead)
        for name, field, told in COUNTERS:
            yield CounterMetricFamily(name, told, status.counters.get(field, 0))
        for field, value in status.memory.items():
            kind = field.removesuffix("_bytes")
            yield GaugeMetricFamily(f"fleet_redis_memory_{kind}_bytes", f"Redis's memory: {kind}.", value)

    def _fresh(self) -> Status | None:
        with self._lock:
            if time.monotonic() - self._read_at > FRESH_S:
                try:
                    self._status = read_status(self._redis)
                except (RedisError, OSError):
                    self._status = None
                self._read_at = time.monotonic()
            return self._status


VERSION = version("detection-fleet")

#: Counters that stand in Redis: name, field of the hash, help.
COUNTERS = (
    ("fleet_redeliveries", "redelivered", "Messages that came again, for whatever reason; fleet-wide."),
    ("fleet_lapsed_leases", "lapsed", "Messages that were taken back from workers that went silent; fleet-wide."),
    ("fleet_duplicates", "answered_before", "Jobs that came again and were recognised as answered; fleet-wide."),
)


def make_registry(worker: str, pool: PoolInfo, plan: Plan, redis: Redis) -> tuple[CollectorRegistry, JobMetrics]:
    """Put together all that a worker shows."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each, which says when this process counted first
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    started = Gauge("fleet_worker_started_timestamp_seconds", "When this worker began to serve.", registry=registry)
    started.set_to_current_time()
    registry.register(WorkerCollector(worker, pool, plan))
    registry.register(FleetCollector(redis))
    return registry, JobMetrics(registry)


def connect(url: str) -> Redis:
    """Connect for the figures in Redis; whoever asks is not kept waiting for a server that is away."""
    return address.connect(url, socket_timeout=PATIENCE_S, socket_connect_timeout=PATIENCE_S)


def serve(registry: CollectorRegistry, host: str, port: int) -> Callable[[], None]:
    """Serve ``/metrics`` on a thread of its own; return what stops it.

    Raises:
        OSError: the port cannot be had.
    """
    server, _ = start_http_server(port, host, registry)

    def stop() -> None:
        server.shutdown()
        server.server_close()

    return stop
