"""OpenTelemetry on the client's side: each job sent is a span, and the message carries its context to the worker.

Stage: beside the client; not imported by it. Needs the extra ``otel`` (or any ``opentelemetry-api``)::

    from producer import tracing

    tracing.enable()

after which jobs join the trace that is current where they are sent. Celery's own ``send_task`` does the same with
``opentelemetry-instrumentation-celery``; the worker takes up either.
"""

from collections.abc import Mapping

from opentelemetry import propagate, trace
from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider

from producer import hooks
from producer.errors import FleetError


class _SendSpan:
    """The span of one job on its way into Redis."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._span = tracer.start_span("fleet send", kind=SpanKind.PRODUCER)
        carrier: dict[str, str] = {}
        propagate.inject(carrier, trace.set_span_in_context(self._span))
        self.headers: Mapping[str, str] = carrier

    def end(self, job_id: str | None, error: BaseException | None) -> None:
        """Close the span with the job's id, or with why there is none."""
        if job_id is not None:
            self._span.set_attribute("messaging.message.id", job_id)
        if error is not None:
            code = error.code if isinstance(error, FleetError) else type(error).__name__
            self._span.set_attribute("error.type", code)
            self._span.set_status(Status(StatusCode.ERROR, str(error)))
        self._span.end()


def enable(provider: TracerProvider | None = None) -> None:
    """Trace every job that this process sends from now on, with ``provider`` or the application's own."""
    tracer = trace.get_tracer("detection-fleet", tracer_provider=provider)
    hooks.watch_with(lambda: _SendSpan(tracer))


def disable() -> None:
    """Trace no more."""
    hooks.watch_with(None)
