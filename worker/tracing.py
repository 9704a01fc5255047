"""OpenTelemetry on the worker's side: a span for each job and one for each stage of its images, in the sender's trace.

Stage: beside the flow; :mod:`worker.observe` loads this module where ``FLEET_TRACES`` asks for it. Needs the extra
``otel``. Spans of stages are made when a job has ended, from :mod:`worker.trail`, and so say what metrics and results
say. Celery's and Redis's own instrumentation add what they see: publishing, running the task's body, storing a result.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opentelemetry import context as contexts
from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import SpanKind, Status, StatusCode

from worker.trail import OK, RETRIED, STAGES, Ended, Passage

#: Begins ``FLEET_TRACES`` where spans go into a file, a line of JSON each.
FILE_PREFIX = "file:"

#: The headers of W3C's trace context.
_CONTEXT = ("traceparent", "tracestate", "baggage")


class _JobsOnly(Sampler):
    """Starts no trace for a command to Redis that belongs to no job: a worker asks Redis all the time."""

    def should_sample(self, parent_context: Any, trace_id: int, name: str, *args: Any, **more: Any) -> SamplingResult:
        if name == "fleet job" or name.startswith(("run/", "apply_async/")):
            return ALWAYS_ON.should_sample(parent_context, trace_id, name, *args, **more)
        return SamplingResult(Decision.DROP)

    def get_description(self) -> str:
        return "JobsOnly"


class Tracing:
    """Makes spans of jobs that have ended. Thread-safe."""

    def __init__(self, worker: str, processor: SpanProcessor) -> None:
        resource = Resource.create({"service.name": "detection-fleet-worker", "service.instance.id": worker})
        self._provider = TracerProvider(sampler=ParentBased(_JobsOnly()), resource=resource)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("detection-fleet")
        CeleryInstrumentor().instrument(tracer_provider=self._provider)  # type: ignore[no-untyped-call]
        RedisInstrumentor().instrument(tracer_provider=self._provider)

    def trace(self, ended: Ended) -> None:
        """Make the spans of one job, in the trace that its message names, or in one of its own.

        A job that ended before its images began, as one for an unknown model or past its time, is a span of no length.
        """
        now = time.time()
        begin = min((_queued_at(one) for one in ended.images), default=now)
        span = self._tracer.start_span(
            "fleet job", context=_context_of(ended.headers), kind=SpanKind.CONSUMER, start_time=_ns(begin)
        )
        span.set_attributes(
            {
                "messaging.message.id": ended.job,
                "celery.task_name": ended.task,
                "fleet.model": ended.model,
                "fleet.code": ended.code,
                "fleet.images": len(ended.images),
            }
        )
        if ended.code not in (OK, RETRIED):
            span.set_status(Status(StatusCode.ERROR, ended.code))
        inside = trace.set_span_in_context(span, contexts.Context())
        span.end(_ns(max((self._stages(one, inside) for one in ended.images), default=now)))

    def stop(self) -> None:
        """Send what is left; one that nobody takes does not keep the worker."""
        self._provider.shutdown()

    def _stages(self, passage: Passage, inside: contexts.Context) -> float:
        """Make the spans of one image's stages; return when the last one ended."""
        at = _queued_at(passage)
        for stage in STAGES:
            if stage not in passage.stages_ms:
                continue
            at = passage.starts_at.get(stage, at)
            end = at + passage.stages_ms[stage] / 1000
            span = self._tracer.start_span(f"fleet {stage}", context=inside, start_time=_ns(at))
            span.set_attributes({"fleet.image": passage.index, **_details(passage, stage)})
            span.end(_ns(end))
            at = end
        return at


def start(worker: str, where: str) -> Tracing:
    """Begin to trace; ``where`` is ``otlp``, ruled by OpenTelemetry's own variables, or ``file:`` and a path.

    Raises:
        OSError: the file cannot be written.
    """
    if where.startswith(FILE_PREFIX):
        out = Path(where.removeprefix(FILE_PREFIX)).open("a", encoding="utf-8", buffering=1)  # noqa: SIM115 - the process's life long
        return Tracing(worker, SimpleSpanProcessor(ConsoleSpanExporter(out=out, formatter=_line_of)))
    return Tracing(worker, BatchSpanProcessor(OTLPSpanExporter()))


def _line_of(span: ReadableSpan) -> str:
    return str(span.to_json(indent=None)) + "\n"


def _context_of(headers: Mapping[str, Any]) -> contexts.Context:
    carrier = {name: headers[name] for name in _CONTEXT if isinstance(headers.get(name), str)}
    return propagate.extract(carrier, contexts.Context())


def _queued_at(passage: Passage) -> float:
    return passage.begun_at - passage.stages_ms.get("queued", 0.0) / 1000


def _details(passage: Passage, stage: str) -> dict[str, str | int]:
    if stage == "infer" and passage.slot is not None:
        return {"fleet.request": passage.slot}
    if stage in ("fetch", "decode", "wait"):
        return {"thread.name": passage.thread, "fleet.bytes": passage.bytes}
    return {}


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
