"""Decodes OTLP JSON lines; spans and metrics by modules of their own, log records here.

Lines may be strict OTLP JSON or protobuf's own JSON mapping (ids in base64, enumerations by name),
which OTLP forbids but recordings contain. Anything else raises a ``DecodeError`` that says why: a
line yields all of its records, or none.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from rimp_otel.models.records import EventType, Signal, TelemetryEvent
from rimp_otel.otlp import messages
from rimp_otel.otlp.decode_common import (
    SEVERITIES,
    any_value,
    attributes_of,
    check_uint64,
    enum_number,
    id_number,
    resource_info_of,
    scope_info_of,
)
from rimp_otel.otlp.decode_metrics import decode_metrics
from rimp_otel.otlp.decode_spans import decode_spans

__all__ = ["Decoded", "decode_events", "decode_line"]


class Decoded(NamedTuple):
    """The signal and the records of one line."""

    signal: Signal
    #: In the line's order: ReadableSpan, TelemetryEvent, or one TelemetryMetric per data point.
    records: list[Any]


@messages.no_recursion_error
def decode_line(text: str | bytes) -> Decoded:
    """Decode one line of OTLP JSON: a TracesData, LogsData or MetricsData.

    Raises:
        DecodeError: the line is not OTLP JSON.
    """
    signal, line = messages.decode_messages(text)
    if signal is Signal.TRACES:
        return Decoded(signal, decode_spans(line.resource_spans or []))
    if signal is Signal.LOGS:
        return Decoded(signal, decode_events(line.resource_logs or []))
    return Decoded(signal, decode_metrics(line.resource_metrics or []))


def decode_events(groups: list[messages.ResourceLogs]) -> list[TelemetryEvent]:
    """Return the log records of a line, in its order."""
    events = []
    for group in groups:
        resource = resource_info_of(group.resource, group.schema_url or "")
        for scoped in group.scope_logs or ():
            scope = scope_info_of(scoped.scope, scoped.schema_url or "")
            common = {"source": scope.name, "scope": scope, "resource": resource}
            events.extend([_decode_event(record, common) for record in scoped.log_records or ()])
    return events


def _decode_event(record: messages.LogRecord, common: dict[str, Any]) -> TelemetryEvent:
    severity = enum_number(record.severity_number, SEVERITIES, "severityNumber")
    body = any_value(record.body, list)
    return TelemetryEvent(
        message=body if isinstance(body, str) else _body_as_json(body),
        event_type=EventType.from_severity_number(severity),
        metadata=attributes_of(record.attributes, list),
        time_unix_nano=check_uint64(record.time_unix_nano, "timeUnixNano"),
        observed_time_unix_nano=check_uint64(
            record.observed_time_unix_nano, "observedTimeUnixNano"
        ),
        trace_id=id_number(record.trace_id, 16, "traceId"),
        span_id=id_number(record.span_id, 8, "spanId"),
        trace_flags=record.flags or 0,
        severity_number=severity,
        severity_text=record.severity_text or "",
        event_name=record.event_name or "",
        body=body,
        dropped_attributes_count=record.dropped_attributes_count or 0,
        **common,
    )


def _body_as_json(body: Any) -> str:
    return "" if body is None else msgspec.json.encode(body).decode()
