"""The fields of a metric's data points as OTLP JSON, whatever is in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics.export import Buckets

from rimp_otel.otlp.numbers import fixed64, sint32, span_id_json, trace_id_json, uint32
from rimp_otel.otlp.values import attributes_json, double_json

if TYPE_CHECKING:
    from rimp_otel.models import SummaryPoint

__all__ = [
    "exponential_histogram_fields",
    "histogram_fields",
    "number_field",
    "point_json",
    "summary_fields",
]

_INT64 = range(-(2**63), 2**63)


def point_json(
    attributes: Any, start: Any, time: Any, value: str, exemplars: Sequence[Any], flags: Any
) -> str:
    """The object of a data point; ``value`` is what its kind has."""
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


def number_field(value: Any) -> str:
    """The value of a sum, a gauge or an exemplar."""
    if isinstance(value, int) and int(value) in _INT64:
        return f'"asInt":"{int(value)}"'
    return f'"asDouble":{_double(value)}'


def _double(value: Any) -> str:
    try:
        return double_json(float(value))
    except OverflowError:
        return '"-Infinity"' if value < 0 else '"Infinity"'


def _exemplar(exemplar: Any) -> str:
    text = f'{{"timeUnixNano":"{fixed64(exemplar.time_unix_nano)}",{number_field(exemplar.value)}'
    # Outside of a span, ours are 0 and the SDK's None.
    if exemplar.trace_id:
        text += f',"traceId":"{trace_id_json(exemplar.trace_id)}"'
    if exemplar.span_id:
        text += f',"spanId":"{span_id_json(exemplar.span_id)}"'
    attributes = attributes_json(exemplar.filtered_attributes)
    return f'{text},"filteredAttributes":[{attributes}]}}' if attributes else text + "}"


def histogram_fields(point: Any) -> str:
    """The value of a histogram, the SDK's or ours."""
    counts = ",".join([f'"{fixed64(count)}"' for count in point.bucket_counts])
    bounds = ",".join([_double(bound) for bound in point.explicit_bounds])
    text = f'"count":"{fixed64(point.count)}"{_sum_min_max(point)}'
    if counts:
        text += f',"bucketCounts":[{counts}]'
    return f'{text},"explicitBounds":[{bounds}]' if bounds else text


def exponential_histogram_fields(point: Any) -> str:
    """The value of an exponential histogram, likewise."""
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
    if buckets is None or (isinstance(buckets, Buckets) and not buckets.bucket_counts):
        return ""
    counts = ",".join([f'"{fixed64(count)}"' for count in buckets.bucket_counts])
    return f',"{name}":{{"offset":{sint32(buckets.offset)},"bucketCounts":[{counts}]}}'


def summary_fields(point: SummaryPoint) -> str:
    """The value of a summary."""
    pairs = _quantiles(point.quantiles)
    text = f'"count":"{fixed64(point.count)}","sum":{_double(point.sum)}'
    return f'{text},"quantileValues":[{pairs}]' if pairs else text


def _quantiles(quantiles: Iterable[tuple[float, float]]) -> str:
    return ",".join(
        f'{{"quantile":{_double(quantile)},"value":{_double(value)}}}'
        for quantile, value in quantiles
    )
