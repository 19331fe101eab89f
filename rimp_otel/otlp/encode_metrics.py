"""Encodes metrics as OTLP JSON: our own points, and the SDK's, these by a fast and a careful path."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from struct import pack
from typing import Any

from opentelemetry.sdk.metrics.export import (
    Buckets,
    ExponentialHistogram,
    Gauge,
    Histogram,
    MetricsData,
    Sum,
)

from rimp_otel.models.records import (
    ExponentialHistogramPoint,
    HistogramPoint,
    MetricKind,
    SummaryPoint,
    TelemetryMetric,
)
from rimp_otel.otlp.lines import (
    DATA_KEYS,
    EncodedRecord,
    Envelope,
    resource_envelope,
    scope_envelope,
)
from rimp_otel.otlp.values import (
    INT64_MAX,
    INT64_MIN,
    MAX_FIXED64,
    attributes_json,
    double_json,
    span_id_json,
    text_json,
    to_fixed64,
    to_sint32,
    to_uint32,
    trace_id_json,
)
from rimp_otel.process import BoundedCache

__all__ = [
    "SDK_KINDS",
    "encode_metric",
    "encode_metrics_data",
    "exponential_histogram_fields",
    "histogram_fields",
    "native_metric_envelope",
    "native_metric_json",
    "number_field",
    "point_encoder",
    "point_json",
    "summary_fields",
]


# The fields of data points, ours and the SDK's, whatever is in them.

_INT64 = range(INT64_MIN, INT64_MAX + 1)


def point_json(
    attributes: Any, start: Any, time: Any, value: str, exemplars: Sequence[Any], flags: Any
) -> str:
    """Return the OTLP JSON object of a data point; ``value`` holds the fields of its kind."""
    text = f'{{"timeUnixNano":"{to_fixed64(time)}"'
    if start:
        text += f',"startTimeUnixNano":"{to_fixed64(start)}"'
    if value:
        text += f",{value}"
    if encoded := attributes_json(attributes):
        text += f',"attributes":[{encoded}]'
    if exemplars:
        text += f',"exemplars":[{",".join([_exemplar_json(exemplar) for exemplar in exemplars])}]'
    return f'{text},"flags":{to_uint32(flags)}}}' if flags else text + "}"


def number_field(value: Any) -> str:
    """Return the value of a sum, a gauge or an exemplar as a field."""
    if isinstance(value, int) and int(value) in _INT64:
        return f'"asInt":"{int(value)}"'
    return f'"asDouble":{_double_or_infinity(value)}'


def _double_or_infinity(value: Any) -> str:
    try:
        return double_json(float(value))
    except OverflowError:
        return '"-Infinity"' if value < 0 else '"Infinity"'


def _exemplar_json(exemplar: Any) -> str:
    text = (
        f'{{"timeUnixNano":"{to_fixed64(exemplar.time_unix_nano)}",{number_field(exemplar.value)}'
    )
    # Outside of a span, our ids are 0 and the SDK's None.
    if exemplar.trace_id:
        text += f',"traceId":"{trace_id_json(exemplar.trace_id)}"'
    if exemplar.span_id:
        text += f',"spanId":"{span_id_json(exemplar.span_id)}"'
    attributes = attributes_json(exemplar.filtered_attributes)
    return f'{text},"filteredAttributes":[{attributes}]}}' if attributes else text + "}"


def histogram_fields(point: Any) -> str:
    """Return the fields of a histogram, the SDK's or ours."""
    counts = ",".join([f'"{to_fixed64(count)}"' for count in point.bucket_counts])
    bounds = ",".join([_double_or_infinity(bound) for bound in point.explicit_bounds])
    text = f'"count":"{to_fixed64(point.count)}"{_sum_min_max(point)}'
    if counts:
        text += f',"bucketCounts":[{counts}]'
    return f'{text},"explicitBounds":[{bounds}]' if bounds else text


def exponential_histogram_fields(point: Any) -> str:
    """Return the fields of an exponential histogram, the SDK's or ours."""
    text = (
        f'"count":"{to_fixed64(point.count)}"{_sum_min_max(point)}'
        f',"scale":{to_sint32(point.scale)},"zeroCount":"{to_fixed64(point.zero_count)}"'
    )
    if threshold := getattr(point, "zero_threshold", 0.0):
        text += f',"zeroThreshold":{_double_or_infinity(threshold)}'
    text += _buckets_field("positive", point.positive)
    return text + _buckets_field("negative", point.negative)


def _sum_min_max(point: Any) -> str:
    text = ""
    for name in ("sum", "min", "max"):
        value = getattr(point, name)
        if value is not None:
            text += f',"{name}":{_double_or_infinity(value)}'
    return text


def _buckets_field(name: str, buckets: Any) -> str:
    # Without buckets, ours is None and the SDK's is empty.
    if buckets is None or (isinstance(buckets, Buckets) and not buckets.bucket_counts):
        return ""
    counts = ",".join([f'"{to_fixed64(count)}"' for count in buckets.bucket_counts])
    return f',"{name}":{{"offset":{to_sint32(buckets.offset)},"bucketCounts":[{counts}]}}'


def summary_fields(point: SummaryPoint) -> str:
    """Return the fields of a summary."""
    pairs = _quantiles_json(point.quantiles)
    text = f'"count":"{to_fixed64(point.count)}","sum":{_double_or_infinity(point.sum)}'
    return f'{text},"quantileValues":[{pairs}]' if pairs else text


def _quantiles_json(quantiles: Iterable[tuple[float, float]]) -> str:
    return ",".join(
        f'{{"quantile":{_double_or_infinity(quantile)},"value":{_double_or_infinity(value)}}}'
        for quantile, value in quantiles
    )


# The SDK's data points.

SDK_KINDS: dict[type, MetricKind] = {
    Gauge: MetricKind.GAUGE,
    Sum: MetricKind.SUM,
    Histogram: MetricKind.HISTOGRAM,
    ExponentialHistogram: MetricKind.EXPONENTIAL_HISTOGRAM,
}

_NUMBERS = {int, float}

PointEncoder = Callable[[Any], str]
"""Returns the OTLP JSON object of a data point, or raises whatever makes that impossible."""


def point_encoder(data: Any) -> PointEncoder:
    """Return a function that encodes the points of one of the SDK's metrics.

    Args:
        data: the metric's Sum, Gauge, Histogram or ExponentialHistogram.

    Raises:
        KeyError: ``data`` is of another type.
    """
    fast, values = _POINT_ENCODERS[type(data)]

    def write(point: Any) -> str:
        return fast(point) or _careful_point_json(point, values)

    return write


def _careful_point_json(point: Any, values: Callable[[Any], str]) -> str:
    return point_json(
        point.attributes,
        point.start_time_unix_nano,
        point.time_unix_nano,
        values(point),
        point.exemplars,
        getattr(point, "flags", 0),
    )


def _fast_number_json(point: Any) -> str | None:
    """Return the JSON of a sum's or gauge's point; None for one that is odd in any way."""
    try:
        value = point.value
        kind = type(value)
        if kind is int and INT64_MIN <= value <= INT64_MAX:
            return _fast_point_json(point, f'"asInt":"{value}"')
        if kind is float and value - value == 0.0:
            return _fast_point_json(point, f'"asDouble":{value!r}')
    except Exception:  # whatever an odd value raises: the careful path repairs it
        pass
    return None


def _fast_histogram_json(point: Any) -> str | None:
    try:
        count, counts = point.count, list(point.bucket_counts)
        if type(count) is not int:
            return None
        # Python writes them all at once: looking at each costs as much as all else. Anything but
        # non-negative integers is not written in digits alone.
        listed = str(counts)[1:-1]
        if not listed.replace(", ", "").isdigit() or not sum(counts) == count <= MAX_FIXED64:
            return None
        total, least, most = point.sum, point.min, point.max
        if not {type(total), type(least), type(most)} <= _NUMBERS:
            return None
        total, least, most = float(total), float(least), float(most)
        if (total - total) + (least - least) + (most - most) != 0.0:
            return None  # an infinity, or NaN
        quoted = listed.replace(", ", '","')
        return _fast_point_json(
            point,
            f'"count":"{count}","sum":{total!r},"min":{least!r},"max":{most!r}'
            f',"bucketCounts":["{quoted}"]{_bounds_field(point.explicit_bounds)}',
        )
    except Exception:
        return None


def _no_fast_json(_: Any) -> None:
    return None


def _fast_point_json(point: Any, value: str) -> str | None:
    start, time = point.start_time_unix_nano, point.time_unix_nano
    if point.exemplars or type(time) is not int or not 0 <= time <= MAX_FIXED64:
        return None
    began = ""
    if start:
        if type(start) is not int or not 0 < start <= MAX_FIXED64:
            return None
        began = f'"startTimeUnixNano":"{start}",'
    encoded = attributes_json(point.attributes)
    after = f',"attributes":[{encoded}]' if encoded else ""
    return f'{{"timeUnixNano":"{time}",{began}{value}{after}}}'


_bounds: BoundedCache[bytes, str] = BoundedCache(256)


def _bounds_field(bounds: Any) -> str:
    """Return the field of a histogram's bounds, which all points of an instrument share."""
    key = pack(f"{len(bounds)}d", *bounds)  # not the tuple: 0.0 is equal to -0.0, and 1 to 1.0
    text = _bounds.get(key)
    if text is None:
        written = ",".join([double_json(float(bound)) for bound in bounds])
        text = f',"explicitBounds":[{written}]' if written else ""
        _bounds[key] = text
    return text


_POINT_ENCODERS: dict[type, tuple[Callable[[Any], str | None], Callable[[Any], str]]] = {
    Gauge: (_fast_number_json, lambda point: number_field(point.value)),
    Sum: (_fast_number_json, lambda point: number_field(point.value)),
    Histogram: (_fast_histogram_json, histogram_fields),
    ExponentialHistogram: (_no_fast_json, exponential_histogram_fields),
}


# Whole metrics.


def encode_metrics_data(data: MetricsData) -> Iterator[EncodedRecord | None]:
    """Yield each data point of the SDK's metrics as an encoded record; None if that is impossible."""
    for by_resource in data.resource_metrics:
        resource = resource_envelope(by_resource.resource)
        for by_scope in by_resource.scope_metrics:
            scope = scope_envelope(by_scope.scope)
            for metric in by_scope.metrics:
                yield from _encode_sdk_metric(resource, scope, metric)


def _encode_sdk_metric(
    resource: Envelope, scope: Envelope, metric: Any
) -> Iterator[EncodedRecord | None]:
    points = metric.data.data_points
    try:
        text_of, envelope = point_encoder(metric.data), _sdk_metric_envelope(metric)
    except Exception:  # one bad metric costs its points
        yield from [None] * len(points)
        return
    for point in points:
        try:
            time = to_fixed64(point.time_unix_nano)
            yield EncodedRecord(time, resource, scope, envelope, text_of(point))
        except Exception:  # one bad point costs one point
            yield None


def _sdk_metric_envelope(metric: Any) -> Envelope:
    data = metric.data
    return _metric_envelope(
        metric.name,
        metric.unit,
        metric.description,
        SDK_KINDS[type(data)],
        int(getattr(data, "aggregation_temporality", 0)),
        getattr(data, "is_monotonic", False),
        "",
    )


def encode_metric(metric: TelemetryMetric) -> EncodedRecord:
    """Encode a TelemetryMetric."""
    text = point_json(
        metric.tags,
        metric.start_time_unix_nano,
        metric.time_unix_nano,
        _value_fields(metric),
        () if metric.kind is MetricKind.SUMMARY else metric.exemplars,
        metric.flags,
    )
    envelope = _metric_envelope(
        metric.name,
        metric.unit,
        metric.description,
        metric.kind,
        int(metric.temporality),
        metric.is_monotonic,
        attributes_json(metric.metric_metadata),
    )
    resource, scope = resource_envelope(metric.resource), scope_envelope(metric.scope)
    return EncodedRecord(to_fixed64(metric.time_unix_nano), resource, scope, envelope, text)


def native_metric_envelope(name: str, unit: str) -> Envelope:
    """Return the envelope of a native metric, a gauge."""
    return _metric_envelope(name, unit, "", MetricKind.GAUGE, 0, False, "")


def native_metric_json(time_unix_nano: int, value: float, tags: Any) -> str:
    """Return the OTLP JSON object of a native point, as ``encode_metric`` would, without the metric."""
    attributes = attributes_json(tags) if tags else ""
    time = time_unix_nano if time_unix_nano >= 0 else 0
    text = f'{{"timeUnixNano":"{time}",{number_field(value)}'
    return f'{text},"attributes":[{attributes}]}}' if attributes else text + "}"


def _metric_envelope(
    name: Any,
    unit: Any,
    description: Any,
    kind: MetricKind,
    temporality: int,
    is_monotonic: bool,
    metadata: str,
) -> Envelope:
    head = f'{{"name":{text_json(name)}'
    if description:
        head += f',"description":{text_json(description)}'
    if unit:
        head += f',"unit":{text_json(unit)}'
    if metadata:
        head += f',"metadata":[{metadata}]'
    # A field that a kind does not have would make protobuf's parser refuse the whole line.
    has_temporality = temporality and kind not in (MetricKind.GAUGE, MetricKind.SUMMARY)
    tail = f',"aggregationTemporality":{temporality}' if has_temporality else ""
    if is_monotonic and kind is MetricKind.SUM:
        tail += ',"isMonotonic":true'
    return Envelope(f'{head},"{DATA_KEYS[kind]}":{{"dataPoints":[', f"]{tail}}}}}")


def _value_fields(metric: TelemetryMetric) -> str:
    point = metric.point
    if isinstance(point, HistogramPoint):
        return histogram_fields(point)
    if isinstance(point, ExponentialHistogramPoint):
        return exponential_histogram_fields(point)
    if isinstance(point, SummaryPoint):
        return summary_fields(point)
    # A point with OTLP's flag "no recorded value" has no number at all.
    return "" if metric.flags & 1 and metric.value != metric.value else number_field(metric.value)
