"""The counts of records, and the SDK's self-observability metrics of our components."""

from __future__ import annotations

import gc

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from rimp_otel import (
    MemoryStorage,
    RimpSpanExporter,
    TelemetryCollector,
    TelemetryConfig,
    TelemetryData,
    TelemetryEvent,
    TelemetryMetric,
)
from rimp_otel.collector import stats
from rimp_otel.collector.collector import observe_collector
from rimp_otel.collector.stats import CollectorStats, RecordCounts, is_self_observability_enabled
from rimp_otel.models.records import Signal
from rimp_otel.otel.exporters import RimpMetricExporter
from tests.contract.samples import bare_span
from tests.processes import run

SWITCH = "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED"


def test_nothing_yet():
    """All counts begin at 0."""
    assert RecordCounts().stats() == CollectorStats(0, 0, 0, {}, 0)


def test_each_record_is_somewhere():
    """Each record that was collected is stored, pending or dropped."""
    counts = RecordCounts()
    for _ in range(5):
        counts.collected.add_one()
    counts.store(TelemetryData(events=[TelemetryEvent("a", "b")] * 2))
    counts.drop("buffer_full", Signal.LOGS)
    counts.drop("encoding", Signal.TRACES, 0)
    assert counts.stats() == CollectorStats(5, 2, 2, {"buffer_full": 1}, 0)
    assert counts.of_signal(Signal.LOGS) == (2, {"buffer_full": 1})
    assert counts.of_signal(Signal.TRACES) == (0, {})


def test_points_and_what_cannot_be_encoded_of_them():
    """Data points count as collected; those that cannot be encoded as dropped, too."""
    counts = RecordCounts()
    counts.collect_points(2, unencoded=1)
    counts.store(TelemetryData(metrics=[TelemetryMetric("m", 1), TelemetryMetric("m", 2)]))
    assert counts.stats() == CollectorStats(3, 2, 0, {"encoding": 1}, 0)


def test_recovered_and_damaged():
    """Records of an earlier process count as collected when they are found."""
    counts = RecordCounts()
    counts.recover(Signal.LOGS, 3, damaged=1)
    assert counts.stats() == CollectorStats(4, 0, 3, {"damaged": 1}, 0, recovered=4)


def test_a_batch_that_is_given_up():
    """Its records count as dropped, by signal and reason."""
    counts = RecordCounts()
    counts.drop_batch("storage_error", TelemetryData(metrics=[TelemetryMetric("m", 1)]))
    assert counts.of_signal(Signal.METRICS) == (0, {"storage_error": 1})


@pytest.fixture
def reader():
    """Return a reader of what a meter provider of the test's own measures."""
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    reader.provider = provider
    yield reader
    provider.shutdown()


def measured(reader):
    """Return the points by name: values with their attributes, without the component's name."""
    found = {}
    data = reader.get_metrics_data()
    for resource in data.resource_metrics if data else []:
        for scope in resource.scope_metrics:
            if scope.scope.name != "rimp_otel":
                continue
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    attributes = dict(point.attributes)
                    assert attributes.pop("otel.component.name").startswith(
                        attributes["otel.component.type"] + "/"
                    )
                    value = getattr(point, "value", None)
                    entry = (attributes, point.count if value is None else value)
                    found.setdefault(metric.name, []).append(entry)
    return found


def test_processor(reader, monkeypatch):
    """Processed and dropped records and the queue are measured by signal."""
    monkeypatch.setenv(SWITCH, "true")
    collector = TelemetryCollector(TelemetryConfig(buffer_size=2))
    observe_collector(collector, reader.provider)
    tracing = TracerProvider(shutdown_on_exit=False)
    tracing.add_span_processor(collector)
    for _ in range(3):
        tracing.get_tracer("t").start_span("s").end()
    spans = {"otel.component.type": "TelemetryCollector"}
    found = measured(reader)
    assert found["otel.sdk.processor.span.queue.size"] == [(spans, 2)]
    assert found["otel.sdk.processor.span.queue.capacity"] == [(spans, 2)]
    assert found["rimp.collector.in_memory"] == [(spans, 2)]
    assert found["otel.sdk.processor.span.processed"] == [
        (spans, 0),
        ({**spans, "error.type": "queue_full"}, 1),
    ]
    collector.flush()
    collector.collect_event("a", "b")
    collector.flush()
    found = measured(reader)
    logs = {"otel.component.type": "TelemetryCollector"}
    assert found["otel.sdk.processor.span.processed"][0] == (spans, 2)
    assert found["otel.sdk.processor.log.processed"] == [(logs, 1)]


def test_processor_that_is_gone(reader, monkeypatch):
    """Observing a collector does not keep it alive."""
    monkeypatch.setenv(SWITCH, "true")
    collector = TelemetryCollector(meter_provider=reader.provider)
    assert measured(reader)
    del collector
    gc.collect()
    assert measured(reader) == {}


def test_exporter(reader, monkeypatch):
    """Exported, failed and in-flight records are measured, and how long an export takes."""
    monkeypatch.setenv(SWITCH, "true")

    class Failing(MemoryStorage):
        def store(self, data):
            raise OSError("full")

    exporter = RimpSpanExporter(MemoryStorage(), meter_provider=reader.provider)
    exporter.export([bare_span(), bare_span()])
    RimpSpanExporter(Failing(), meter_provider=reader.provider).export([bare_span()])
    spans = {"otel.component.type": "RimpSpanExporter"}
    found = measured(reader)
    assert found["otel.sdk.exporter.span.exported"] == [
        (spans, 2),
        ({**spans, "error.type": "OSError"}, 1),
    ]
    assert found["otel.sdk.exporter.span.inflight"] == [(spans, 0), (spans, 0)]
    assert [count for _, count in found["otel.sdk.exporter.operation.duration"]] == [1, 1]


def test_metric_exporter(reader, monkeypatch):
    """Its unit is data points."""
    monkeypatch.setenv(SWITCH, "true")
    from rimp_otel import TelemetryData

    exporter = RimpMetricExporter(MemoryStorage(), meter_provider=reader.provider)
    exporter.export(TelemetryData(metrics=[TelemetryMetric("m", i) for i in range(3)]).metrics_data)
    found = measured(reader)
    assert found["otel.sdk.exporter.metric_data_point.exported"] == [
        ({"otel.component.type": "RimpMetricExporter"}, 3)
    ]


@pytest.mark.parametrize("value", [None, "", "false", "1"])
def test_off_unless_switched_on(reader, monkeypatch, value):
    """Nothing is measured, and no instrument is made."""
    if value is not None:
        monkeypatch.setenv(SWITCH, value)
    collector = TelemetryCollector()
    observe_collector(collector, reader.provider)
    exporter = RimpSpanExporter(MemoryStorage(), meter_provider=reader.provider)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    provider.get_tracer("t").start_span("s").end()
    assert measured(reader) == {}
    assert not is_self_observability_enabled()


def test_installed_recorder_measures_itself(tmp_path):
    """Its metrics are in the recording, like all others."""
    script = """
    import sys, rimp_otel
    from opentelemetry import trace
    with rimp_otel.install() as telemetry:
        trace.get_tracer("t").start_span("s").end()
    print(sorted({m.name for m in telemetry.storage.retrieve().metrics
                  if m.scope.name == "rimp_otel"}))
    """
    path = str(tmp_path / "t")
    assert run(script, RIMP_STORAGE_PATH=path, **{SWITCH: "true"}) == (
        # No capacity: a journal is bounded in bytes, not in records.
        "['otel.sdk.processor.log.processed', 'otel.sdk.processor.log.queue.size', "
        "'otel.sdk.processor.span.processed', 'otel.sdk.processor.span.queue.size', "
        "'rimp.collector.in_memory']\n"
    )
    assert run(script, RIMP_STORAGE_PATH=path + "2") == "[]\n"


def test_signals_have_nouns():
    """They stand in names such as ``otel.sdk.exporter.span.exported``."""
    assert {stats._NOUNS[signal] for signal in Signal} == {
        "span",
        "log",
        "metric_data_point",
    }
