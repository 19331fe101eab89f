"""What Tempo answers, made of spans: traces in protobuf and JSON, found traces, series.

JSON is that of protobuf's own mapping, as Tempo's: ids of traces in base64, enumerations by name, nothing
that is zero or empty. Decoders of Tempo's clients are strict: there is no field that Tempo has not.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import msgspec
from opentelemetry.sdk.trace import ReadableSpan

from rimp_otel.models.accessors import (
    duration_of,
    parent_id_of,
    service_of,
    span_id_of,
    start_of,
    trace_id_of,
)
from rimp_otel.models.records import Signal
from rimp_otel.otlp.decode_common import SPAN_KINDS, STATUS_CODES
from rimp_otel.otlp.encode_spans import encode_span
from rimp_otel.otlp.lines import join_lines
from rimp_otel.otlp.outgoing import request_from_lines
from rimp_otel.otlp.requests import RequestFormat
from rimp_otel.viewer.tempo.measures import MeasuredSeries, SpanExemplar
from rimp_otel.viewer.tempo.traceql_search import MatchedSet, MatchedSpan, MatchedTrace
from rimp_otel.viewer.tempo.traceql_tree import Attribute

__all__ = [
    "any_value_json",
    "instant_series",
    "range_series",
    "search_answer",
    "trace_for_models",
    "trace_in_protobuf",
    "traces_in_proto_json",
]

_NO_ROOT = "<root span not yet received>"


# One trace.


def trace_in_protobuf(spans: Iterable[ReadableSpan]) -> bytes:
    """Return the spans as OTLP's message TracesData, which is what Tempo calls a Trace."""
    return _encode_trace(spans, RequestFormat.PROTOBUF)


def _encode_trace(spans: Iterable[ReadableSpan], format: RequestFormat) -> bytes:
    lines = join_lines(Signal.TRACES, map(encode_span, spans))
    return request_from_lines(Signal.TRACES, lines, format)


_KIND_NAMES = {number: name for name, number in SPAN_KINDS.items()}
_STATUS_NAMES = {number: name for name, number in STATUS_CODES.items()}


def traces_in_proto_json(spans: Iterable[ReadableSpan]) -> list[dict[str, Any]]:
    """Return the list ``resourceSpans`` of the spans, in protobuf's own JSON mapping."""
    data = msgspec.json.decode(_encode_trace(spans, RequestFormat.JSON))
    found: list[dict[str, Any]] = data["resourceSpans"]
    for resource in found:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                _map_span(span)
    return found


def _map_span(span: dict[str, Any]) -> None:
    for item in (span, *span.get("links", ())):
        for key in ("traceId", "spanId", "parentSpanId"):
            if item.get(key):
                item[key] = base64.b64encode(bytes.fromhex(item[key])).decode()
        if not item.get("flags"):
            item.pop("flags", None)
    _name_enumeration(span, "kind", _KIND_NAMES)
    _name_enumeration(span.setdefault("status", {}), "code", _STATUS_NAMES)


def _name_enumeration(fields: dict[str, Any], key: str, names: Mapping[int, str]) -> None:
    if number := fields.get(key):
        fields[key] = names.get(number, number)
    else:
        fields.pop(key, None)


def trace_for_models(spans: Sequence[ReadableSpan]) -> dict[str, Any]:
    """Return a trace as Tempo shows it to language models: flat attributes, readable ids."""
    services = []
    for _, group in groupby(spans, key=lambda span: (id(span.resource), service_of(span))):
        own = list(group)
        resource = dict(own[0].resource.attributes)
        resource.pop("service.name", None)
        services.append(
            {
                "serviceName": service_of(own[0]),
                "resource": _plain_attributes(resource),
                "scopes": _scopes_for_models(own),
            }
        )
    return {"traceId": f"{trace_id_of(spans[0]):032x}", "services": services}


def _scopes_for_models(spans: Iterable[ReadableSpan]) -> list[dict[str, Any]]:
    scopes = []
    for _, group in groupby(spans, key=lambda span: id(span.instrumentation_scope)):
        own = list(group)
        scope = own[0].instrumentation_scope
        found: dict[str, Any] = {"name": (scope and scope.name) or ""}
        if scope and scope.version:
            found["version"] = scope.version
        scopes.append({**found, "spans": list(map(_span_for_models, own))})
    return scopes


def _span_for_models(span: ReadableSpan) -> dict[str, Any]:
    start, duration = start_of(span), duration_of(span) or 0
    kind = getattr(span, "otlp_kind", None)
    found: dict[str, Any] = {"spanId": f"{span_id_of(span):016x}", "name": span.name}
    if parent := parent_id_of(span):
        found["parentSpanId"] = f"{parent:016x}"
    found |= {
        "kind": _KIND_NAMES.get(span.kind.value + 1 if kind is None else kind, str(kind)),
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(span.end_time or 0),
        "durationMs": duration // 1_000_000,
        "attributes": _plain_attributes(span.attributes or {}),
    }
    if span.events:
        found["events"] = [
            {
                "name": event.name,
                "timeUnixNano": str(event.timestamp),
                "attributes": _plain_attributes(event.attributes or {}),
            }
            for event in span.events
        ]
    if span.links:
        found["links"] = [
            {
                "traceId": f"{link.context.trace_id:032x}",
                "spanId": f"{link.context.span_id:016x}",
                "attributes": _plain_attributes(link.attributes or {}),
            }
            for link in span.links
        ]
    status = span.status
    code = f"STATUS_CODE_{status.status_code.name}"
    return {**found, "status": {"code": code, "message": status.description or ""}}


def _plain_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _plain_value(value) for key, value in attributes.items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return _plain_attributes(value)
    if isinstance(value, (list, tuple)):
        return [_plain_value(item) for item in value]
    return value if not isinstance(value, float) or value - value == 0 else str(value)


# Found traces.


def search_answer(traces: Iterable[MatchedTrace], is_complete: bool) -> dict[str, Any]:
    """Return what ``/api/search`` answers."""
    return {"traces": list(map(_found_trace, traces)), "metrics": search_metrics(is_complete)}


def search_metrics(is_complete: bool) -> dict[str, Any]:
    """Return what is told of the search itself: whether it was done in time."""
    return {"completedJobs": 1, "totalJobs": 1} if is_complete else {"totalJobs": 1}


def _found_trace(matched: MatchedTrace) -> dict[str, Any]:
    trace = matched.trace
    found: dict[str, Any] = {"traceID": f"{trace.trace_id:032x}"}
    has_root = any(not parent_id_of(span) for span in trace.all_spans)
    service, name = (trace.root_service, trace.root_name) if has_root else (_NO_ROOT, "")
    found |= _without_empty({"rootServiceName": service, "rootTraceName": name})
    found["startTimeUnixNano"] = str(trace.start)
    found |= _without_empty({"durationMs": trace.duration // 1_000_000})
    sets = list(map(_span_set, matched.sets))
    counts = {
        service: _without_empty({"spanCount": own.spans, "errorCount": own.errors})
        for service, own in trace.services.items()
    }
    return {**found, "spanSet": sets[0], "spanSets": sets, "serviceStats": counts}


def _span_set(one: MatchedSet) -> dict[str, Any]:
    found: dict[str, Any] = _without_empty({"spans": list(map(_found_span, one.spans))})
    found["matched"] = one.matched
    if one.attributes:
        found["attributes"] = [
            {"key": key, "value": any_value_json(value)} for key, value in one.attributes
        ]
    return found


# Of these, other fields of the answer tell.
_NOT_REPEATED = frozenset({"duration", "traceDuration", "rootName", "rootServiceName", "traceID"})


def _found_span(found: MatchedSpan) -> dict[str, Any]:
    span = found.span
    shown: dict[str, Any] = {"spanID": f"{span_id_of(span):016x}"}
    attributes = []
    for attribute, value in found.values.items():
        if attribute == Attribute("intrinsic", "name"):
            shown |= _without_empty({"name": value})
        elif not (attribute.scope == "intrinsic" and attribute.key in _NOT_REPEATED):
            attributes.append({"key": attribute.key, "value": any_value_json(value)})
    shown["startTimeUnixNano"] = str(start_of(span))
    if duration := duration_of(span):
        shown["durationNanos"] = str(duration)
    return {**shown, **_without_empty({"attributes": attributes})}


def _without_empty(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value}


def any_value_json(value: Any) -> dict[str, Any]:
    """Return a value as protobuf's JSON has an AnyValue; "nil" for what is absent."""
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value if value - value == 0 else _special(value)}
    if isinstance(value, bytes):
        return {"bytesValue": base64.b64encode(value).decode()}
    if isinstance(value, (list, tuple)):
        return {"arrayValue": {"values": [any_value_json(item) for item in value]}}
    if isinstance(value, Mapping):
        pairs = [{"key": key, "value": any_value_json(item)} for key, item in value.items()]
        return {"kvlistValue": {"values": pairs}}
    return {"stringValue": "nil" if value is None else str(value)}


def _special(value: float) -> str:
    if value != value:
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


# Series.


def range_series(series: Iterable[MeasuredSeries], first: int, step: int) -> list[dict[str, Any]]:
    """Return series with a sample for each step.

    Args:
        series: the series.
        first: the time of the first step's sample, in nanoseconds.
        step: the length of a step, in nanoseconds.
    """
    return [
        {
            "labels": _labels(one),
            "samples": [
                {"timestampMs": str((first + at * step) // 1_000_000), **_sample_value(value)}
                for at, value in enumerate(one.values)
                if value is not None
            ],
            **_without_empty({"exemplars": list(map(_exemplar, one.exemplars))}),
        }
        for one in series
    ]


def _exemplar(one: SpanExemplar) -> dict[str, Any]:
    trace_id = {"key": "trace:id", "value": any_value_json(f"{one.trace_id:032x}")}
    found = {"labels": [trace_id], **_sample_value(one.value)}
    return {**found, "timestampMs": str(one.time // 1_000_000)}


def instant_series(series: Iterable[MeasuredSeries]) -> list[dict[str, Any]]:
    """Return series that have one value each."""
    return [
        {"labels": _labels(one), **_sample_value(value)}
        for one in series
        for value in (one.values or [0.0])[:1]
        if value is not None
    ]


def _labels(series: MeasuredSeries) -> list[dict[str, Any]]:
    return [{"key": key, "value": any_value_json(value)} for key, value in series.labels]


def _sample_value(value: float) -> dict[str, Any]:
    if value - value != 0:
        return {"value": _special(value)}
    return {"value": value} if value else {}
