"""Conversions with the SDK's own providers and exporters on either side."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable
from decimal import Decimal

import pytest
from opentelemetry._logs import SeverityNumber
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs import export as log_export
from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    InMemoryMetricReader,
    MetricExportResult,
    MetricsData,
)
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from rimp_otel.convert.logs import event_from_log_record, log_record_from_event
from rimp_otel.convert.metrics import metrics_from_sdk, metrics_to_sdk
from rimp_otel.models.records import (
    EventType,
    ExponentialHistogramPoint,
    HistogramPoint,
    MetricKind,
    ResourceInfo,
    ScopeInfo,
    TelemetryEvent,
    TelemetryMetric,
    Temporality,
)

RESOURCE = Resource({"service.name": "shop"})
# The name before and after SDK 1.39.
InMemoryLogs = (
    getattr(log_export, "InMemoryLogRecordExporter", None)
    or vars(log_export)["InMemoryLogExporter"]
)
ConsoleLogs = (
    getattr(log_export, "ConsoleLogRecordExporter", None) or vars(log_export)["ConsoleLogExporter"]
)


def _observe(_: CallbackOptions) -> Iterable[Observation]:
    yield Observation(7, {"cpu": "0"})


def _record_every_instrument() -> MetricsData:
    reader = InMemoryMetricReader()
    view = View(instrument_name="exponential", aggregation=ExponentialBucketHistogramAggregation())
    provider = MeterProvider(
        [reader],
        resource=RESOURCE,
        views=[view],
        exemplar_filter=AlwaysOnExemplarFilter(),
        shutdown_on_exit=False,
    )
    meter = provider.get_meter("meter", "1.0")
    meter.create_counter("counter", "1", "counts").add(2, {"a": "x"})
    meter.create_up_down_counter("up_down").add(-3)
    meter.create_histogram("histogram", "ms").record(12.5)
    meter.create_gauge("gauge").set(1.5)
    meter.create_histogram("exponential").record(4)
    meter.create_observable_counter("o_counter", [_observe])
    meter.create_observable_up_down_counter("o_up_down", [_observe])
    meter.create_observable_gauge("o_gauge", [_observe])
    data = reader.get_metrics_data()
    provider.shutdown()
    assert data is not None
    return data


def _record_log_records() -> list[TelemetryEvent]:
    exporter = InMemoryLogs()
    provider = LoggerProvider(resource=RESOURCE, shutdown_on_exit=False)
    provider.add_log_record_processor(log_export.SimpleLogRecordProcessor(exporter))
    logger = provider.get_logger("lib", "1.0")
    with TracerProvider(shutdown_on_exit=False).get_tracer("t").start_as_current_span("work"):
        logger.emit(
            timestamp=5,
            severity_number=SeverityNumber.ERROR,
            severity_text="ERROR",
            body="it broke",
            attributes={"list": ["a", "b"], "n": 1},
        )
    logger.emit(body={"structured": [1, 2]}, event_name="checkout")
    return [event_from_log_record(record) for record in exporter.get_finished_logs()]


def test_every_instrument_of_a_meter_provider() -> None:
    """Each instrument becomes one metric point of its kind, and the SDK's data comes back equal."""
    data = _record_every_instrument()
    found = {metric.name: metric for metric in metrics_from_sdk(data)}
    assert {name: (m.kind, m.value, m.is_monotonic) for name, m in found.items()} == {
        "counter": (MetricKind.SUM, 2, True),
        "up_down": (MetricKind.SUM, -3, False),
        "histogram": (MetricKind.HISTOGRAM, 12.5, False),
        "gauge": (MetricKind.GAUGE, 1.5, False),
        "exponential": (MetricKind.EXPONENTIAL_HISTOGRAM, 4, False),
        "o_counter": (MetricKind.SUM, 7, True),
        "o_up_down": (MetricKind.SUM, 7, False),
        "o_gauge": (MetricKind.GAUGE, 7, False),
    }
    # Where there are no attributes, the SDK has None or an empty mapping.
    back = metrics_to_sdk(list(found.values())).to_json()
    assert back.replace("{}", "null") == data.to_json().replace("{}", "null")


def test_the_details_of_real_metrics() -> None:
    """Real metrics keep tags, unit, description, times, temporality, distribution and exemplars."""
    found = {metric.name: metric for metric in metrics_from_sdk(_record_every_instrument())}
    counter, histogram = found["counter"], found["histogram"]
    assert (counter.unit, counter.description, counter.tags) == ("1", "counts", {"a": "x"})
    assert counter.temporality is Temporality.CUMULATIVE
    assert counter.time_unix_nano >= counter.start_time_unix_nano > 0
    assert [exemplar.value for exemplar in counter.exemplars] == [2]
    assert counter.resource == ResourceInfo({"service.name": "shop"})
    assert counter.scope == ScopeInfo("meter", "1.0")
    assert isinstance(histogram.point, HistogramPoint)
    assert (histogram.point.count, histogram.point.min, histogram.point.max) == (1, 12.5, 12.5)
    assert isinstance(found["exponential"].point, ExponentialHistogramPoint)
    assert found["exponential"].point.zero_count == 0
    assert found["o_gauge"].tags == {"cpu": "0"}


def test_the_records_of_a_logger_provider() -> None:
    """A record emitted inside a span knows the span; a structured body has JSON as its message."""
    inside, outside = _record_log_records()
    assert (inside.source, inside.message, inside.time_unix_nano) == ("lib", "it broke", 5)
    assert (inside.event_type, inside.severity_text) == (EventType.ERROR, "ERROR")
    assert inside.metadata == {"list": ["a", "b"], "n": 1}
    assert inside.trace_id > 0
    assert inside.span_id > 0
    assert inside.trace_flags & 1
    assert inside.resource == ResourceInfo({"service.name": "shop"})
    assert inside.scope == ScopeInfo("lib", "1.0")
    assert (outside.message, outside.event_name) == ('{"structured":[1,2]}', "checkout")
    assert (outside.trace_id, outside.span_id, outside.severity_number) == (0, 0, 0)
    assert outside.observed_time_unix_nano > 0


def test_the_console_metric_exporter_takes_what_comes_out() -> None:
    """OpenTelemetry's console exporter prints real and native metrics."""
    out = io.StringIO()
    metrics = [*metrics_from_sdk(_record_every_instrument()), TelemetryMetric("native", 1.5, "s")]
    result = ConsoleMetricExporter(out).export(metrics_to_sdk(metrics))
    assert result is MetricExportResult.SUCCESS
    printed = json.loads(out.getvalue())
    names = [
        metric["name"]
        for by_resource in printed["resource_metrics"]
        for by_scope in by_resource["scope_metrics"]
        for metric in by_scope["metrics"]
    ]
    assert names == [metric.name for metric in metrics]


def test_the_console_log_exporter_takes_what_comes_out() -> None:
    """OpenTelemetry's console exporter prints real log records and native events."""
    out = io.StringIO()
    native = TelemetryEvent("app", "hello", metadata={"raw": b"\x00", "nested": {"a": [1]}})
    exporter = ConsoleLogs(out, formatter=lambda record: record.to_json(indent=None) + "\n")
    exporter.export([log_record_from_event(event) for event in (*_record_log_records(), native)])
    printed = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [record["body"] for record in printed] == ["it broke", {"structured": [1, 2]}, "hello"]
    assert printed[0]["attributes"] == {"list": ["a", "b"], "n": 1}
    assert printed[2]["attributes"] == {"raw": "AA==", "nested": {"a": [1]}}


def test_the_protobuf_exporters_keep_every_metric() -> None:
    """The protobuf exporter keeps metrics of equal resources and scopes."""
    encoder = pytest.importorskip("opentelemetry.exporter.otlp.proto.common.metrics_encoder")
    found = metrics_from_sdk(_record_every_instrument())
    absent = HistogramPoint(2, None, (2,))
    metrics = [
        *found,
        TelemetryMetric("no resource", 1),
        TelemetryMetric("empty resource", 2, scope=ScopeInfo(), resource=ResourceInfo()),
        TelemetryMetric("no sum", math.nan, kind=MetricKind.HISTOGRAM, point=absent),
    ]
    message = encoder.encode_metrics(metrics_to_sdk(metrics))
    encoded = [
        metric
        for by_resource in message.resource_metrics
        for by_scope in by_resource.scope_metrics
        for metric in by_scope.metrics
    ]
    assert [metric.name for metric in encoded] == [metric.name for metric in metrics]
    (point,) = encoded[-1].histogram.data_points
    assert not any(point.HasField(name) for name in ("sum", "min", "max"))


def test_the_protobuf_exporters_take_every_log_record() -> None:
    """The protobuf exporter accepts every log record, although it refuses some values itself."""
    encoder = pytest.importorskip("opentelemetry.exporter.otlp.proto.common._log_encoder")
    odd = TelemetryEvent("app", "odd", metadata={"when": Decimal("1.5"), "none": None, "": "x"})
    events = [*_record_log_records(), odd]
    message = encoder.encode_logs([log_record_from_event(event) for event in events])
    encoded = [
        record
        for by_resource in message.resource_logs
        for by_scope in by_resource.scope_logs
        for record in by_scope.log_records
    ]
    assert [record.severity_number for record in encoded] == [17, 0, 9]
    assert encoded[2].attributes[0].value.string_value == "1.5"
