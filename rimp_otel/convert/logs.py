"""Converts between events and the SDK's log records."""

from __future__ import annotations

from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.sdk._logs import ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.trace import (
    INVALID_SPAN,
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    set_span_in_context,
)

from rimp_otel.convert.resources import (
    attributes_from_sdk,
    attributes_to_sdk,
    resource_from_sdk,
    resource_to_sdk,
    scope_from_sdk,
    scope_to_sdk,
    text_of_body,
    value_to_sdk,
)
from rimp_otel.models.records import EventType, ScopeInfo, TelemetryEvent
from rimp_otel.otlp.decode_common import bounded_attributes
from rimp_otel.otlp.values import plain_value

__all__ = ["event_from_log_record", "log_record_from_event"]

_OUTSIDE_OF_SPANS = set_span_in_context(INVALID_SPAN, Context())


def event_from_log_record(record: ReadableLogRecord | ReadWriteLogRecord) -> TelemetryEvent:
    """Return a log record as an event, sharing nothing with it that can change.

    The message is the body if that is text, and else the body's JSON. The time is 0 if the record
    has none, as in OTLP; ``timestamp`` is then the time at which it was observed.
    """
    log = record.log_record
    severity = _severity_of(log.severity_number)
    scope = scope_from_sdk(record.instrumentation_scope)
    body = plain_value(log.body)
    return TelemetryEvent(
        source=scope.name if scope else "",
        message=text_of_body(body),
        event_type=EventType.from_severity_number(severity),
        metadata=attributes_from_sdk(log.attributes),
        time_unix_nano=log.timestamp or 0,
        observed_time_unix_nano=log.observed_timestamp or 0,
        trace_id=log.trace_id or 0,
        span_id=log.span_id or 0,
        trace_flags=int(log.trace_flags or 0),
        severity_number=severity,
        severity_text=log.severity_text or "",
        event_name=log.event_name or "",
        body=body,
        dropped_attributes_count=record.dropped_attributes,
        scope=scope,
        resource=resource_from_sdk(record.resource),
    )


def log_record_from_event(event: TelemetryEvent) -> ReadableLogRecord:
    """Return an event as a log record, for an OpenTelemetry exporter.

    If the event has no scope, ``source`` names it. A severity number outside OTLP's range becomes
    the nearest one. No attribute is dropped or cut, whatever limits are set.
    """
    log = LogRecord(
        timestamp=event.time_unix_nano or None,
        observed_timestamp=event.observed_time_unix_nano,
        context=_context_of_event(event),
        severity_text=event.severity_text or None,
        severity_number=SeverityNumber(min(max(event.severity_number, 0), 24)),
        body=value_to_sdk(event.body),
        attributes=bounded_attributes(
            attributes_to_sdk(event.metadata), event.dropped_attributes_count
        ),
        event_name=event.event_name or None,
    )
    return ReadableLogRecord(
        log, resource_to_sdk(event.resource), scope_to_sdk(_scope_of_event(event))
    )


def _severity_of(number: Any) -> int:
    return int(getattr(number, "value", number) or 0)


def _scope_of_event(event: TelemetryEvent) -> ScopeInfo | None:
    return event.scope or (ScopeInfo(event.source) if event.source else None)


def _context_of_event(event: TelemetryEvent) -> Context:
    # Never an empty one: for that, the SDK takes the span that is active here and now.
    if not (event.trace_id or event.span_id or event.trace_flags):
        return _OUTSIDE_OF_SPANS
    flags = TraceFlags(event.trace_flags)
    span = NonRecordingSpan(SpanContext(event.trace_id, event.span_id, True, flags))
    return set_span_in_context(span, Context())
