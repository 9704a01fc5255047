"""One job is one trace, from the application that sends it to the result in Redis."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from redis import Redis

from producer import Client, tracing
from producer.errors import InvalidImage
from tests.integration.kit import MODEL, QUEUE, Fleet
from tests.waiting import eventually
from worker.trail import STAGES

Span = dict[str, Any]


class Application:
    """This process, as an application that traces."""

    def __init__(self) -> None:
        self._seen = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._seen))
        self.tracer = self.provider.get_tracer("application")

    def spans(self) -> list[Span]:
        """Give its spans as the worker's file has its own."""
        return [json.loads(span.to_json()) for span in self._seen.get_finished_spans()]


@pytest.fixture
def application() -> Iterator[Application]:
    """An application whose client is traced for the length of a test."""
    made = Application()
    tracing.enable(made.provider)
    yield made
    tracing.disable()
    made.provider.shutdown()


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the worker's spans."""
    return tmp_path_factory.mktemp("traces") / "spans.jsonl"


@pytest.fixture(scope="module")
def traced(bare_fleet: Fleet, traces: Path) -> Fleet:
    """A fleet whose worker traces."""
    bare_fleet.start(traces=f"file:{traces}")
    return bare_fleet


def spans_of(path: Path) -> list[Span]:
    """Read the worker's spans."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def of_trace(spans: list[Span], trace: str) -> dict[str, Span]:
    """Give the spans of one trace by name."""
    return {span["name"]: span for span in spans if span["context"]["trace_id"] == trace}


def whole(path: Path, trace: str, *names: str) -> dict[str, Span]:
    """Wait until the worker has written these spans of a trace, and give all of its."""
    return eventually(
        lambda: (found := of_trace(spans_of(path), trace)) and set(names) <= set(found) and found, f"{names}"
    )


def test_one_job_is_one_trace_from_the_application_to_the_result(
    traced: Fleet, traces: Path, application: Application
) -> None:
    """Given an application's own span, when it detects, then send, job, stages, body and result belong to its trace."""
    with application.tracer.start_as_current_span("request of a user"), Client(traced.url, model=MODEL) as client:
        job = client.submit(traced.picture)
        result = job.result(timeout=30)

    ours = {span["name"]: span for span in application.spans()}
    trace = ours["request of a user"]["context"]["trace_id"]
    stages = [f"fleet {stage}" for stage in STAGES]
    theirs = whole(traces, trace, "fleet job", "run/fleet.detect", *stages)
    assert ours["fleet send"]["context"]["trace_id"] == trace
    assert ours["fleet send"]["attributes"]["messaging.message.id"] == job.id
    sent = ours["fleet send"]["context"]["span_id"]
    assert theirs["fleet job"]["parent_id"] == theirs["run/fleet.detect"]["parent_id"] == sent
    assert theirs["fleet job"]["attributes"]["messaging.message.id"] == job.id
    assert theirs["fleet job"]["attributes"]["fleet.code"] == "ok"
    for stage in STAGES:
        span = theirs[f"fleet {stage}"]
        assert span["parent_id"] == theirs["fleet job"]["context"]["span_id"]
        assert _length_ms(span) == pytest.approx(result.timings_ms[stage], abs=0.1), stage
    stored = [span for span in theirs.values() if span["parent_id"] == theirs["run/fleet.detect"]["context"]["span_id"]]
    assert any(span["attributes"].get("db.system") == "redis" for span in stored)


def test_a_job_that_fails_is_an_error_in_its_trace(traced: Fleet, traces: Path, application: Application) -> None:
    """Given a bad image, then the job's span has the error's code, and only the stages it came to."""
    with (
        application.tracer.start_as_current_span("bad") as root,
        Client(traced.url, model=MODEL) as client,
        pytest.raises(InvalidImage),
    ):
        client.detect(b"no picture" * 300)
    theirs = whole(traces, f"0x{root.get_span_context().trace_id:032x}", "fleet job")
    assert theirs["fleet job"]["status"] == {"status_code": "ERROR", "description": "invalid_image"}
    assert "fleet infer" not in theirs


def test_a_job_that_never_began_is_in_its_trace_as_well(traced: Fleet, traces: Path) -> None:
    """Given a job past its time, when it is refused, then its trace says so, as the metrics do, with no stages."""
    late = traced.detect(expires=-1)
    assert late.get(timeout=30, propagate=False) is not None

    def told() -> Span | None:
        jobs = [span for span in spans_of(traces) if span["attributes"].get("messaging.message.id") == late.id]
        return next((span for span in jobs if span["name"] == "fleet job"), None)

    span = eventually(told, "the span of the job")
    assert span["attributes"]["fleet.code"] == span["status"]["description"] == "deadline_exceeded"
    assert span["attributes"]["fleet.images"] == 0
    assert span["start_time"] == span["end_time"]


def test_a_celery_program_without_traces_gets_a_trace_of_the_workers_own(traced: Fleet, traces: Path) -> None:
    """Given a bare job, then its spans are there, under a root of their own, and Redis's small talk is not."""
    job = traced.detect()
    job.get(timeout=30)

    def root() -> Span | None:
        found = [one for one in spans_of(traces) if one["attributes"].get("messaging.message.id") == job.id]
        return next((one for one in found if one["name"] == "fleet job"), None)

    assert eventually(root, "the job's span")["parent_id"] is None
    assert {span["name"] for span in spans_of(traces) if span["parent_id"] is None} <= {"fleet job", "run/fleet.detect"}


def test_messages_are_as_they_were_unless_somebody_traces(
    own_server: str, redis: Redis, application: Application
) -> None:
    """Given tracing, then a message has one header more; without it, it has none."""
    with Client(own_server, model=MODEL) as client:
        client.submit(b"a picture")
        tracing.disable()
        client.submit(b"a picture")
    without, traced = (set(json.loads(raw)["headers"]) for raw in redis.lrange(QUEUE, 0, -1))
    assert traced - without == {"traceparent"}


def test_a_collector_that_is_not_there_keeps_no_worker(bare_fleet: Fleet) -> None:
    """Given an address where nobody takes spans, then jobs are answered, and the worker ends in time."""
    worker = bare_fleet.start(
        traces="otlp", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1", OTEL_EXPORTER_OTLP_TIMEOUT=2
    )
    assert bare_fleet.detect().get(timeout=30)["v"] == 1
    began = time.monotonic()
    assert worker.stop() == 0
    bare_fleet.workers.remove(worker)
    assert time.monotonic() - began < 20


def _length_ms(span: Span) -> float:
    begin, end = (_seconds(span[name]) for name in ("start_time", "end_time"))
    return (end - begin) * 1000


def _seconds(text: str) -> float:
    whole_s, _, rest = text.removesuffix("Z").partition(".")
    return time.mktime(time.strptime(whole_s, "%Y-%m-%dT%H:%M:%S")) + float(f"0.{rest}")
