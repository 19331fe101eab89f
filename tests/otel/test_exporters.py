"""The three exporters, behind the SDK's own processors and readers."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    LogRecordExportResult,
    SimpleLogRecordProcessor,
)
from opentelemetry.sdk.metrics import Counter, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    MetricExportResult,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExportResult,
)

from rimp_otel import (
    ConfigurationError,
    FileStorage,
    MemoryStorage,
    RimpLogRecordExporter,
    RimpMetricExporter,
    RimpSpanExporter,
    SQLiteStorage,
    TelemetryData,
    TelemetryMetric,
)
from rimp_otel.models.records import Temporality
from tests.contract.samples import bare_span

EXPORTERS = [RimpSpanExporter, RimpLogRecordExporter, RimpMetricExporter]


class Failing(MemoryStorage):
    """A storage that neither stores nor closes."""

    def store(self, data):
        raise OSError("full")

    def close(self):
        raise OSError("stuck")


@pytest.mark.parametrize("processor", [SimpleSpanProcessor, BatchSpanProcessor])
def test_spans(processor):
    """Spans arrive complete through the SDK's processors."""
    storage = MemoryStorage()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor(RimpSpanExporter(storage)))
    with (
        provider.get_tracer("t", "1").start_as_current_span("outer"),
        provider.get_tracer("t").start_as_current_span("inner", attributes={"k": 1}),
    ):
        pass
    provider.shutdown()
    outer, inner = sorted(storage.retrieve().spans, key=lambda span: span.name, reverse=True)
    assert (outer.name, inner.name, dict(inner.attributes)) == ("outer", "inner", {"k": 1})
    assert inner.parent.span_id == outer.context.span_id


@pytest.mark.parametrize("processor", [SimpleLogRecordProcessor, BatchLogRecordProcessor])
def test_log_records(processor):
    """Log records arrive complete through the SDK's processors."""
    storage = MemoryStorage()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(processor(RimpLogRecordExporter(storage)))
    provider.get_logger("l").emit(body={"a": [1]}, attributes={"k": 1}, event_name="e")
    provider.shutdown()
    (event,) = storage.retrieve().events
    assert (event.body, event.metadata, event.event_name) == ({"a": [1]}, {"k": 1}, "e")


def test_metrics():
    """Metrics arrive through the SDK's reader, with the preferred temporality."""
    storage = MemoryStorage()
    exporter = RimpMetricExporter(
        storage, preferred_temporality={Counter: AggregationTemporality.DELTA}
    )
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
    provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    counter = provider.get_meter("m").create_counter("c")
    for _ in range(2):
        counter.add(2)
        provider.force_flush()
    provider.shutdown()
    points = storage.retrieve().metrics
    assert [(m.value, m.temporality) for m in points] == [(2, Temporality.DELTA)] * 2


def test_durable_without_a_flush(tmp_path):
    """A span is stored when export returns: SimpleSpanProcessor never flushes."""
    exporter = RimpSpanExporter(path=tmp_path / "t")
    assert exporter.export([bare_span()]) is SpanExportResult.SUCCESS
    assert len(FileStorage(tmp_path / "t").retrieve().spans) == 1
    assert exporter.force_flush(1)
    exporter.shutdown()


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_storage_that_the_environment_names(exporter, tmp_path, monkeypatch):
    """It is files in ``telemetry``, files at RIMP_STORAGE_PATH, or memory."""
    monkeypatch.chdir(tmp_path)
    assert repr(exporter()._export.storage) == "FileStorage('telemetry')"
    monkeypatch.setenv("RIMP_STORAGE_PATH", "x.jsonl")
    assert repr(exporter()._export.storage) == "FileStorage('x.jsonl')"
    monkeypatch.setenv("RIMP_STORAGE_BACKEND", "memory")
    assert type(exporter()._export.storage) is MemoryStorage
    assert repr(exporter(path="y")._export.storage) == "FileStorage('y')"
    assert list(tmp_path.iterdir()) == []


def results(storage):
    """Return the result of each exporter for one record."""
    log_records = TelemetryData.from_otlp_json(
        [b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"x"}}]}]}]}']
    ).log_records
    metrics_data = TelemetryData(metrics=[TelemetryMetric("m", 1)]).metrics_data
    exporters = [exporter(storage) for exporter in EXPORTERS]
    records = [[bare_span()], log_records, metrics_data]
    return exporters, records


@pytest.mark.parametrize("given", ["environment", "argument"])
def test_a_database_that_the_environment_names(given, tmp_path, monkeypatch):
    """It has the environment's path, or the exporter's."""
    monkeypatch.setenv("RIMP_STORAGE_BACKEND", "sqlite")
    monkeypatch.setenv("RIMP_STORAGE_PATH", str(tmp_path / "environment"))
    path = tmp_path / given
    exporter = RimpSpanExporter(path=path) if given == "argument" else RimpSpanExporter()
    assert isinstance(exporter._export.storage, SQLiteStorage)
    processor = SimpleSpanProcessor(exporter)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    provider.get_tracer("t").start_span("one").end()
    assert [span.name for span in SQLiteStorage(path).retrieve().spans] == ["one"]
    provider.shutdown()


def test_failure_is_returned_and_reported(capsys):
    """The SDK gets FAILURE, standard error a warning, and nothing is raised."""
    exporters, records = results(Failing())
    assert [e.export(r) for e, r in zip(exporters, records, strict=True)] == [
        SpanExportResult.FAILURE,
        LogRecordExportResult.FAILURE,
        MetricExportResult.FAILURE,
    ]
    for exporter in exporters:
        exporter.shutdown()
    err = capsys.readouterr().err
    assert err.count("rimp: 1 record could not be stored: full\n") == 3
    assert err.count("rimp: the storage could not be closed: stuck\n") == 3


def test_exports_after_shutdown_are_refused(capsys):
    """Exports are refused, as the specification has it; shutdown may be called twice."""
    storage = MemoryStorage()
    exporters, records = results(storage)
    for exporter, record in zip(exporters, records, strict=True):
        exporter.shutdown(timeout_millis=1)
        exporter.shutdown()
        assert exporter.export(record).name == "FAILURE"
    assert len(storage) == 0
    assert "rimp: an exporter was given records after its shutdown" in capsys.readouterr().err


def test_disabled_by_the_environment(monkeypatch, tmp_path):
    """Exports succeed and make no file."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    exporter = RimpSpanExporter(path=tmp_path / "t")
    assert exporter.export([bare_span()]) is SpanExportResult.SUCCESS
    assert list(tmp_path.iterdir()) == []


def test_span_that_cannot_be_encoded_costs_itself():
    """The rest of its batch is stored."""
    storage = MemoryStorage()
    assert RimpSpanExporter(storage).export([object(), bare_span()]) is SpanExportResult.SUCCESS
    assert len(storage) == 1


@pytest.mark.parametrize(
    ("group", "name", "loaded"),
    [
        ("opentelemetry_traces_exporter", "rimp", "RimpSpanExporter"),
        ("opentelemetry_logs_exporter", "rimp", "RimpLogRecordExporter"),
        ("opentelemetry_metrics_exporter", "rimp", "RimpMetricExporter"),
        ("opentelemetry_configurator", "rimp", "RimpConfigurator"),
    ],
)
def test_entry_points(group, name, loaded):
    """Each names a class that can be made without arguments."""
    found = entry_points(group=group, name=name)
    if not found:
        pytest.skip("the package is not installed here")
    (point,) = {entry.value: entry for entry in found}.values()
    assert point.load().__name__ == loaded
    assert isinstance(point.load(), type)


@pytest.mark.parametrize(
    ("exporter", "nonsense"),
    [(RimpSpanExporter, 5), (RimpLogRecordExporter, None), (RimpMetricExporter, object())],
)
def test_what_is_no_batch_is_a_failure(exporter, nonsense):
    """Nothing is raised into the SDK's processor."""
    assert exporter(MemoryStorage()).export(nonsense).name == "FAILURE"


def test_a_storage_and_a_path_are_refused(tmp_path):
    """Both together are refused, so that neither is silently ignored."""
    with pytest.raises(ConfigurationError, match="expected a storage or a path, got both"):
        RimpSpanExporter(storage=MemoryStorage(), path=tmp_path)
