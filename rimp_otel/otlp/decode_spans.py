"""Decodes spans, as OpenTelemetry's own types.

Fields that an SDK type does not have are kept by a subclass of it, so that a span that was read
can be written again without loss: see ``RecordedSpan``.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)
from opentelemetry.trace.span import DEFAULT_TRACE_STATE

from rimp_otel.otlp import messages
from rimp_otel.otlp.decode_common import (
    CACHE_SIZE,
    SPAN_KINDS,
    STATUS_CODES,
    Cache,
    attributes_of,
    bounded_attributes,
    cache_value,
    check_uint64,
    enum_number,
    id_number,
    sdk_resource_of,
    sdk_scope_of,
)
from rimp_otel.otlp.messages import HAS_IS_REMOTE, IS_REMOTE
from rimp_otel.process import BoundedCache

__all__ = ["RecordedLink", "RecordedSpan", "decode_spans"]


class RecordedSpan(ReadableSpan):
    """A span whose flags or kind the SDK would write differently."""

    #: The recorded ``flags``, if they say something else than context and parent do.
    otlp_flags: int | None = None
    #: The recorded ``kind``, if the SDK does not know it; ``kind`` is INTERNAL then.
    otlp_kind: int | None = None


class RecordedLink(Link):
    """A link whose flags the SDK would write differently."""

    #: The recorded ``flags``.
    otlp_flags: int | None = None


_TRACE_FLAGS = [TraceFlags(flags) for flags in range(256)]
# The SDK counts kinds from 0, OTLP from 1.
_KINDS = {kind.value + 1: kind for kind in SpanKind}
_STATUSES = [Status(StatusCode(number)) for number in range(3)]
_NO_STATE = DEFAULT_TRACE_STATE
_NO_ITEMS: BoundedList[Any] = BoundedList(None)

_states: Cache[TraceState] = BoundedCache(CACHE_SIZE)

# The spans of a trace often follow each other. One tuple: threads may change it meanwhile.
_last_trace: tuple[str | None, int] = (None, 0)

_new_tuple: Any = tuple.__new__
_IS_TUPLE = isinstance(SpanContext(1, 2, False), tuple) and tuple(
    SpanContext(1, 2, True, _TRACE_FLAGS[1], _NO_STATE)
) == (1, 2, True, 1, _NO_STATE, True)


# The public constructor would log and drop entries that other languages allow. It is the way that
# is left if an SDK should keep them elsewhere.
_SETS_STATES = isinstance(getattr(_NO_STATE, "_dict", None), dict)


def decode_spans(groups: list[messages.ResourceSpans]) -> list[ReadableSpan]:
    """Return the spans of a line, in its order. Equal resources become one object."""
    spans = []
    for group in groups:
        resource = sdk_resource_of(group.resource, group.schema_url or "")
        for scoped in group.scope_spans or ():
            scope = sdk_scope_of(scoped.scope, scoped.schema_url or "")
            spans.extend([_decode_span(span, resource, scope) for span in scoped.spans or ()])
    return spans


def _decode_span(
    span: messages.Span, resource: Resource, scope: InstrumentationScope
) -> ReadableSpan:
    flags = span.flags or 0
    kind = span.kind if type(span.kind) is int else enum_number(span.kind, SPAN_KINDS, "kind")
    context, parent = _decode_contexts(span, flags)
    known_kind = _KINDS.get(kind)
    is_odd = known_kind is None or flags != _written_flags(flags, parent)
    recorded = (RecordedSpan if is_odd else ReadableSpan)(
        span.name or "",
        context,
        parent,
        resource,
        bounded_attributes(attributes_of(span.attributes, tuple), span.dropped_attributes_count),
        _bounded_list(span.events, _decode_span_event, span.dropped_events_count),
        _bounded_list(span.links, _decode_link, span.dropped_links_count),
        known_kind or SpanKind.INTERNAL,
        status=_STATUSES[0] if span.status is None else _decode_status(span.status),
        start_time=check_uint64(span.start_time_unix_nano, "startTimeUnixNano"),
        end_time=check_uint64(span.end_time_unix_nano, "endTimeUnixNano"),
        instrumentation_scope=scope,
    )
    if isinstance(recorded, RecordedSpan):
        _keep_fields(recorded, flags, kind)
    return recorded


def _keep_fields(span: RecordedSpan, flags: int, kind: int) -> None:
    if flags != _written_flags(flags, span.parent):
        span.otlp_flags = flags
    if kind not in _KINDS:
        span.otlp_kind = kind


def _decode_contexts(span: messages.Span, flags: int) -> tuple[SpanContext, SpanContext | None]:
    global _last_trace
    text, trace_id = _last_trace
    if text != span.trace_id:
        trace_id = id_number(span.trace_id, 16, "traceId")
        _last_trace = span.trace_id, trace_id
    span_id = id_number(span.span_id, 8, "spanId")
    trace_flags = _TRACE_FLAGS[flags & 0xFF]
    state = span.trace_state
    context = _make_context(
        trace_id, span_id, False, trace_flags, _decode_trace_state(state) if state else _NO_STATE
    )
    parent = span.parent_span_id
    parent_id = id_number(parent, 8, "parentSpanId") if parent else 0
    if not parent_id:
        return context, None
    is_remote = flags & IS_REMOTE != 0
    return context, _make_context(trace_id, parent_id, is_remote, trace_flags, _NO_STATE)


def _make_context(
    trace_id: int, span_id: int, is_remote: bool, flags: TraceFlags, state: TraceState
) -> SpanContext:
    """Return a SpanContext without the range checks of its constructor, which cost time."""
    if not _IS_TUPLE:
        return SpanContext(trace_id, span_id, is_remote, flags, state)
    is_valid = trace_id != 0 and span_id != 0
    made: SpanContext = _new_tuple(
        SpanContext, (trace_id, span_id, is_remote, flags, state, is_valid)
    )
    return made


def _written_flags(flags: int, remote: SpanContext | None) -> int:
    """Return the flags that the encoder would write for a span or link with these contexts."""
    is_remote = remote is not None and remote.is_remote
    return flags & 0xFF | HAS_IS_REMOTE | (IS_REMOTE if is_remote else 0)


def _bounded_list(messages: list[Any] | None, make: Any, dropped: int | None) -> BoundedList[Any]:
    if not messages and not dropped:
        return _NO_ITEMS
    items: BoundedList[Any] = BoundedList(None)
    items.extend([make(message) for message in messages or ()])
    items.dropped = dropped or 0
    return items


def _decode_span_event(event: messages.SpanEvent) -> Event:
    attributes = bounded_attributes(
        attributes_of(event.attributes, tuple), event.dropped_attributes_count
    )
    return Event(event.name or "", attributes, check_uint64(event.time_unix_nano, "timeUnixNano"))


def _decode_link(link: messages.Link) -> Link:
    flags = link.flags or 0
    context = SpanContext(
        id_number(link.trace_id, 16, "traceId"),
        id_number(link.span_id, 8, "spanId"),
        bool(flags & IS_REMOTE),
        _TRACE_FLAGS[flags & 0xFF],
        _decode_trace_state(link.trace_state),
    )
    attributes = bounded_attributes(
        attributes_of(link.attributes, tuple), link.dropped_attributes_count
    )
    if flags == _written_flags(flags, context):
        return Link(context, attributes)
    recorded = RecordedLink(context, attributes)
    recorded.otlp_flags = flags
    return recorded


def _decode_status(message: messages.Status) -> Status:
    number = enum_number(message.code, STATUS_CODES, "code")
    if not message.message:
        return _STATUSES[number]
    code = StatusCode(number)
    if code is StatusCode.ERROR:
        return Status(code, message.message)
    # The constructor would log a warning and drop the description.
    status = Status(code)
    if hasattr(status, "_description"):
        status._description = message.message
    return status


def _decode_trace_state(header: str | None) -> TraceState:
    if not header:
        return _NO_STATE
    key = header.encode(), ""
    known = _states.get(key)
    return cache_value(_states, key, _parse_trace_state(header)) if known is None else known


def _parse_trace_state(header: str) -> TraceState:
    """Return all entries with different keys, also those that the SDK would log and drop."""
    if not _SETS_STATES:
        return TraceState.from_header([header])
    state = TraceState()
    for member in filter(None, [member.strip(" \t") for member in header.split(",")]):
        key, _, value = member.partition("=")
        state._dict.setdefault(key, value)
    return state
