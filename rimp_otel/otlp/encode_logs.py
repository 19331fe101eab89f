"""Encodes log records and native events as OTLP JSON: a fast path, and a careful one for odd ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.trace import SpanContext

from rimp_otel.models.records import EventType, ScopeInfo, TelemetryEvent
from rimp_otel.otlp.lines import EncodedRecord, resource_envelope, scope_envelope
from rimp_otel.otlp.values import (
    MAX_FIXED64,
    attributes_json,
    quote,
    span_id_json,
    text_json,
    to_enum,
    to_fixed64,
    to_uint32,
    trace_id_json,
    value_json,
)
from rimp_otel.process import BoundedCache

__all__ = [
    "captured_log_json",
    "enclose_log_record",
    "encode_event",
    "encode_log_record",
    "event_scope",
    "log_record_json",
    "log_record_time",
    "native_event_json",
]

_SEVERITIES = {kind.value: kind.severity_number for kind in EventType}
_scopes_by_source: BoundedCache[str, ScopeInfo] = BoundedCache(1_024)


def encode_log_record(record: Any) -> EncodedRecord:
    """Encode an SDK ReadableLogRecord or ReadWriteLogRecord."""
    text = log_record_json(record)
    return enclose_log_record(
        log_record_time(record), text, record.resource, record.instrumentation_scope
    )


def enclose_log_record(time_unix_nano: int, text: str, resource: Any, scope: Any) -> EncodedRecord:
    """Put the envelopes of resource and scope around the text of a log record."""
    return EncodedRecord(
        time_unix_nano, resource_envelope(resource), scope_envelope(scope), None, text
    )


def log_record_time(record: Any) -> int:
    """Return the time of an SDK log record, or else when it was observed, in nanoseconds."""
    log = record.log_record
    return to_fixed64(log.timestamp) or to_fixed64(log.observed_timestamp)


def log_record_json(record: Any) -> str:
    """Return the OTLP JSON object of an SDK log record."""
    return _fast_log_json(record.log_record) or _careful_log_json(record)


def _fast_log_json(log: Any) -> str | None:
    """Return the JSON of a record as nearly all are; None for one that is odd in any way."""
    # As in ``encode_spans``: one f-string, and one look for anything odd.
    try:
        time, observed = log.timestamp, log.observed_timestamp
        text, body = log.severity_text, log.body
        attributes, trace_id = log.attributes, log.trace_id
        if type(time) is not int or type(observed) is not int or type(body) is not str:
            return None
        severity = log.severity_number._value_
        if type(severity) is not int or not 0 < severity < 2**31 or attributes.dropped:
            return None
        if not (0 < time <= MAX_FIXED64 and 0 < observed <= MAX_FIXED64):
            return None
        kept, after = attributes._dict, ""
        if kept:
            after = f',"attributes":[{attributes_json(kept)}]'
        if trace_id or log.trace_flags or log.span_id:
            after += _context_fields(trace_id, log.span_id, log.trace_flags)
        if log.event_name:
            after = f'{after},"eventName":{text_json(log.event_name)}'
        named = f'"severityText":{text_json(text)},' if text else ""
        return (
            f'{{"timeUnixNano":"{time}","observedTimeUnixNano":"{observed}"'
            f',"severityNumber":{severity},{named}"body":{{"stringValue":{quote(body)}}}'
            f"{after}}}"
        )
    except Exception:  # whatever an odd value raises: the careful path repairs it
        return None


def captured_log_json(
    time: int,
    observed: int,
    severity: int,
    severity_text: Any,
    body: Any,
    attributes: Mapping[Any, Any],
    context: SpanContext | None,
    event_name: Any = None,
) -> str:
    """Return the OTLP JSON object of a log record that was never the SDK's.

    Args:
        time, observed: nanoseconds since the epoch, above 0.
        severity: OpenTelemetry's number; 0 where it is not known.
        severity_text, body, attributes, event_name: of any type; repaired where OTLP cannot hold them.
        context: of the span that it was logged in.
    """
    after = f',"attributes":[{attributes_json(attributes)}]' if attributes else ""
    if context is not None:
        after += _context_fields(context.trace_id, context.span_id, context.trace_flags)
    if event_name:
        after = f'{after},"eventName":{text_json(event_name)}'
    before = f',"severityNumber":{severity}' if severity else ""
    if severity_text:
        before = f'{before},"severityText":{text_json(severity_text)}'
    value = f'{{"stringValue":{quote(body)}}}' if type(body) is str else value_json(body)
    return (
        f'{{"timeUnixNano":"{time}","observedTimeUnixNano":"{observed}"{before}'
        f',"body":{value}{after}}}'
    )


def _careful_log_json(record: Any) -> str:
    log = record.log_record
    return _log_fields_json(
        to_fixed64(log.timestamp),
        to_fixed64(log.observed_timestamp),
        getattr(log.severity_number, "value", log.severity_number),
        log.severity_text,
        log.body,
        getattr(log.attributes, "_dict", log.attributes),
        record.dropped_attributes,
        log.trace_id,
        log.span_id,
        log.trace_flags,
        log.event_name,
    )


def encode_event(event: TelemetryEvent) -> EncodedRecord:
    """Encode a TelemetryEvent."""
    text = _log_fields_json(
        to_fixed64(event.time_unix_nano),
        to_fixed64(event.observed_time_unix_nano),
        event.severity_number,
        event.severity_text,
        event.body,
        event.metadata,
        event.dropped_attributes_count,
        event.trace_id,
        event.span_id,
        event.trace_flags,
        event.event_name,
    )
    return EncodedRecord(
        to_fixed64(event.time_unix_nano) or to_fixed64(event.observed_time_unix_nano),
        resource_envelope(event.resource),
        scope_envelope(event.scope or event_scope(event.source)),
        None,
        text,
    )


def native_event_json(
    time_unix_nano: int, message: str, event_type: str, metadata: Any, context: Any
) -> str:
    """Return the OTLP JSON object of a native event, as ``encode_event`` would, without the event.

    Args:
        time_unix_nano: when it happened, in nanoseconds since the epoch.
        message: its body.
        event_type: the value of an EventType.
        metadata: its attributes; may be None.
        context: of the span that it happened in; None outside of one.
    """
    after = f',"attributes":[{attributes_json(metadata)}]' if metadata else ""
    if context is not None:
        after += _context_fields(context.trace_id, context.span_id, context.trace_flags)
    # Converted once: a number of 19 digits takes as long as all the rest.
    time = str(time_unix_nano) if time_unix_nano >= 0 else "0"
    return (
        f'{{"timeUnixNano":"{time}","observedTimeUnixNano":"{time}"'
        f',"severityNumber":{_SEVERITIES[event_type]}'
        f',"body":{{"stringValue":{quote(message)}}}{after}}}'
    )


def event_scope(source: str) -> ScopeInfo:
    """Return the scope of a native event; one object for a source, since envelopes know it by identity."""
    scope = _scopes_by_source.get(source)
    return _scopes_by_source.setdefault(source, ScopeInfo(source)) if scope is None else scope


def _log_fields_json(
    time: int,
    observed: int,
    severity_number: Any,
    severity_text: Any,
    body: Any,
    attributes: Any,
    dropped: int,
    trace_id: int,
    span_id: int,
    trace_flags: Any,
    event_name: Any,
) -> str:
    text = "{"
    if time:
        text += f'"timeUnixNano":"{time}",'
    if observed:
        text += f'"observedTimeUnixNano":"{observed}",'
    if severity_number:
        text += f'"severityNumber":{to_enum(severity_number)},'
    if severity_text:
        text += f'"severityText":{text_json(severity_text)},'
    text += f'"body":{value_json(body)}'
    if encoded := attributes_json(attributes):
        text += f',"attributes":[{encoded}]'
    if dropped:
        text += f',"droppedAttributesCount":{to_uint32(dropped)}'
    text += _context_fields(trace_id, span_id, trace_flags)
    return f'{text},"eventName":{text_json(event_name)}}}' if event_name else text + "}"


def _context_fields(trace_id: int, span_id: int, trace_flags: Any) -> str:
    text = ""
    if trace_flags:
        text = f',"flags":{to_uint32(trace_flags)}'
    if trace_id:
        text += f',"traceId":"{trace_id_json(trace_id)}"'
    return f'{text},"spanId":"{span_id_json(span_id)}"' if span_id else text
