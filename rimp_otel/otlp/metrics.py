"""Metrics to OTLP JSON: the SDK's MetricsData, and our own points."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from opentelemetry.sdk.metrics.export import (
    ExponentialHistogram,
    Gauge,
    Histogram,
    MetricsData,
    Sum,
)

from rimp_otel.models import (
    Buckets,
    ExponentialHistogramPoint,
    HistogramPoint,
    MetricKind,
    SummaryPoint,
    TelemetryMetric,
)
from rimp_otel.otlp.fragment import Fragment, Wrapping, resource_wrapping, scope_wrapping
from rimp_otel.otlp.numbers import fixed64, sint32, span_id_json, trace_id_json, uint32
from rimp_otel.otlp.values import attributes_json, double_json, text_json

__all__ = ["metric_fragment", "metrics_data_fragments", "native_metric_json", "native_wrapping"]

_INT64 = range(-(2**63), 2**63)
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
                for point in metric.data.data_points:
                    yield _sdk_fragment(resource, scope, metric, point)


def metric_fragment(metric: TelemetryMetric) -> Fragment:
    """A TelemetryMetric as a fragment."""
    text = _point_json(
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
    text = f'{{"timeUnixNano":"{time_unix_nano}",{_number(value)}'
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


def _sdk_fragment(resource: Wrapping, scope: Wrapping, metric: Any, point: Any) -> Fragment | None:
    try:
        time = fixed64(point.time_unix_nano)
        return Fragment(
            time, resource, scope, _sdk_wrapping(metric), _sdk_point_json(metric, point)
        )
    except Exception:  # one bad point costs one point
        return None


def _sdk_wrapping(metric: Any) -> Wrapping:
    data = metric.data
    return _wrapping(
        metric.name,
        metric.unit,
        metric.description,
        _SDK_KINDS[type(data)],
        int(getattr(data, "aggregation_temporality", 0)),
        getattr(data, "is_monotonic", False),
        "",
    )


def _sdk_point_json(metric: Any, point: Any) -> str:
    return _point_json(
        point.attributes,
        point.start_time_unix_nano,
        point.time_unix_nano,
        _SDK_VALUES[_SDK_KINDS[type(metric.data)]](point),
        point.exemplars,
        getattr(point, "flags", 0),
    )


def _point_json(
    attributes: Any, start: Any, time: Any, value: str, exemplars: Sequence[Any], flags: Any
) -> str:
    text = f'{{"timeUnixNano":"{fixed64(time)}"'
    if start:
        text += f',"startTimeUnixNano":"{fixed64(start)}"'
    if value:
        text += f",{value}"
    if encoded := attributes_json(attributes):
        text += f',"attributes":[{encoded}]'
    if exemplars:
        text += f',"exemplars":[{",".join([_exemplar(exemplar) for exemplar in exemplars])}]'
    return f'{text},"flags":{uint32(flags)}}}' if flags else text + "}"


def _number(value: Any) -> str:
    if isinstance(value, int) and int(value) in _INT64:
        return f'"asInt":"{int(value)}"'
    return f'"asDouble":{_double(value)}'


def _double(value: Any) -> str:
    try:
        return double_json(float(value))
    except OverflowError:
        return '"-Infinity"' if value < 0 else '"Infinity"'


def _exemplar(exemplar: Any) -> str:
    text = f'{{"timeUnixNano":"{fixed64(exemplar.time_unix_nano)}",{_number(exemplar.value)}'
    # Outside of a span, ours are 0 and the SDK's None.
    if exemplar.trace_id:
        text += f',"traceId":"{trace_id_json(exemplar.trace_id)}"'
    if exemplar.span_id:
        text += f',"spanId":"{span_id_json(exemplar.span_id)}"'
    attributes = attributes_json(exemplar.filtered_attributes)
    return f'{text},"filteredAttributes":[{attributes}]}}' if attributes else text + "}"


def _histogram(point: Any) -> str:
    counts = ",".join([f'"{fixed64(count)}"' for count in point.bucket_counts])
    bounds = ",".join([_double(bound) for bound in point.explicit_bounds])
    text = f'"count":"{fixed64(point.count)}"{_sum_min_max(point)}'
    if counts:
        text += f',"bucketCounts":[{counts}]'
    return f'{text},"explicitBounds":[{bounds}]' if bounds else text


def _exponential_histogram(point: Any) -> str:
    text = (
        f'"count":"{fixed64(point.count)}"{_sum_min_max(point)}'
        f',"scale":{sint32(point.scale)},"zeroCount":"{fixed64(point.zero_count)}"'
    )
    if threshold := getattr(point, "zero_threshold", 0.0):
        text += f',"zeroThreshold":{_double(threshold)}'
    text += _buckets("positive", point.positive)
    return text + _buckets("negative", point.negative)


def _sum_min_max(point: Any) -> str:
    text = ""
    for name in ("sum", "min", "max"):
        value = getattr(point, name)
        if value is not None:
            text += f',"{name}":{_double(value)}'
    return text


def _buckets(name: str, buckets: Any) -> str:
    # Where there are none, ours is None and the SDK's is empty.
    if buckets is None or not (buckets.bucket_counts or isinstance(buckets, Buckets)):
        return ""
    counts = ",".join([f'"{fixed64(count)}"' for count in buckets.bucket_counts])
    return f',"{name}":{{"offset":{sint32(buckets.offset)},"bucketCounts":[{counts}]}}'


def _summary(point: SummaryPoint) -> str:
    pairs = _quantiles(point.quantiles)
    text = f'"count":"{fixed64(point.count)}","sum":{_double(point.sum)}'
    return f'{text},"quantileValues":[{pairs}]' if pairs else text


def _quantiles(quantiles: Iterable[tuple[float, float]]) -> str:
    return ",".join(
        f'{{"quantile":{_double(quantile)},"value":{_double(value)}}}'
        for quantile, value in quantiles
    )


def _own_value(metric: TelemetryMetric) -> str:
    point = metric.point
    if isinstance(point, HistogramPoint):
        return _histogram(point)
    if isinstance(point, ExponentialHistogramPoint):
        return _exponential_histogram(point)
    if isinstance(point, SummaryPoint):
        return _summary(point)
    # OTLP's "no recorded value" has no number at all.
    return "" if metric.flags & 1 and metric.value != metric.value else _number(metric.value)


_SDK_KINDS: dict[type, MetricKind] = {
    Gauge: MetricKind.GAUGE,
    Sum: MetricKind.SUM,
    Histogram: MetricKind.HISTOGRAM,
    ExponentialHistogram: MetricKind.EXPONENTIAL_HISTOGRAM,
}

_SDK_VALUES = {
    MetricKind.GAUGE: lambda point: _number(point.value),
    MetricKind.SUM: lambda point: _number(point.value),
    MetricKind.HISTOGRAM: _histogram,
    MetricKind.EXPONENTIAL_HISTOGRAM: _exponential_histogram,
}
