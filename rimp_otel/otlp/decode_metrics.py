"""Decodes metrics: one ``TelemetryMetric`` for each data point."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from rimp_otel.models.records import (
    Buckets,
    Exemplar,
    ExponentialHistogramPoint,
    HistogramPoint,
    MetricKind,
    SummaryPoint,
    TelemetryMetric,
    Temporality,
)
from rimp_otel.otlp import messages
from rimp_otel.otlp.decode_common import (
    TEMPORALITIES,
    attributes_of,
    check_boolean,
    check_uint64,
    enum_number,
    id_number,
    resource_info_of,
    scope_info_of,
)

__all__ = ["decode_metrics"]

DecodeValue = Callable[[Any], tuple[Any, Any]]
"""Returns the value and the distribution of a data point."""

_NO_VALUE = math.nan


def decode_metrics(groups: list[messages.ResourceMetrics]) -> list[TelemetryMetric]:
    """Return the data points of a line, in its order."""
    metrics: list[TelemetryMetric] = []
    for group in groups:
        resource = resource_info_of(group.resource, group.schema_url or "")
        for scoped in group.scope_metrics or ():
            scope = scope_info_of(scoped.scope, scoped.schema_url or "")
            for metric in scoped.metrics or ():
                metrics.extend(_decode_points(metric, {"resource": resource, "scope": scope}))
    return metrics


def _decode_points(metric: messages.Metric, owners: dict[str, Any]) -> Iterator[TelemetryMetric]:
    for name, (kind, read) in _KINDS.items():
        data = getattr(metric, name)
        if data is not None:
            common = {**owners, "kind": kind, **_fields_of_metric(metric, data)}
            for point in data.data_points or ():
                yield _decode_point(metric, point, read, common)


def _fields_of_metric(metric: messages.Metric, data: Any) -> dict[str, Any]:
    """Return the fields that all points of a metric share."""
    temporality = getattr(data, "aggregation_temporality", None)
    is_monotonic = getattr(data, "is_monotonic", None)
    return {
        "name": metric.name or "",
        "unit": metric.unit or "",
        "description": metric.description or "",
        "temporality": Temporality(
            enum_number(temporality, TEMPORALITIES, "aggregationTemporality")
        ),
        "is_monotonic": is_monotonic is not None and check_boolean(is_monotonic, "isMonotonic"),
    }


def _decode_point(
    metric: messages.Metric, point: Any, read: DecodeValue, common: dict[str, Any]
) -> TelemetryMetric:
    value, distribution = read(point)
    exemplars = getattr(point, "exemplars", None)  # a summary's point has none
    return TelemetryMetric(
        value=value,
        tags=attributes_of(point.attributes, list),
        time_unix_nano=check_uint64(point.time_unix_nano, "timeUnixNano"),
        start_time_unix_nano=check_uint64(point.start_time_unix_nano, "startTimeUnixNano"),
        point=distribution,
        exemplars=[_decode_exemplar(exemplar) for exemplar in exemplars or ()],
        flags=point.flags or 0,
        metric_metadata=attributes_of(metric.metadata, list),
        **common,
    )


def _number_or_nan(point: messages.NumberDataPoint | messages.OtlpExemplar) -> float | int:
    if point.as_double is not None:
        return point.as_double
    return _NO_VALUE if point.as_int is None else point.as_int


def _decode_exemplar(exemplar: messages.OtlpExemplar) -> Exemplar:
    return Exemplar(
        value=_number_or_nan(exemplar),
        time_unix_nano=check_uint64(exemplar.time_unix_nano, "timeUnixNano"),
        trace_id=id_number(exemplar.trace_id, 16, "traceId"),
        span_id=id_number(exemplar.span_id, 8, "spanId"),
        filtered_attributes=attributes_of(exemplar.filtered_attributes, list),
    )


def _decode_number(point: messages.NumberDataPoint) -> tuple[float | int, None]:
    return _number_or_nan(point), None


def _decode_histogram(point: messages.HistogramDataPoint) -> tuple[float, HistogramPoint]:
    return _sum_or_nan(point.sum), HistogramPoint(
        count=check_uint64(point.count, "count"),
        sum=point.sum,
        bucket_counts=_check_counts(point.bucket_counts),
        explicit_bounds=point.explicit_bounds or (),
        min=point.min,
        max=point.max,
    )


def _decode_exponential_histogram(
    point: messages.ExponentialHistogramDataPoint,
) -> tuple[float, ExponentialHistogramPoint]:
    return _sum_or_nan(point.sum), ExponentialHistogramPoint(
        count=check_uint64(point.count, "count"),
        sum=point.sum,
        scale=point.scale or 0,
        zero_count=check_uint64(point.zero_count, "zeroCount"),
        zero_threshold=point.zero_threshold or 0.0,
        positive=_decode_buckets(point.positive),
        negative=_decode_buckets(point.negative),
        min=point.min,
        max=point.max,
    )


def _decode_summary(point: messages.SummaryDataPoint) -> tuple[float, SummaryPoint]:
    quantiles = tuple(
        [
            (_double_or_zero(item.quantile), _double_or_zero(item.value))
            for item in point.quantile_values or ()
        ]
    )
    total = _double_or_zero(point.sum)
    return _sum_or_nan(point.sum), SummaryPoint(
        check_uint64(point.count, "count"), total, quantiles
    )


def _double_or_zero(value: float | None) -> float:
    # Not "or": a negative zero is as false as a missing number, and is kept.
    return 0.0 if value is None else value


def _sum_or_nan(total: float | None) -> float:
    return _NO_VALUE if total is None else total


def _decode_buckets(buckets: messages.OtlpBuckets | None) -> Buckets | None:
    if buckets is None:
        return None
    return Buckets(buckets.offset or 0, _check_counts(buckets.bucket_counts))


def _check_counts(counts: tuple[int, ...] | None) -> tuple[int, ...]:
    if counts:
        check_uint64(max(counts), "bucketCounts")
    return counts or ()


_KINDS: dict[str, tuple[MetricKind, DecodeValue]] = {
    "gauge": (MetricKind.GAUGE, _decode_number),
    "sum": (MetricKind.SUM, _decode_number),
    "histogram": (MetricKind.HISTOGRAM, _decode_histogram),
    "exponential_histogram": (MetricKind.EXPONENTIAL_HISTOGRAM, _decode_exponential_histogram),
    "summary": (MetricKind.SUMMARY, _decode_summary),
}
