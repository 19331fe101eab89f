"""The SDK's self-observability metrics of our components."""

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
    TelemetryMetric,
)
from rimp_otel.collector import stats
from rimp_otel.collector.collector import observe_collector
from rimp_otel.collector.stats import is_self_observability_enabled
from rimp_otel.models.records import Signal
from rimp_otel.otel.exporters import RimpMetricExporter
from tests.contract.samples import bare_span
from tests.processes import run

SWITCH = "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED"


@pytest.fixture
def reader():
    """What a meter provider of the test's own has measured."""
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    reader.provider = provider
    yield reader
    provider.shutdown()


def measured(reader):
    """The points by name: their values with their attributes, but for the component's name."""
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
    """Processed and dropped, and the queue, by signal."""
    monkeypatch.setenv(SWITCH, "true")
    collector = TelemetryCollector(TelemetryConfig(buffer_size=2))
    observe_collector(collector, reader.provider)
    tracing = TracerProvider(shutdown_on_exit=False)
    tracing.add_span_processor(collector)
    for _ in range(3):
        tracing.get_tracer("t").start_span("s").end()
    spans = {"otel.component.type": "rimp_span_processor"}
    found = measured(reader)
    assert found["otel.sdk.processor.span.queue.size"] == [(spans, 2)]
    assert found["otel.sdk.processor.span.queue.capacity"] == [(spans, 2)]
    assert found["otel.sdk.processor.span.processed"] == [
        (spans, 0),
        ({**spans, "error.type": "queue_full"}, 1),
    ]
    collector.flush()
    collector.collect_event("a", "b")
    collector.flush()
    found = measured(reader)
    logs = {"otel.component.type": "rimp_log_processor"}
    assert found["otel.sdk.processor.span.processed"][0] == (spans, 2)
    assert found["otel.sdk.processor.log.processed"] == [(logs, 1)]


def test_processor_that_is_gone(reader, monkeypatch):
    """Is not kept alive by being observed."""
    monkeypatch.setenv(SWITCH, "true")
    collector = TelemetryCollector()
    observe_collector(collector, reader.provider)
    assert measured(reader)
    del collector
    gc.collect()
    assert measured(reader) == {}


def test_exporter(reader, monkeypatch):
    """Exported, failed and in flight, and how long it took."""
    monkeypatch.setenv(SWITCH, "true")

    class Failing(MemoryStorage):
        def store(self, data):
            raise OSError("full")

    exporter = RimpSpanExporter(MemoryStorage(), meter_provider=reader.provider)
    exporter.export([bare_span(), bare_span()])
    RimpSpanExporter(Failing(), meter_provider=reader.provider).export([bare_span()])
    spans = {"otel.component.type": "rimp_span_exporter"}
    found = measured(reader)
    assert found["otel.sdk.exporter.span.exported"] == [
        (spans, 2),
        ({**spans, "error.type": "OSError"}, 1),
    ]
    assert found["otel.sdk.exporter.span.inflight"] == [(spans, 0), (spans, 0)]
    assert [count for _, count in found["otel.sdk.exporter.operation.duration"]] == [1, 1]


def test_metric_exporter(reader, monkeypatch):
    """Counts data points."""
    monkeypatch.setenv(SWITCH, "true")
    from rimp_otel import TelemetryData

    exporter = RimpMetricExporter(MemoryStorage(), meter_provider=reader.provider)
    exporter.export(TelemetryData(metrics=[TelemetryMetric("m", i) for i in range(3)]).metrics_data)
    found = measured(reader)
    assert found["otel.sdk.exporter.metric_data_point.exported"] == [
        ({"otel.component.type": "rimp_metric_exporter"}, 3)
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
    """Into the recording, with everything else."""
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
        "'otel.sdk.processor.span.processed', 'otel.sdk.processor.span.queue.size']\n"
    )
    assert run(script, RIMP_STORAGE_PATH=path + "2") == "[]\n"


def test_signals_have_nouns():
    """For names such as ``otel.sdk.exporter.span.exported``."""
    assert {stats._NOUNS[signal] for signal in Signal} == {
        "span",
        "log",
        "metric_data_point",
    }
