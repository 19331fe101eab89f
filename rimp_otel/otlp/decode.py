"""OTLP JSON lines to records.

Strict OTLP JSON, and protobuf's own JSON mapping (ids in base64, enumerations by name), which
OTLP forbids but recordings contain. What is neither is refused with a ``DecodeError`` that says
why; of a line, either all records are given, or none.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from rimp_otel.models import EventType, TelemetryEvent
from rimp_otel.otlp import wire
from rimp_otel.otlp.origins import resource_info, scope_info
from rimp_otel.otlp.points import metrics_of
from rimp_otel.otlp.recorded import spans_of
from rimp_otel.otlp.scalars import (
    SEVERITIES,
    any_value,
    attributes_of,
    enum_number,
    id_number,
    uint64,
)
from rimp_otel.otlp.signals import Signal

__all__ = ["Decoded", "count_records", "decode_line", "signal_of"]


class Decoded(NamedTuple):
    """The records of one line, in its order."""

    signal: Signal
    #: ReadableSpan, TelemetryEvent, or TelemetryMetric (one for each data point).
    records: list[Any]


@wire.no_recursion_error
def decode_line(text: str | bytes) -> Decoded:
    """The records of one line of OTLP JSON: a TracesData, LogsData or MetricsData.

    Raises:
        DecodeError: it is not OTLP JSON.
    """
    signal, line = wire.parse(text)
    if signal is Signal.TRACES:
        return Decoded(signal, spans_of(line.resource_spans or []))
    if signal is Signal.LOGS:
        return Decoded(signal, _events_of(line.resource_logs or []))
    return Decoded(signal, metrics_of(line.resource_metrics or []))


def signal_of(text: str | bytes) -> Signal:
    """The signal of a line. Looks at its first key only, where that says it.

    Raises:
        DecodeError: it holds no signal, or several.
    """
    head = text[:_HEAD_SIZE]
    found = _FIRST_KEY.match(head if isinstance(head, bytes) else head.encode(errors="replace"))
    return _SIGNALS[found[1]] if found else wire.only_signal(wire.load(_COUNTED_LINE, text))


def count_records(text: str | bytes) -> int:
    """How many records ``decode_line`` gives for a line, without making them.

    Raises:
        DecodeError: it is not JSON, or not of OTLP's shape. What is within records is not checked.
    """
    line = wire.load(_COUNTED_LINE, text)
    wire.only_signal(line)
    groups = line.resource_spans or line.resource_logs or line.resource_metrics or []
    return sum(
        _count_in_scope(scope)
        for group in groups
        for scope in group.scope_spans or group.scope_logs or group.scope_metrics or ()
    )


def _events_of(groups: list[wire.ResourceLogs]) -> list[TelemetryEvent]:
    events = []
    for group in groups:
        resource = resource_info(group.resource, group.schema_url or "")
        for scoped in group.scope_logs or ():
            scope = scope_info(scoped.scope, scoped.schema_url or "")
            origin = {"source": scope.name, "scope": scope, "resource": resource}
            events.extend([_event(record, origin) for record in scoped.log_records or ()])
    return events


def _event(record: wire.LogRecord, origin: dict[str, Any]) -> TelemetryEvent:
    severity = enum_number(record.severity_number, SEVERITIES, "severityNumber")
    body = any_value(record.body, list)
    return TelemetryEvent(
        message=body if isinstance(body, str) else _text_of(body),
        event_type=EventType.from_severity_number(severity),
        metadata=attributes_of(record.attributes, list),
        time_unix_nano=uint64(record.time_unix_nano, "timeUnixNano"),
        observed_time_unix_nano=uint64(record.observed_time_unix_nano, "observedTimeUnixNano"),
        trace_id=id_number(record.trace_id, 16, "traceId"),
        span_id=id_number(record.span_id, 8, "spanId"),
        trace_flags=record.flags or 0,
        severity_number=severity,
        severity_text=record.severity_text or "",
        event_name=record.event_name or "",
        body=body,
        dropped_attributes_count=record.dropped_attributes_count or 0,
        **origin,
    )


def _text_of(body: Any) -> str:
    return "" if body is None else msgspec.json.encode(body).decode()


class _CountedPoints(Struct, rename="camel"):
    data_points: list[Raw] | None = None


class _CountedMetric(Struct, rename="camel"):
    gauge: _CountedPoints | None = None
    sum: _CountedPoints | None = None
    histogram: _CountedPoints | None = None
    exponential_histogram: _CountedPoints | None = None
    summary: _CountedPoints | None = None


class _CountedScope(Struct, rename="camel"):
    spans: list[Raw] | None = None
    log_records: list[Raw] | None = None
    metrics: list[_CountedMetric] | None = None


class _CountedGroup(Struct, rename="camel"):
    scope_spans: list[_CountedScope] | None = None
    scope_logs: list[_CountedScope] | None = None
    scope_metrics: list[_CountedScope] | None = None


class _CountedLine(Struct, rename="camel"):
    resource_spans: list[_CountedGroup] | UnsetType | None = UNSET
    resource_logs: list[_CountedGroup] | UnsetType | None = UNSET
    resource_metrics: list[_CountedGroup] | UnsetType | None = UNSET


_COUNTED_LINE = msgspec.json.Decoder(_CountedLine)
_SIGNALS = {signal.resource_key.encode(): signal for signal in Signal}
_FIRST_KEY = re.compile(rb'\s*\{\s*"(' + b"|".join(_SIGNALS) + rb')"\s*:')
_HEAD_SIZE = 128


def _count_in_scope(scope: _CountedScope) -> int:
    if scope.metrics is None:
        return len(scope.spans or scope.log_records or ())
    return sum(_count_points(metric) for metric in scope.metrics)


def _count_points(metric: _CountedMetric) -> int:
    data = (
        metric.gauge
        or metric.sum
        or metric.histogram
        or metric.exponential_histogram
        or metric.summary
    )
    return len(data.data_points or ()) if data else 0
