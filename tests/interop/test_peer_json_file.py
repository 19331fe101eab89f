"""The tests of OpenTelemetry's own JSON file exporter, as they apply to ours.

Ported, in other words, from ``exporter/opentelemetry-exporter-otlp-json-file/tests`` of
opentelemetry-python (commit 0a5d76b6, August 2026; Apache-2.0): 42 of its 45 cases. Each docstring
names the original. Where all three signals have the same case, one test here stands for three.

Left out:

- ``test_path_and_stream_raises`` (3): ours takes a path or a storage, and no stream.

Otherwise than there: a shutdown that is repeated is not worth a warning, and what there is to warn
of goes to standard error instead of ``logging``, which could bring it back to the exporter. Without
arguments, ours exports to where the environment says instead of standard output. Instead of a
stream that must be flushed, there is a file that must hold all when ``export`` returns.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.metrics import Observation
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import (
    InMemoryLogRecordExporter,
    LogRecordExportResult,
    SimpleLogRecordProcessor,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Metric,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    PeriodicExportingMetricReader,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, StatusCode, TraceFlags

from rimp_otel import MemoryStorage, RimpLogRecordExporter, RimpMetricExporter, RimpSpanExporter
from rimp_otel.models.records import Signal
from tests.otlp.official import assert_same, differences, message_of, our_message

SCOPE = InstrumentationScope("test-scope", "1.0")


def span_named(name: str, resource: dict[str, str]) -> ReadableSpan:
    """Return a span that a real provider made."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource(resource), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with provider.get_tracer("test-scope", "1.0").start_as_current_span(name):
        pass
    (span,) = exporter.get_finished_spans()
    return span


def log_named(body: str, resource: dict[str, str]) -> ReadableLogRecord:
    """Return a log record."""
    log = LogRecord(body=body, severity_text="INFO", severity_number=SeverityNumber.INFO)
    return ReadableLogRecord(log, Resource(resource), SCOPE)


def metric_named(name: str, resource: dict[str, str]) -> ResourceMetrics:
    """Return a sum or a gauge of one point."""
    point = NumberDataPoint({"a": 1, "b": True}, 1, 2, 42)
    cumulative = AggregationTemporality.CUMULATIVE
    data = Gauge([point]) if "gauge" in name else Sum([point], cumulative, True)
    scoped = ScopeMetrics(SCOPE, [Metric(name, "foo", "s", data)], "")
    return ResourceMetrics(Resource(resource), [scoped], "")


class Kind(NamedTuple):
    """The differences of the three exporters."""

    signal: Signal
    exporter: Callable[..., Any]
    success: Any
    failure: Any
    record: Callable[[str, dict[str, str]], Any]
    #: What ``export`` is given, of some records.
    batch: Callable[[Sequence[Any]], Any]

    def file(self, path: Path) -> Path:
        """Return the file of the signal in a recording."""
        return path / f"{self.signal.value}.jsonl"

    def export(self, exporter: Any, *records: Any) -> Any:
        """Export the records."""
        return exporter.export(self.batch(records))


KINDS = [
    Kind(
        Signal.TRACES,
        RimpSpanExporter,
        SpanExportResult.SUCCESS,
        SpanExportResult.FAILURE,
        span_named,
        list,
    ),
    Kind(
        Signal.LOGS,
        RimpLogRecordExporter,
        LogRecordExportResult.SUCCESS,
        LogRecordExportResult.FAILURE,
        log_named,
        list,
    ),
    Kind(
        Signal.METRICS,
        RimpMetricExporter,
        MetricExportResult.SUCCESS,
        MetricExportResult.FAILURE,
        metric_named,
        MetricsData,
    ),
]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.signal.value)
def kind(request: Any) -> Kind:
    """Return each of the three exporters."""
    return request.param


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a recording that does not exist yet."""
    return tmp_path / "recording"


def names_in(signal: Signal, lines: Sequence[bytes]) -> list[list[str]]:
    """Return the names, or the bodies, of each resource's records."""
    message = message_of(signal, lines)
    groups = [
        [
            scoped
            for field, scopes in group.ListFields()
            if field.name.startswith("scope_")
            for scoped in scopes
        ]
        for group in message.ListFields()[0][1]
    ]
    return [
        [
            record.body.string_value if signal is Signal.LOGS else record.name
            for scoped in group
            for field, records in scoped.ListFields()
            if field.name in ("spans", "log_records", "metrics")
            for record in records
        ]
        for group in groups
    ]


def lines_in(file: Path) -> list[bytes]:
    """Return the whole lines of a file."""
    content = file.read_bytes()
    assert content.endswith(b"\n")
    return content.splitlines()


def test_lines_are_json(kind, path):
    """TestFormatLine.test_produces_valid_json."""
    kind.export(kind.exporter(path=path), kind.record("name", {"a": "hello"}))
    (line,) = lines_in(kind.file(path))
    assert list(json.loads(line)) == [kind.signal.resource_key]


def test_lines_end_with_a_newline(kind, path):
    """TestFormatLine.test_newline_terminated."""
    kind.export(kind.exporter(path=path), kind.record("name", {}))
    content = kind.file(path).read_bytes()
    assert (content[-1:], content.count(b"\n")) == (b"\n", 1)


def test_lines_have_no_spaces(kind, path):
    """TestFormatLine.test_compact_no_spaces."""
    kind.export(kind.exporter(path=path), kind.record("name", {"a": "b", "c": "d"}))
    assert b" " not in kind.file(path).read_bytes()


def test_nested_values_stay_what_they_are(path):
    """TestFormatLine.test_nested_structure."""
    kind = KINDS[1]
    body = {"outer": {"inner": [1, 2, 3]}, "flag": True}
    storage = MemoryStorage()
    record = kind.record(body, {})
    for exporter in (kind.exporter(path=path), kind.exporter(storage=storage)):
        kind.export(exporter, record)
    assert lines_in(kind.file(path)) == storage.retrieve().otlp_json(Signal.LOGS)
    (event,) = storage.retrieve().events
    assert event.body == body


def test_nothing_to_export_is_a_success(kind, path):
    """test_export_empty_sequence, of spans and logs."""
    assert kind.export(kind.exporter(path=path)) is kind.success
    assert not kind.file(path).exists()


def test_one_record_is_exported(kind, path):
    """test_export_single_span, test_export_single_log and test_export_metrics."""
    exporter = kind.exporter(path=path)
    assert kind.export(exporter, kind.record("one", {"service.name": "test"})) is kind.success
    assert names_in(kind.signal, lines_in(kind.file(path))) == [["one"]]


@pytest.mark.parametrize("kind", KINDS[:2], ids=["traces", "logs"])
def test_records_of_one_resource_share_a_group(kind, path):
    """test_export_multiple_spans_same_resource and test_export_multiple_logs_same_resource."""
    records = [kind.record(name, {"service.name": "test"}) for name in ("first", "second")]
    kind.export(kind.exporter(path=path), *records)
    assert names_in(kind.signal, lines_in(kind.file(path))) == [["first", "second"]]


def test_records_of_two_resources_have_two_groups(kind, path):
    """test_export_spans_different_resources, and the same of logs and of metrics."""
    records = [kind.record(name, {"host": name}) for name in ("counter_a", "gauge_b")]
    kind.export(kind.exporter(path=path), *records)
    assert names_in(kind.signal, lines_in(kind.file(path))) == [["counter_a"], ["gauge_b"]]


def test_what_was_exported_is_in_the_file(kind, path):
    """test_stream_flushed_after_export, of all three: nothing is held back until a flush."""
    exporter = kind.exporter(path=path)
    for count in (1, 2, 3):
        kind.export(exporter, kind.record("name", {}))
        assert len(lines_in(kind.file(path))) == count


def test_nothing_is_exported_after_a_shutdown(kind, path, capsys):
    """test_export_after_shutdown, of all three."""
    exporter = kind.exporter(path=path)
    exporter.shutdown()
    assert kind.export(exporter, kind.record("late", {})) is kind.failure
    assert not kind.file(path).exists()
    assert "after its shutdown" in capsys.readouterr().err


def test_a_shutdown_may_be_repeated(kind, path):
    """test_shutdown_idempotent, of all three."""
    exporter = kind.exporter(path=path)
    kind.export(exporter, kind.record("one", {}))
    exporter.shutdown()
    exporter.shutdown()
    assert len(lines_in(kind.file(path))) == 1


def test_a_flush_has_nothing_to_do(kind, path):
    """test_force_flush_returns_true, of all three."""
    exporter = kind.exporter(path=path)
    assert exporter.force_flush() is True
    kind.export(exporter, kind.record("one", {}))
    assert exporter.force_flush() is True


def test_a_failing_storage_is_a_failure(kind, capsys):
    """test_export_stream_error, of all three."""

    class Full(MemoryStorage):
        def store(self, data: Any) -> None:
            raise OSError("disk full")

    assert kind.export(kind.exporter(storage=Full()), kind.record("one", {})) is kind.failure
    assert "1 record could not be stored: disk full" in capsys.readouterr().err


def test_a_path_of_a_file_names_a_family_of_files(kind, tmp_path):
    """test_export_with_path, of all three."""
    exporter = kind.exporter(path=str(tmp_path / "output.jsonl"))
    kind.export(exporter, kind.record("hello from path", {}))
    exporter.shutdown()
    (file,) = tmp_path.glob("*.jsonl")
    assert file.name == f"output-{kind.signal.value}.jsonl"
    assert names_in(kind.signal, lines_in(file)) == [["hello from path"]]


def test_without_arguments_the_environment_says_where(kind, tmp_path, monkeypatch):
    """test_default_stream_is_stdout, of all three."""
    monkeypatch.setenv("RIMP_STORAGE_PATH", str(tmp_path / "from_env"))
    kind.export(kind.exporter(), kind.record("one", {}))
    assert names_in(kind.signal, lines_in(kind.file(tmp_path / "from_env"))) == [["one"]]
    monkeypatch.delenv("RIMP_STORAGE_PATH")
    monkeypatch.chdir(tmp_path)
    kind.export(kind.exporter(), kind.record("one", {}))
    assert len(lines_in(kind.file(tmp_path / "telemetry"))) == 1


@pytest.fixture
def traced(path):
    """Return a tracer, and a check that our file has what the in-memory exporter got."""
    provider, memory = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(RimpSpanExporter(path=path)))
    provider.add_span_processor(SimpleSpanProcessor(memory))
    yield provider.get_tracer(__name__)
    provider.shutdown()
    lines = lines_in(path / "traces.jsonl")
    assert len(lines) == len(memory.get_finished_spans()) > 0
    for line, span in zip(lines, memory.get_finished_spans(), strict=True):
        assert_same(Signal.TRACES, [line], [span])
        assert_is_the_peers(Signal.TRACES, line, [span])


def assert_is_the_peers(signal: Signal, line: bytes, records: Any) -> None:
    """Check that the line is that of the peer's own JSON encoder, if it is installed."""
    try:
        from opentelemetry.exporter.otlp.json.common._log_encoder import encode_logs
        from opentelemetry.exporter.otlp.json.common.metrics_encoder import encode_metrics
        from opentelemetry.exporter.otlp.json.common.trace_encoder import encode_spans
    except ImportError:
        return
    encode = {
        Signal.TRACES: encode_spans,
        Signal.LOGS: encode_logs,
        Signal.METRICS: encode_metrics,
    }[signal]
    peers = json.dumps(encode(records).to_dict()).encode()
    assert list(differences(our_message(signal, [line]), our_message(signal, [peers]))) == []


def test_a_rich_span_is_what_memory_has(traced):
    """TestFileSpanExporterRoundTrip.test_single_span_matches_in_memory."""
    context = SpanContext(0xDEADBEEF, 0xDEADBEF0, is_remote=True, trace_flags=TraceFlags(1))
    links = [Link(context, {"link.order": 1})]
    with traced.start_as_current_span("rich-span", links=links) as span:
        span.set_attributes({"http.method": "GET", "http.status_code": 200, "http.retried": False})
        span.add_event("cache-miss", {"cache.key": "user:42"})
        span.set_status(StatusCode.OK)


def test_nested_spans_are_what_memory_has(traced):
    """TestFileSpanExporterRoundTrip.test_multiple_spans_match_in_memory."""
    with traced.start_as_current_span("parent-op", attributes={"phase": "request"}) as parent:
        parent.add_event("processing-started")
        with traced.start_as_current_span("child-op") as child:
            child.set_attribute("attempt", 1)
            child.set_status(StatusCode.ERROR, "timeout")


def test_a_recorded_exception_is_what_memory_has(traced):
    """TestFileSpanExporterRoundTrip.test_recorded_exception_matches_in_memory."""
    with traced.start_as_current_span("failing-op") as span:
        try:
            raise ValueError("something went wrong")
        except ValueError as error:
            span.record_exception(error)
            span.set_status(StatusCode.ERROR, str(error))


@pytest.mark.parametrize(
    "records",
    [
        [("hello from integration", SeverityNumber.INFO)],
        [("first message", SeverityNumber.INFO), ("second message", SeverityNumber.WARN)],
    ],
    ids=["single", "multiple"],
)
def test_log_records_are_what_memory_has(path, records):
    """TestFileLogExporterRoundTrip.test_single_log_..., and test_multiple_logs_match_in_memory."""
    provider, memory = LoggerProvider(shutdown_on_exit=False), InMemoryLogRecordExporter()
    provider.add_log_record_processor(SimpleLogRecordProcessor(RimpLogRecordExporter(path=path)))
    provider.add_log_record_processor(SimpleLogRecordProcessor(memory))
    logger = provider.get_logger("test.integration")
    for body, severity in records:
        logger.emit(LogRecord(body=body, severity_number=severity))
    lines = lines_in(path / "logs.jsonl")
    assert len(lines) == len(memory.get_finished_logs()) == len(records)
    for line, record in zip(lines, memory.get_finished_logs(), strict=True):
        assert_same(Signal.LOGS, [line], [record])
        assert_is_the_peers(Signal.LOGS, line, [record])
    provider.shutdown()


class Capturing(RimpMetricExporter):
    """An exporter that keeps what it gets."""

    last: MetricsData | None = None

    def export(self, metrics_data: MetricsData, *args: Any, **kwargs: Any) -> MetricExportResult:
        self.last = metrics_data
        return super().export(metrics_data, *args, **kwargs)


@pytest.fixture
def metered(path):
    """Return a meter, and a check that our file has what the exporter got."""
    exporter = Capturing(path=path)
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=100_000)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    yield provider.get_meter(__name__)
    provider.force_flush()
    given, lines = exporter.last, lines_in(path / "metrics.jsonl")
    provider.shutdown()
    assert_same(Signal.METRICS, lines, given)
    assert_is_the_peers(Signal.METRICS, lines[0], given)


def test_synchronous_instruments_are_what_memory_has(metered):
    """TestFileMetricExporterRoundTrip.test_synchronous_instruments_match_in_memory."""
    metered.create_counter("req.count").add(10)
    metered.create_up_down_counter("queue.depth").add(-3)
    metered.create_histogram("req.duration").record(1.5)
    metered.create_gauge("cpu.temp").set(72.0)


def test_observable_instruments_are_what_memory_has(metered):
    """TestFileMetricExporterRoundTrip.test_observable_instruments_match_in_memory."""

    def observing(value: float) -> list[Callable[..., Any]]:
        return [lambda _: [Observation(value)]]

    metered.create_observable_counter("obs.req.count", callbacks=observing(20))
    metered.create_observable_up_down_counter("obs.queue.depth", callbacks=observing(-7))
    metered.create_observable_gauge("obs.cpu.temp", callbacks=observing(55.5))
