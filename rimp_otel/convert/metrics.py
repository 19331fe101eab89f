"""Converts between our metric points and the SDK's metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, NamedTuple

from opentelemetry.sdk.metrics import Exemplar as SdkExemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Buckets as SdkBuckets

from rimp_otel.convert.resources import (
    attributes_from_sdk,
    attributes_to_sdk,
    resource_from_sdk,
    resource_to_sdk,
    scope_from_sdk,
    scope_to_sdk,
)
from rimp_otel.models.records import (
    Buckets,
    Exemplar,
    ExponentialHistogramPoint,
    HistogramPoint,
    MetricKind,
    TelemetryMetric,
    Temporality,
)

__all__ = ["metrics_from_sdk", "metrics_to_sdk"]


# From the SDK.


def metrics_from_sdk(data: MetricsData) -> list[TelemetryMetric]:
    """Return one TelemetryMetric for each data point, in their order.

    The value of a histogram is its sum, or NaN without one. Its min and max are those of the SDK,
    which are infinities the wrong way round if it recorded none; the official encoder does the
    same. An empty half of an exponential histogram, without an offset, is None. Kinds of data that
    the SDK gains later are left out.
    """
    return [
        point
        for by_resource in data.resource_metrics
        for by_scope in by_resource.scope_metrics
        for metric in by_scope.metrics
        for point in _points_from_sdk(metric, by_resource.resource, by_scope.scope)
    ]


def _points_from_sdk(metric: Any, resource: Any, scope: Any) -> Iterator[TelemetryMetric]:
    if type(metric.data) not in _KINDS_FROM_SDK:
        return
    kind, read = _KINDS_FROM_SDK[type(metric.data)]
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
        yield _point_from_sdk(point, read(point), shared)


def _point_from_sdk(point: Any, distribution: Any, shared: dict[str, Any]) -> TelemetryMetric:
    return TelemetryMetric(
        value=_finite_or_nan(point.value if distribution is None else point.sum),
        tags=attributes_from_sdk(point.attributes),
        time_unix_nano=point.time_unix_nano or 0,
        start_time_unix_nano=point.start_time_unix_nano or 0,
        point=distribution,
        exemplars=[_exemplar_from_sdk(exemplar) for exemplar in point.exemplars or ()],
        flags=getattr(point, "flags", None) or 0,
        **shared,
    )


def _finite_or_nan(value: Any) -> float | int:
    if isinstance(value, (int, float)):
        return value
    try:
        return float(value)
    except (OverflowError, TypeError, ValueError):
        return math.nan


def _exemplar_from_sdk(exemplar: Any) -> Exemplar:
    return Exemplar(
        _finite_or_nan(exemplar.value),
        exemplar.time_unix_nano or 0,
        exemplar.trace_id or 0,
        exemplar.span_id or 0,
        attributes_from_sdk(exemplar.filtered_attributes),
    )


def _nothing_from_sdk(_: Any) -> None:
    return None


def _histogram_from_sdk(point: Any) -> HistogramPoint:
    return HistogramPoint(
        point.count,
        point.sum,
        tuple(point.bucket_counts),
        tuple(point.explicit_bounds),
        point.min,
        point.max,
    )


def _exponential_from_sdk(point: Any) -> ExponentialHistogramPoint:
    return ExponentialHistogramPoint(
        count=point.count,
        sum=point.sum,
        scale=point.scale,
        zero_count=point.zero_count,
        positive=_buckets_from_sdk(point.positive),
        negative=_buckets_from_sdk(point.negative),
        min=point.min,
        max=point.max,
    )


def _buckets_from_sdk(buckets: Any) -> Buckets | None:
    if buckets is None or not (buckets.bucket_counts or buckets.offset):
        return None
    return Buckets(buckets.offset, tuple(buckets.bucket_counts))


_KINDS_FROM_SDK: dict[type, tuple[MetricKind, Callable[[Any], Any]]] = {
    Gauge: (MetricKind.GAUGE, _nothing_from_sdk),
    Sum: (MetricKind.SUM, _nothing_from_sdk),
    Histogram: (MetricKind.HISTOGRAM, _histogram_from_sdk),
    ExponentialHistogram: (MetricKind.EXPONENTIAL_HISTOGRAM, _exponential_from_sdk),
}


# To the SDK.


def metrics_to_sdk(metrics: Iterable[TelemetryMetric]) -> MetricsData:
    """Return the points grouped by resource, scope and metric, each in the order of its first point.

    Left out is what the SDK has no field for: summaries; the zero threshold of an exponential
    histogram; ``metric_metadata``; the flags of points other than exponential histograms', so that
    a point without a recorded value shows by its value NaN alone. A missing sum, min or max is
    None, which exporters leave out; missing buckets are empty ones.

    Resources (or scopes) that the SDK takes for equal become the first of them, since
    OpenTelemetry's exporters keep a single one of equal ones.
    """
    owners = _Owners()
    tree: dict[int, dict[int, dict[_Identity, list[TelemetryMetric]]]] = {}
    for metric in metrics:
        if metric.kind is not MetricKind.SUMMARY:
            resource = owners.first_like(resource_to_sdk(metric.resource))
            scope = owners.first_like(scope_to_sdk(metric.scope))
            by_metric = tree.setdefault(resource, {}).setdefault(scope, {})
            by_metric.setdefault(_metric_identity(metric), []).append(metric)
    return MetricsData([_resource_metrics_to_sdk(owners, *group) for group in tree.items()])


class _Identity(NamedTuple):
    """The fields in which all points of one metric agree."""

    name: str
    unit: str
    description: str
    kind: MetricKind
    temporality: Temporality
    is_monotonic: bool


def _metric_identity(metric: TelemetryMetric) -> _Identity:
    return _Identity(
        metric.name,
        metric.unit,
        metric.description,
        metric.kind,
        metric.temporality,
        metric.is_monotonic,
    )


class _Owners:
    """Resources and scopes by id, since hashing a Resource takes longer than converting a point."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Any, Any]] = {}
        self._first: dict[Hashable, Any] = {}

    def first_like(self, owner: Any) -> int:
        """Return the id of the first resource or scope that the SDK takes for equal to this one."""
        entry = self._seen.get(id(owner))
        if entry is None:
            entry = (owner, self._first.setdefault(_comparable(owner), owner))
            self._seen[id(owner)] = entry
        return id(entry[1])

    def get(self, owner_id: int) -> Any:
        return self._seen[owner_id][1]


def _comparable(owner: Any) -> Hashable:
    named = (getattr(owner, "name", None), getattr(owner, "version", None), owner.schema_url)
    return (type(owner), named, _hashable(dict(owner.attributes)))


def _hashable(value: Any) -> Hashable:
    if isinstance(value, dict):
        return frozenset((key, _hashable(item)) for key, item in value.items())
    return tuple(map(_hashable, value)) if isinstance(value, tuple) else value


def _resource_metrics_to_sdk(
    owners: _Owners, owner_id: int, scopes: dict[int, dict[_Identity, list[TelemetryMetric]]]
) -> ResourceMetrics:
    resource = owners.get(owner_id)
    by_scope = [
        _scope_metrics_to_sdk(owners.get(scope_id), found) for scope_id, found in scopes.items()
    ]
    return ResourceMetrics(resource, by_scope, resource.schema_url)


def _scope_metrics_to_sdk(
    scope: Any, metrics: dict[_Identity, list[TelemetryMetric]]
) -> ScopeMetrics:
    return ScopeMetrics(
        scope, [_metric_to_sdk(*group) for group in metrics.items()], scope.schema_url
    )


def _metric_to_sdk(identity: _Identity, points: list[TelemetryMetric]) -> Metric:
    make_point, make_data = _KINDS_TO_SDK[identity.kind]
    temporality = AggregationTemporality(int(identity.temporality))
    data = make_data([make_point(point) for point in points], temporality, identity.is_monotonic)
    return Metric(identity.name, identity.description, identity.unit, data)


def _gauge_to_sdk(metric: TelemetryMetric) -> NumberDataPoint:
    # Without a start time, the SDK's own gauges have None.
    return _number_to_sdk(metric, metric.start_time_unix_nano or None)


def _sum_to_sdk(metric: TelemetryMetric) -> NumberDataPoint:
    return _number_to_sdk(metric, metric.start_time_unix_nano)


def _number_to_sdk(metric: TelemetryMetric, start: Any) -> NumberDataPoint:
    return NumberDataPoint(
        attributes_to_sdk(metric.tags),
        start,
        metric.time_unix_nano,
        metric.value,
        _exemplars_to_sdk(metric),
    )


def _histogram_to_sdk(metric: TelemetryMetric) -> HistogramDataPoint:
    point: Any = metric.point
    return HistogramDataPoint(
        bucket_counts=tuple(point.bucket_counts),
        explicit_bounds=tuple(point.explicit_bounds),
        **_common_histogram_fields(metric),
    )


def _exponential_to_sdk(metric: TelemetryMetric) -> ExponentialHistogramDataPoint:
    point: Any = metric.point
    return ExponentialHistogramDataPoint(
        scale=point.scale,
        zero_count=point.zero_count,
        positive=_buckets_to_sdk(point.positive),
        negative=_buckets_to_sdk(point.negative),
        flags=metric.flags,
        **_common_histogram_fields(metric),
    )


def _common_histogram_fields(metric: TelemetryMetric) -> dict[str, Any]:
    """Return the fields that both kinds of histograms have."""
    point: Any = metric.point
    return {
        "attributes": attributes_to_sdk(metric.tags),
        "start_time_unix_nano": metric.start_time_unix_nano,
        "time_unix_nano": metric.time_unix_nano,
        "count": point.count,
        "sum": point.sum,
        "min": point.min,
        "max": point.max,
        "exemplars": _exemplars_to_sdk(metric),
    }


def _buckets_to_sdk(buckets: Buckets | None) -> SdkBuckets:
    return (
        SdkBuckets(0, ()) if buckets is None else SdkBuckets(buckets.offset, buckets.bucket_counts)
    )


def _exemplars_to_sdk(metric: TelemetryMetric) -> list[SdkExemplar]:
    return [_exemplar_to_sdk(exemplar) for exemplar in metric.exemplars]


def _exemplar_to_sdk(exemplar: Exemplar) -> SdkExemplar:
    return SdkExemplar(
        attributes_to_sdk(exemplar.filtered_attributes),
        exemplar.value,
        exemplar.time_unix_nano,
        exemplar.span_id or None,
        exemplar.trace_id or None,
    )


_MakeData = Callable[[Any, AggregationTemporality, bool], Any]
_KINDS_TO_SDK: dict[MetricKind, tuple[Callable[[TelemetryMetric], Any], _MakeData]] = {
    MetricKind.GAUGE: (_gauge_to_sdk, lambda points, _, __: Gauge(points)),
    MetricKind.SUM: (_sum_to_sdk, Sum),
    MetricKind.HISTOGRAM: (_histogram_to_sdk, lambda points, since, _: Histogram(points, since)),
    MetricKind.EXPONENTIAL_HISTOGRAM: (
        _exponential_to_sdk,
        lambda points, since, _: ExponentialHistogram(points, since),
    ),
}
