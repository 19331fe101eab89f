"""Builds our own records, with every field, from a source of choices."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from rimp_otel.convert.resources import text_of_body
from rimp_otel.models.records import (
    Buckets,
    EventType,
    Exemplar,
    ExponentialHistogramPoint,
    HistogramPoint,
    MetricKind,
    ResourceInfo,
    ScopeInfo,
    SummaryPoint,
    TelemetryEvent,
    TelemetryMetric,
    Temporality,
)
from rimp_otel.otlp.values import plain_value
from tests.otlp.choices import (
    Source,
    boolean,
    happens,
    number,
    real,
    schema_url,
    some,
    tally,
    time,
    value,
)

__all__ = ["event", "metric"]


def event(source: Source) -> TelemetryEvent:
    """Return an event with any values in all fields."""
    severity = source.choose((0, 1, 5, 8, 9, 12, 13, 16, 17, 24))
    body = plain_value(value(source))
    return TelemetryEvent(
        source=source.text(),
        message=text_of_body(body),
        event_type=EventType.from_severity_number(severity),
        metadata=_plain_attributes(source),
        time_unix_nano=time(source),
        observed_time_unix_nano=time(source),
        trace_id=source.integer(0, 2**128 - 1),
        span_id=source.integer(0, 2**64 - 1),
        trace_flags=source.choose((0, 1, 255, 2**32 - 1)),
        severity_number=severity,
        severity_text=source.text(),
        event_name=source.text(),
        body=body,
        dropped_attributes_count=source.choose((0, 1, 2**32 - 1)),
        scope=_scope_info(source),
        resource=_resource_info(source),
    )


def metric(source: Source) -> TelemetryMetric:
    """Return a metric point of any kind, summaries included."""
    kind = source.choose(tuple(MetricKind))
    total, point = _POINTS[kind](source)
    temporality = Temporality.UNSPECIFIED
    if kind not in (MetricKind.GAUGE, MetricKind.SUMMARY):
        temporality = source.choose(tuple(Temporality))
    return TelemetryMetric(
        name=source.text(),
        value=total,
        unit=source.text(),
        tags=_plain_attributes(source),
        time_unix_nano=time(source),
        start_time_unix_nano=time(source),
        kind=kind,
        temporality=temporality,
        is_monotonic=kind is MetricKind.SUM and boolean(source),
        description=source.text(),
        point=point,
        exemplars=[] if kind is MetricKind.SUMMARY else some(source, _exemplar, 2),
        flags=source.choose((0, 0, 2, 2**32 - 1)) & ~1,
        metric_metadata=_plain_attributes(source),
        scope=_scope_info(source),
        resource=_resource_info(source),
    )


def _plain_attributes(source: Source) -> dict[str, Any]:
    return {source.text(): plain_value(value(source)) for _ in range(source.integer(0, 3))}


def _scope_info(source: Source) -> ScopeInfo | None:
    if happens(source):
        return None
    version, url = source.choose(("", "1.0")), schema_url(source) or ""
    return ScopeInfo(source.text(), version, _plain_attributes(source), url, _dropped(source))


def _resource_info(source: Source) -> ResourceInfo | None:
    if happens(source):
        return None
    return ResourceInfo(_plain_attributes(source), schema_url(source) or "", _dropped(source))


def _dropped(source: Source) -> int:
    return source.choose((0, 0, 1, 2**32 - 1))


def _exemplar(source: Source) -> Exemplar:
    ids = (source.integer(0, 2**128 - 1), source.integer(0, 2**64 - 1))
    return Exemplar(number(source), time(source), *ids, _plain_attributes(source))


def _maybe_real(source: Source) -> float | None:
    return source.real() if happens(source) else None


def _number(source: Source) -> tuple[float | int, None]:
    return number(source), None


def _histogram(source: Source) -> tuple[float, HistogramPoint]:
    total, bounds = _maybe_real(source), tuple(some(source, real))
    counts = tuple(tally(source) for _ in range(len(bounds) + 1)) if bounds else ()
    point = HistogramPoint(
        tally(source), total, counts, bounds, _maybe_real(source), _maybe_real(source)
    )
    return math.nan if total is None else total, point


def _exponential(source: Source) -> tuple[float, ExponentialHistogramPoint]:
    total = _maybe_real(source)
    point = ExponentialHistogramPoint(
        tally(source),
        total,
        source.integer(-(2**31), 2**31 - 1),
        tally(source),
        _unsigned_zero(source),
        _buckets(source),
        _buckets(source),
        _maybe_real(source),
        _maybe_real(source),
    )
    return math.nan if total is None else total, point


def _buckets(source: Source) -> Buckets | None:
    if happens(source, 4):
        return None
    return Buckets(source.integer(-(2**31), 2**31 - 1), tuple(some(source, tally)))


def _summary(source: Source) -> tuple[float, SummaryPoint]:
    total = source.real()
    pairs = [(source.real(), source.real()) for _ in range(source.integer(0, 3))]
    return total, SummaryPoint(tally(source), total, tuple(pairs))


def _unsigned_zero(source: Source) -> float:
    # A zero threshold is left out, and with it its sign.
    return source.real() or 0.0


_POINTS: dict[MetricKind, Callable[[Source], tuple[Any, Any]]] = {
    MetricKind.GAUGE: _number,
    MetricKind.SUM: _number,
    MetricKind.HISTOGRAM: _histogram,
    MetricKind.EXPONENTIAL_HISTOGRAM: _exponential,
    MetricKind.SUMMARY: _summary,
}
