"""The data points of the SDK's metrics to OTLP JSON.

As with spans: a quick way for points as the SDK makes them, and the careful one for the others.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import pack
from typing import Any

from opentelemetry.sdk.metrics.export import ExponentialHistogram, Gauge, Histogram, Sum

from rimp_otel.kinds import MetricKind
from rimp_otel.otlp.pointfields import (
    exponential_histogram_fields,
    histogram_fields,
    number_field,
    point_json,
)
from rimp_otel.otlp.values import attributes_json, double_json

__all__ = ["SDK_KINDS", "point_writer"]

SDK_KINDS: dict[type, MetricKind] = {
    Gauge: MetricKind.GAUGE,
    Sum: MetricKind.SUM,
    Histogram: MetricKind.HISTOGRAM,
    ExponentialHistogram: MetricKind.EXPONENTIAL_HISTOGRAM,
}

_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1
_MOST = 2**64 - 1
_NUMBERS = {int, float}
_MOST_BOUNDS = 256

Writer = Callable[[Any], str]
"""Makes the object of a data point. Raises what makes it impossible."""


def point_writer(data: Any) -> Writer:
    """What writes the points of one of the SDK's metrics.

    Args:
        data: the metric's Sum, Gauge, Histogram or ExponentialHistogram.

    Raises:
        KeyError: it is none of these.
    """
    quick, values = _WRITERS[type(data)]

    def write(point: Any) -> str:
        return quick(point) or _careful_text(point, values)

    return write


def _careful_text(point: Any, values: Callable[[Any], str]) -> str:
    return point_json(
        point.attributes,
        point.start_time_unix_nano,
        point.time_unix_nano,
        values(point),
        point.exemplars,
        getattr(point, "flags", 0),
    )


def _quick_number(point: Any) -> str | None:
    """None for a point that is odd in any way."""
    try:
        value = point.value
        kind = type(value)
        if kind is int and _INT_MIN <= value <= _INT_MAX:
            return _quick_point(point, f'"asInt":"{value}"')
        if kind is float and value - value == 0.0:
            return _quick_point(point, f'"asDouble":{value!r}')
    except Exception:  # whatever an odd value raises: the careful way repairs it
        pass
    return None


def _quick_histogram(point: Any) -> str | None:
    try:
        count, counts = point.count, list(point.bucket_counts)
        if type(count) is not int:
            return None
        # Python writes them all at once: looking at each costs as much as all else. What is no
        # integer, or a negative one, is not of digits alone.
        listed = str(counts)[1:-1]
        if not listed.replace(", ", "").isdigit() or not sum(counts) == count <= _MOST:
            return None
        total, least, most = point.sum, point.min, point.max
        if not {type(total), type(least), type(most)} <= _NUMBERS:
            return None
        total, least, most = float(total), float(least), float(most)
        if (total - total) + (least - least) + (most - most) != 0.0:
            return None  # an infinity, or NaN
        quoted = listed.replace(", ", '","')
        return _quick_point(
            point,
            f'"count":"{count}","sum":{total!r},"min":{least!r},"max":{most!r}'
            f',"bucketCounts":["{quoted}"]{_bounds_of(point.explicit_bounds)}',
        )
    except Exception:
        return None


def _quick_exponential_histogram(_: Any) -> None:
    return None


def _quick_point(point: Any, value: str) -> str | None:
    start, time = point.start_time_unix_nano, point.time_unix_nano
    if point.exemplars or type(time) is not int or not 0 <= time <= _MOST:
        return None
    began = ""
    if start:
        if type(start) is not int or not 0 < start <= _MOST:
            return None
        began = f'"startTimeUnixNano":"{start}",'
    encoded = attributes_json(point.attributes)
    after = f',"attributes":[{encoded}]' if encoded else ""
    return f'{{"timeUnixNano":"{time}",{began}{value}{after}}}'


_bounds: dict[bytes, str] = {}


def _bounds_of(bounds: Any) -> str:
    """The field of a histogram's bounds, which all points of an instrument share."""
    key = pack(f"{len(bounds)}d", *bounds)  # not the tuple: 0.0 is equal to -0.0, and 1 to 1.0
    text = _bounds.get(key)
    if text is None:
        written = ",".join([double_json(float(bound)) for bound in bounds])
        text = f',"explicitBounds":[{written}]' if written else ""
        if len(_bounds) >= _MOST_BOUNDS:
            _bounds.clear()
        _bounds[key] = text
    return text


_WRITERS: dict[type, tuple[Callable[[Any], str | None], Callable[[Any], str]]] = {
    Gauge: (_quick_number, lambda point: number_field(point.value)),
    Sum: (_quick_number, lambda point: number_field(point.value)),
    Histogram: (_quick_histogram, histogram_fields),
    ExponentialHistogram: (_quick_exponential_histogram, exponential_histogram_fields),
}
