"""Metrics to OTLP JSON: the SDK's MetricsData, and our own points."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics.export import MetricsData

from rimp_otel.kinds import MetricKind
from rimp_otel.lazy import lazy
from rimp_otel.otlp.fragment import Fragment, Wrapping, resource_wrapping, scope_wrapping
from rimp_otel.otlp.numbers import fixed64
from rimp_otel.otlp.pointfields import (
    exponential_histogram_fields,
    histogram_fields,
    number_field,
    point_json,
    summary_fields,
)
from rimp_otel.otlp.sdkpoints import SDK_KINDS, point_writer
from rimp_otel.otlp.values import attributes_json, text_json

if TYPE_CHECKING:
    from rimp_otel import models
else:
    models = lazy("rimp_otel.models")

__all__ = ["metric_fragment", "metrics_data_fragments", "native_metric_json", "native_wrapping"]

_KEYS = {
    MetricKind.GAUGE: "gauge",
    MetricKind.SUM: "sum",
    MetricKind.HISTOGRAM: "histogram",
    MetricKind.EXPONENTIAL_HISTOGRAM: "exponentialHistogram",
    MetricKind.SUMMARY: "summary",
}


def metrics_data_fragments(data: MetricsData) -> Iterator[Fragment | None]:
    """The SDK's metrics as fragments, one for each data point; None for one that cannot be."""
    for by_resource in data.resource_metrics:
        resource = resource_wrapping(by_resource.resource)
        for by_scope in by_resource.scope_metrics:
            scope = scope_wrapping(by_scope.scope)
            for metric in by_scope.metrics:
                yield from _sdk_fragments(resource, scope, metric)


def _sdk_fragments(resource: Wrapping, scope: Wrapping, metric: Any) -> Iterator[Fragment | None]:
    points = metric.data.data_points
    try:
        text_of, wrapping = point_writer(metric.data), _sdk_wrapping(metric)
    except Exception:  # one bad metric costs its points
        yield from [None] * len(points)
        return
    for point in points:
        try:
            time = fixed64(point.time_unix_nano)
            yield Fragment(time, resource, scope, wrapping, text_of(point))
        except Exception:  # one bad point costs one point
            yield None


def _sdk_wrapping(metric: Any) -> Wrapping:
    data = metric.data
    return _wrapping(
        metric.name,
        metric.unit,
        metric.description,
        SDK_KINDS[type(data)],
        int(getattr(data, "aggregation_temporality", 0)),
        getattr(data, "is_monotonic", False),
        "",
    )


def metric_fragment(metric: models.TelemetryMetric) -> Fragment:
    """A TelemetryMetric as a fragment."""
    text = point_json(
        metric.tags,
        metric.start_time_unix_nano,
        metric.time_unix_nano,
        _own_value(metric),
        () if metric.kind is MetricKind.SUMMARY else metric.exemplars,
        metric.flags,
    )
    wrapping = _wrapping(
        metric.name,
        metric.unit,
        metric.description,
        metric.kind,
        int(metric.temporality),
        metric.is_monotonic,
        attributes_json(metric.metric_metadata),
    )
    resource, scope = resource_wrapping(metric.resource), scope_wrapping(metric.scope)
    return Fragment(fixed64(metric.time_unix_nano), resource, scope, wrapping, text)


def native_wrapping(name: str, unit: str) -> Wrapping:
    """The gauge around the points of a native metric."""
    return _wrapping(name, unit, "", MetricKind.GAUGE, 0, False, "")


def native_metric_json(time_unix_nano: int, value: float, tags: Any) -> str:
    """What ``metric_fragment`` would make of a native metric, without making the metric."""
    attributes = attributes_json(tags) if tags else ""
    time = time_unix_nano if time_unix_nano >= 0 else 0
    text = f'{{"timeUnixNano":"{time}",{number_field(value)}'
    return f'{text},"attributes":[{attributes}]}}' if attributes else text + "}"


def _wrapping(
    name: Any,
    unit: Any,
    description: Any,
    kind: MetricKind,
    temporality: int,
    is_monotonic: bool,
    metadata: str,
) -> Wrapping:
    head = f'{{"name":{text_json(name)}'
    if description:
        head += f',"description":{text_json(description)}'
    if unit:
        head += f',"unit":{text_json(unit)}'
    if metadata:
        head += f',"metadata":[{metadata}]'
    # Of what a kind has no field for, protobuf's parser would refuse the whole line.
    has_temporality = temporality and kind not in (MetricKind.GAUGE, MetricKind.SUMMARY)
    tail = f',"aggregationTemporality":{temporality}' if has_temporality else ""
    if is_monotonic and kind is MetricKind.SUM:
        tail += ',"isMonotonic":true'
    return Wrapping(f'{head},"{_KEYS[kind]}":{{"dataPoints":[', f"]{tail}}}}}")


def _own_value(metric: models.TelemetryMetric) -> str:
    point = metric.point
    if isinstance(point, models.HistogramPoint):
        return histogram_fields(point)
    if isinstance(point, models.ExponentialHistogramPoint):
        return exponential_histogram_fields(point)
    if isinstance(point, models.SummaryPoint):
        return summary_fields(point)
    # OTLP's "no recorded value" has no number at all.
    return "" if metric.flags & 1 and metric.value != metric.value else number_field(metric.value)
