"""The SDK's metrics to ours."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from opentelemetry.sdk.metrics.export import (
    ExponentialHistogram,
    Gauge,
    Histogram,
    MetricsData,
    Sum,
)

from rimp_otel.convert.origins import resource_from_sdk, scope_from_sdk
from rimp_otel.convert.values import attributes_from_sdk
from rimp_otel.models import (
    Buckets,
    Exemplar,
    ExponentialHistogramPoint,
    HistogramPoint,
    MetricKind,
    TelemetryMetric,
    Temporality,
)

__all__ = ["metrics_from_sdk"]


def metrics_from_sdk(data: MetricsData) -> list[TelemetryMetric]:
    """One record for each data point, in their order.

    A histogram's value is its sum, NaN without one. Its min and max are what the SDK says, also
    where it recorded none and says so by infinities the wrong way round, as the official encoder
    has it. An empty half of an exponential histogram, without an offset, is None. Kinds of data
    that the SDK gains later are left out.
    """
    return [
        point
        for by_resource in data.resource_metrics
        for by_scope in by_resource.scope_metrics
        for metric in by_scope.metrics
        for point in _points(metric, by_resource.resource, by_scope.scope)
    ]


def _points(metric: Any, resource: Any, scope: Any) -> Iterator[TelemetryMetric]:
    if type(metric.data) not in _KINDS:
        return
    kind, read = _KINDS[type(metric.data)]
    shared: dict[str, Any] = {
        "name": metric.name,
        "unit": metric.unit or "",
        "description": metric.description or "",
        "kind": kind,
        "temporality": Temporality(int(getattr(metric.data, "aggregation_temporality", 0))),
        "is_monotonic": getattr(metric.data, "is_monotonic", False),
        "scope": scope_from_sdk(scope),
        "resource": resource_from_sdk(resource),
    }
    for point in metric.data.data_points:
        yield _record(point, read(point), shared)


def _record(point: Any, distribution: Any, shared: dict[str, Any]) -> TelemetryMetric:
    return TelemetryMetric(
        value=_number(point.value if distribution is None else point.sum),
        tags=attributes_from_sdk(point.attributes),
        time_unix_nano=point.time_unix_nano or 0,
        start_time_unix_nano=point.start_time_unix_nano or 0,
        point=distribution,
        exemplars=[_exemplar(exemplar) for exemplar in point.exemplars or ()],
        flags=getattr(point, "flags", None) or 0,
        **shared,
    )


def _number(value: Any) -> float | int:
    if isinstance(value, (int, float)):
        return value
    try:
        return float(value)
    except (OverflowError, TypeError, ValueError):
        return math.nan


def _exemplar(exemplar: Any) -> Exemplar:
    return Exemplar(
        _number(exemplar.value),
        exemplar.time_unix_nano or 0,
        exemplar.trace_id or 0,
        exemplar.span_id or 0,
        attributes_from_sdk(exemplar.filtered_attributes),
    )


def _no_distribution(_: Any) -> None:
    return None


def _histogram(point: Any) -> HistogramPoint:
    return HistogramPoint(
        point.count,
        point.sum,
        tuple(point.bucket_counts),
        tuple(point.explicit_bounds),
        point.min,
        point.max,
    )


def _exponential_histogram(point: Any) -> ExponentialHistogramPoint:
    return ExponentialHistogramPoint(
        count=point.count,
        sum=point.sum,
        scale=point.scale,
        zero_count=point.zero_count,
        positive=_buckets(point.positive),
        negative=_buckets(point.negative),
        min=point.min,
        max=point.max,
    )


def _buckets(buckets: Any) -> Buckets | None:
    if buckets is None or not (buckets.bucket_counts or buckets.offset):
        return None
    return Buckets(buckets.offset, tuple(buckets.bucket_counts))


_KINDS: dict[type, tuple[MetricKind, Callable[[Any], Any]]] = {
    Gauge: (MetricKind.GAUGE, _no_distribution),
    Sum: (MetricKind.SUM, _no_distribution),
    Histogram: (MetricKind.HISTOGRAM, _histogram),
    ExponentialHistogram: (MetricKind.EXPONENTIAL_HISTOGRAM, _exponential_histogram),
}
