"""OTLP JSON lines to rows: each record's text as it stands, with what filters ask for beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from rimp_otel.errors import DecodeError
from rimp_otel.models.records import Signal
from rimp_otel.otlp import messages
from rimp_otel.otlp.decode_common import (
    SEVERITIES,
    STATUS_CODES,
    any_value,
    attributes_of,
    check_uint64,
    enum_number,
    id_bytes,
)
from rimp_otel.otlp.lines import DATA_KEYS, Envelope
from rimp_otel.otlp.messages import (
    PartialData,
    PartialLine,
    PartialMessage,
    PartialMetric,
    PartialResource,
    PartialScope,
)

__all__ = ["MAX_TIME", "Columns", "Part", "Row", "line_to_rows"]

MAX_TIME = 2**63 - 1
"""The largest integer of SQLite: later times, after the year 2262, count as this one."""

_MAX_TEXT = 999_000_000


class Part(NamedTuple):
    """A resource, scope or metric: what stands around the records that belong to it."""

    #: "resource", "scope" or "metric".
    kind: str
    #: A resource's ``service.name``, a scope's name, a metric's name.
    name: str | None
    envelope: Envelope


class Columns(NamedTuple):
    """The columns of a record besides its text; None for what it lacks."""

    #: Nanoseconds since the epoch: a span's start, a record's or a point's time.
    time: int
    trace_id: bytes | None = None
    span_id: bytes | None = None
    name: str | None = None
    severity: int | None = None
    status: int | None = None
    #: Nanoseconds.
    duration: int | None = None
    message: str | None = None


class Row(NamedTuple):
    """One record."""

    signal: Signal
    columns: Columns
    resource: Part
    scope: Part
    metric: Part | None
    text: str


def line_to_rows(line: bytes) -> Iterator[Row]:
    """Yield a row for each record of an OTLP JSON line, in its order.

    Raises:
        DecodeError: the line is not OTLP JSON, as far as it has to be decoded.
    """
    found = messages.decode_with_scopes(_LINE, line)
    signal = messages.check_one_signal(found)
    for group in found.resources():
        resource = _resource_part(group)
        for scoped in group.scopes():
            scope = _scope_part(scoped)
            for raw in scoped.spans or ():
                yield Row(signal, _span_columns(raw), resource, scope, None, _decode_raw(raw))
            for raw in scoped.log_records or ():
                yield Row(signal, _log_columns(raw), resource, scope, None, _decode_raw(raw))
            for metric in scoped.metrics or ():
                part = _metric_part(metric)
                for raw in _raw_points(metric):
                    yield Row(
                        signal, _point_columns(raw, part), resource, scope, part, _decode_raw(raw)
                    )


def _resource_part(group: _Group) -> Part:
    attributes = attributes_of(messages.decode_resource(group.resource).attributes, list)
    service = attributes.get("service.name")
    head = f'{{"resource":{_decode_raw(group.resource) or "{}"},'
    envelope = Envelope(head, _schema_tail(group.schema_url))
    return Part("resource", service if isinstance(service, str) else None, envelope)


def _scope_part(scoped: _Scope) -> Part:
    name = messages.decode_scope(scoped.scope).name
    head = f'{{"scope":{_decode_raw(scoped.scope) or "{}"},'
    return Part("scope", name, Envelope(head, _schema_tail(scoped.schema_url)))


def _schema_tail(url: Raw) -> str:
    return f',"schemaUrl":{text}}}' if (text := _decode_raw(url)) else "}"


def _metric_part(metric: _Metric) -> Part:
    fields = [
        f'"{key}":{text}'
        for key in ("name", "description", "unit", "metadata")
        if (text := _decode_raw(getattr(metric, key)))
    ]
    kinds = _data_kinds(metric)
    if len(kinds) > 1:
        raise DecodeError("a metric has points of one kind only")
    kind, points = kinds[0] if kinds else (_DATA_KEYS[0], _Points())
    tail = "".join(
        f',"{key}":{text}'
        for key, raw in (
            ("aggregationTemporality", points.aggregation_temporality),
            ("isMonotonic", points.is_monotonic),
        )
        if (text := _decode_raw(raw))
    )
    head = "{" + "".join(f"{field}," for field in fields) + f'"{kind}":{{"dataPoints":['
    name = msgspec.json.decode(metric.name) if bytes(metric.name) else None
    return Part("metric", name, Envelope(head, f"]{tail}}}}}"))


def _raw_points(metric: _Metric) -> list[Raw]:
    return [raw for _, points in _data_kinds(metric) for raw in points.data_points or ()]


def _data_kinds(metric: _Metric) -> list[tuple[str, _Points]]:
    found = zip(_DATA_KEYS, metric.data(), strict=True)
    return [(key, points) for key, points in found if points is not None]


def _span_columns(raw: Raw) -> Columns:
    span = messages.decode_json(_SPAN, bytes(raw))
    start = check_uint64(span.start_time_unix_nano, "startTimeUnixNano")
    end = check_uint64(span.end_time_unix_nano, "endTimeUnixNano")
    status = span.status and enum_number(span.status.code, STATUS_CODES, "code")
    return Columns(
        min(start, MAX_TIME),
        _parse_id(span.trace_id, 16, "traceId"),
        _parse_id(span.span_id, 8, "spanId"),
        name=span.name or "",
        status=status or 0,
        duration=max(-MAX_TIME, min(end - start, MAX_TIME)) if start and end else None,
    )


@messages.no_recursion_error
def _log_columns(raw: Raw) -> Columns:
    log = messages.decode_json(_LOG, bytes(raw))
    time = check_uint64(log.time_unix_nano, "timeUnixNano")
    observed = check_uint64(log.observed_time_unix_nano, "observedTimeUnixNano")
    return Columns(
        min(time or observed, MAX_TIME),
        _parse_id(log.trace_id, 16, "traceId"),
        _parse_id(log.span_id, 8, "spanId"),
        name=log.event_name,
        severity=enum_number(log.severity_number, SEVERITIES, "severityNumber"),
        message=_message_text(any_value(log.body, list)),
    )


def _message_text(body: Any) -> str | None:
    if body is None or isinstance(body, str):
        return body or None
    return msgspec.json.encode(body).decode()


def _point_columns(raw: Raw, metric: Part) -> Columns:
    time = check_uint64(messages.decode_json(_POINT, bytes(raw)).time_unix_nano, "timeUnixNano")
    return Columns(min(time, MAX_TIME), name=metric.name)


def _parse_id(text: str | None, size: int, field: str) -> bytes | None:
    found = id_bytes(text, size, field) if text else b""
    return found if any(found) else None


def _decode_raw(raw: Raw) -> str:
    """Return raw JSON as text; empty for null."""
    data = bytes(raw)
    if len(data) > _MAX_TEXT:
        raise DecodeError(f"a record of {len(data)} bytes is more than SQLite can keep")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = messages.repair_characters(data)
    return "" if text == "null" else text


class _Status(PartialMessage):
    code: int | str | None = None


class _SpanColumns(PartialMessage):
    trace_id: str | None = None
    span_id: str | None = None
    name: str | None = None
    start_time_unix_nano: messages.UInt64 | None = None
    end_time_unix_nano: messages.UInt64 | None = None
    status: _Status | None = None


class _LogColumns(PartialMessage):
    time_unix_nano: messages.UInt64 | None = None
    observed_time_unix_nano: messages.UInt64 | None = None
    severity_number: messages.OpenEnum | str | None = None
    body: messages.AnyValue | None = None
    trace_id: str | None = None
    span_id: str | None = None
    event_name: str | None = None


class _PointColumns(PartialMessage):
    time_unix_nano: messages.UInt64 | None = None


class _Points(PartialData[Raw]):
    aggregation_temporality: Raw = Raw()
    is_monotonic: Raw = Raw()


class _Metric(PartialMetric[_Points]):
    name: Raw = Raw()
    unit: Raw = Raw()
    description: Raw = Raw()
    metadata: Raw = Raw()


_Scope = PartialScope[Raw, Raw, _Metric]
_Group = PartialResource[Raw, Raw, _Metric]

_DATA_KEYS = tuple(DATA_KEYS.values())
_LINE = msgspec.json.Decoder(PartialLine[Raw, Raw, _Metric])
_SPAN = msgspec.json.Decoder(_SpanColumns, strict=False)
_LOG = msgspec.json.Decoder(_LogColumns, strict=False)
_POINT = msgspec.json.Decoder(_PointColumns, strict=False)
