"""Encoding and decoding loses nothing; encoded again, a record is the same message.

In a span sequences become tuples, as in the SDK, in events and metrics lists; None and absent
fields become the type's empty value (0, an empty text, an empty scope). Fields that OTLP does not
have are lost: of a span's parent everything but its id and whether it is remote.
"""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from opentelemetry.sdk.metrics.export import MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Link, SpanContext

from rimp_otel import TelemetryData, models
from tests.otlp import strategies
from tests.otlp.official import binary, data_of, message_of


def exact(value: Any) -> Any:
    """Return the value with its type at every depth, so that 1, 1.0 and True differ and NaN does not."""
    if isinstance(value, Enum) or value is None:
        return value
    if isinstance(value, dict):
        return ["dict", [(key, exact(item)) for key, item in value.items()]]
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, [exact(item) for item in value]]
    if is_dataclass(value):
        return [type(value), [(f.name, exact(getattr(value, f.name))) for f in fields(value)]]
    return (type(value), repr(value))


def decoded(data: TelemetryData, signal: models.Signal) -> TelemetryData:
    """Return the batch that the lines decode to, which must encode to the same message again."""
    lines = data.otlp_json(signal)
    found = TelemetryData.from_otlp_json(lines)
    again = TelemetryData(found.events, found.metrics, found.spans).otlp_json(signal)
    if again:
        assert binary(message_of(signal, again)) == binary(message_of(signal, lines))
    return found


def attributes_in(attributes: Any) -> Any:
    """Return attributes with the number of dropped ones."""
    return exact(dict(attributes or {})), getattr(attributes, "dropped", 0)


def context_in(context: Any) -> Any:
    """Return what OTLP has of a span's own context."""
    return context.trace_id, context.span_id, context.trace_flags, dict(context.trace_state)


def link_in(link: Link) -> Any:
    """Return all fields of a link."""
    return context_in(link.context), link.context.is_remote, attributes_in(link.attributes)


def span_in(span: Any) -> dict[str, Any]:
    """Return all fields of a span that OTLP has."""
    scope = span.instrumentation_scope
    return {
        "name": span.name,
        "context": context_in(span.context),
        "parent": span.parent and (span.parent.span_id, span.parent.is_remote),
        "kind": span.kind,
        "times": (span.start_time or 0, span.end_time or 0),
        "attributes": attributes_in(span._attributes),
        "events": [(e.name, e.timestamp, attributes_in(e.attributes)) for e in span.events],
        "links": [link_in(link) for link in span.links],
        "dropped": (span.dropped_attributes, span.dropped_events, span.dropped_links),
        "status": (span.status.status_code, span.status.description or None),
        "resource": (attributes_in(span.resource.attributes), span.resource.schema_url or ""),
        "scope": scope
        and (
            scope.name,
            scope.version or None,
            scope.schema_url or "",
            exact(dict(scope.attributes)),
        ),
    }


def in_groups(records: list[Any], resource: Any, scope: Any) -> list[Any]:
    """Return the records in the order of a line: by resource, then by scope."""
    groups: dict[Any, dict[Any, list[Any]]] = {}
    for record in records:
        by_scope = groups.setdefault(repr(resource(record)), {})
        by_scope.setdefault(repr(scope(record)), []).append(record)
    return [r for by_scope in groups.values() for found in by_scope.values() for r in found]


@strategies.generated
@given(strategies.spans | strategies.provider_spans)
def test_any_span_comes_back(spans):
    """Any span comes back with everything that OTLP has of it, types included."""
    found = decoded(TelemetryData(spans=spans), models.Signal.TRACES).spans
    expected = [span_in(span) for span in spans]
    for span in expected:
        span["scope"] = span["scope"] or ("", None, "", ["dict", []])
    expected = in_groups(expected, lambda s: s["resource"], lambda s: s["scope"])
    assert [span_in(span) for span in found] == expected


@strategies.generated
@given(strategies.log_records)
def test_any_log_record_is_the_event_that_its_line_is(records):
    """Objects and lines of a batch of log records hold the same events."""
    data = data_of(models.Signal.LOGS, records)
    events = list(data.events)
    for event in events:
        event.scope = event.scope or models.ScopeInfo()
    events = in_groups(events, lambda e: exact(e.resource), lambda e: exact(e.scope))
    assert exact(list(decoded(data, models.Signal.LOGS).events)) == exact(events)


@strategies.generated
@given(strategies.metrics_data)
def test_any_metrics_are_the_points_that_their_lines_are(data: MetricsData):
    """Objects and lines of a batch of the SDK's metrics hold the same points."""
    batch = data_of(models.Signal.METRICS, data)
    found = decoded(batch, models.Signal.METRICS).metrics
    assert [exact(as_written(m)) for m in found] == [exact(as_written(m)) for m in batch.metrics]


def as_written(metric: models.TelemetryMetric) -> models.TelemetryMetric:
    """Return the metric with doubles where OTLP has them, and None for the SDK's bounds of nothing."""
    point = metric.point
    if isinstance(point, (models.HistogramPoint, models.ExponentialHistogramPoint)):
        changes: dict[str, Any] = {
            name: None if value is None else float(value)
            for name in ("sum", "min", "max")
            for value in [getattr(point, name)]
        }
        if (changes["min"], changes["max"]) == (math.inf, -math.inf):
            changes["min"] = changes["max"] = None
        if isinstance(point, models.HistogramPoint):
            changes["explicit_bounds"] = tuple(map(float, point.explicit_bounds))
        else:
            changes["positive"] = _filled(point.positive)
            changes["negative"] = _filled(point.negative)
        metric.point = type(point)(**{**vars(point), **changes})
        metric.value = float(metric.value)
    return metric


def _filled(buckets: models.Buckets | None) -> models.Buckets | None:
    return buckets if buckets and buckets.bucket_counts else None


@strategies.generated
@given(strategies.events)
def test_any_event_comes_back(events):
    """Any event comes back, in the same order within a resource and scope."""
    for event in events:
        found = decoded(TelemetryData(events=[event]), models.Signal.LOGS).events
        event.resource = event.resource or models.ResourceInfo()
        event.scope = event.scope or models.ScopeInfo(event.source)
        event.source = event.scope.name
        assert exact(list(found)) == exact([event])


@strategies.generated
@given(strategies.metrics)
def test_any_metric_comes_back(metrics):
    """Any metric point comes back, of every kind."""
    for metric in metrics:
        found = decoded(TelemetryData(metrics=[metric]), models.Signal.METRICS).metrics
        metric.resource = metric.resource or models.ResourceInfo()
        metric.scope = metric.scope or models.ScopeInfo()
        assert exact(list(found)) == exact([metric])


RESOURCE = models.ResourceInfo({"service.name": "s", "ids": [1, 2]}, "https://schema", 3)
SCOPE = models.ScopeInfo("lib", "1.0", {"a": None}, "https://other", 4)
EXEMPLAR = models.Exemplar(1.5, 5, 6, 7, {"a": b"b"})
COMMON: dict[str, Any] = {
    "unit": "ms",
    "tags": {"k": [1, None, {"x": b"y"}]},
    "time_unix_nano": 20,
    "start_time_unix_nano": 10,
    "description": "what it is",
    "flags": 2,
    "metric_metadata": {"m": 1},
    "scope": SCOPE,
    "resource": RESOURCE,
}
DELTA, CUMULATIVE = models.Temporality.DELTA, models.Temporality.CUMULATIVE
METRICS = [
    models.TelemetryMetric("gauge", 1, exemplars=[EXEMPLAR, models.Exemplar(2)], **COMMON),
    models.TelemetryMetric(
        "sum", 0.5, kind=models.MetricKind.SUM, temporality=DELTA, is_monotonic=True, **COMMON
    ),
    models.TelemetryMetric(
        "sum", 2**63 - 1, kind=models.MetricKind.SUM, temporality=CUMULATIVE, **COMMON
    ),
    models.TelemetryMetric(
        "histogram",
        6.0,
        kind=models.MetricKind.HISTOGRAM,
        temporality=DELTA,
        point=models.HistogramPoint(3, 6.0, (1, 2), (2.5,), 1.0, 3.0),
        exemplars=[EXEMPLAR],
        **COMMON,
    ),
    models.TelemetryMetric(
        "without a sum",
        math.nan,
        kind=models.MetricKind.HISTOGRAM,
        temporality=DELTA,
        point=models.HistogramPoint(2**64 - 1),
        **COMMON,
    ),
    models.TelemetryMetric(
        "exponential",
        6.0,
        kind=models.MetricKind.EXPONENTIAL_HISTOGRAM,
        temporality=CUMULATIVE,
        point=models.ExponentialHistogramPoint(
            3, 6.0, -2, 1, 0.25, models.Buckets(-4, (1, 0, 1)), models.Buckets(3), 1.0, 3.0
        ),
        exemplars=[EXEMPLAR],
        **COMMON,
    ),
    models.TelemetryMetric(
        "summary",
        9.5,
        kind=models.MetricKind.SUMMARY,
        point=models.SummaryPoint(4, 9.5, ((0.0, 1.0), (0.99, 4.5))),
        **COMMON,
    ),
]


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_of_every_kind_comes_back(metric):
    """A metric point of every kind comes back with all fields set."""
    (found,) = decoded(TelemetryData(metrics=[metric]), models.Signal.METRICS).metrics
    assert exact(found) == exact(metric)


def test_metrics_of_all_kinds_come_back_from_one_line():
    """Metric points of all kinds come back from one line in their order."""
    data = TelemetryData(metrics=METRICS)
    assert len(data.otlp_json(models.Signal.METRICS)) == 1
    assert exact(list(decoded(data, models.Signal.METRICS).metrics)) == exact(METRICS)


@pytest.mark.parametrize(
    "kind", [models.MetricKind.GAUGE, models.MetricKind.HISTOGRAM, models.MetricKind.SUMMARY]
)
def test_fields_that_a_kind_lacks_are_left_out(kind):
    """A field that a kind does not have is left out, since protobuf would refuse the line."""
    points = {
        models.MetricKind.HISTOGRAM: models.HistogramPoint(0),
        models.MetricKind.SUMMARY: models.SummaryPoint(0),
    }
    metric = models.TelemetryMetric(
        "m",
        0.0,
        kind=kind,
        point=points.get(kind),
        temporality=DELTA,
        is_monotonic=True,
        exemplars=[EXEMPLAR],
    )
    (found,) = decoded(TelemetryData(metrics=[metric]), models.Signal.METRICS).metrics
    is_histogram = kind is models.MetricKind.HISTOGRAM
    assert (found.temporality, found.is_monotonic) == (models.Temporality(int(is_histogram)), False)
    assert bool(found.exemplars) is (kind is not models.MetricKind.SUMMARY)


def test_a_point_without_a_value_comes_back():
    """A point with OTLP's "no recorded value" comes back with NaN."""
    metric = models.TelemetryMetric("m", math.nan, flags=1, time_unix_nano=1)
    (line,) = TelemetryData(metrics=[metric]).otlp_json(models.Signal.METRICS)
    assert b"asDouble" not in line
    (found,) = decoded(TelemetryData(metrics=[metric]), models.Signal.METRICS).metrics
    assert (found.has_value, found.flags) == (False, 1)


def test_an_event_with_every_field_comes_back():
    """An event comes back with every field, resource and scope."""
    event = models.TelemetryEvent(
        source="lib",
        message='{"a":[1,null]}',
        event_type=models.EventType.ERROR,
        metadata={"k": [1, 2.0, True, None, b"b", {"x": []}]},
        time_unix_nano=1,
        observed_time_unix_nano=2,
        trace_id=3,
        span_id=4,
        trace_flags=1,
        severity_number=22,
        severity_text="FATAL2",
        event_name="crash",
        body={"a": [1, None]},
        dropped_attributes_count=5,
        scope=SCOPE,
        resource=RESOURCE,
    )
    (found,) = decoded(TelemetryData(events=[event]), models.Signal.LOGS).events
    assert exact(found) == exact(event)


def test_a_parent_whose_id_is_zero_is_no_parent():
    """A parent id of zero stands for no parent."""
    span = ReadableSpan("span", SpanContext(1, 2, False), SpanContext(1, 0, True))
    lines = TelemetryData(spans=[span]).otlp_json(models.Signal.TRACES)
    (found,) = TelemetryData.from_otlp_json(lines).spans
    assert found.parent is None
