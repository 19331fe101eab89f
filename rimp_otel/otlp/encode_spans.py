"""Encodes spans as OTLP JSON: a fast path that nearly all take, and a careful one for any span.

The result is field for field that of ``opentelemetry-exporter-otlp-proto-common``, with two things
that it leaves out: the trace state of links, and the W3C trace flags in ``flags``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceState
from opentelemetry.trace.span import DEFAULT_TRACE_STATE

from rimp_otel.otlp.lines import EncodedRecord, resource_envelope, scope_envelope
from rimp_otel.otlp.messages import HAS_IS_REMOTE, IS_REMOTE
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
)

__all__ = [
    "attributes_field",
    "careful_span_json",
    "encode_span",
    "events_field",
    "has_private_fields",
    "is_sampled",
    "links_field",
    "span_json",
    "status_field",
    "trace_state_field",
]


_UNSET = StatusCode.UNSET

FieldReader = Callable[[Any], tuple[Any, ...]]


def careful_span_json(span: ReadableSpan) -> str:
    """Return the OTLP JSON object of any span, whatever is in its fields."""
    (name, context, parent, kind, start, end, attributes, events, links, status) = _read_fields(
        span
    )
    return (
        f"{{{_id_fields(context)}{_parent_field(parent)}"
        f',"flags":{_flags_on_wire(span, context, parent)},"name":{text_json(name)}'
        f',"kind":{_kind_on_wire(span, kind)}'
        f',"startTimeUnixNano":"{to_fixed64(start)}","endTimeUnixNano":"{to_fixed64(end)}"'
        f"{attributes_field(attributes)}{events_field(events)}{links_field(links)}"
        f"{status_field(status)}}}"
    )


def _read_private_fields(span: Any) -> tuple[Any, ...]:
    return (
        span._name,
        span._context,
        span._parent,
        span._kind,
        span._start_time,
        span._end_time,
        span._attributes,
        span._events,
        span._links,
        span._status,
    )


def _read_public_fields(span: Any) -> tuple[Any, ...]:
    return (
        span.name,
        span.context,
        span.parent,
        span.kind,
        span.start_time,
        span.end_time,
        span.attributes,
        span.events,
        span.links,
        span.status,
    )


def has_private_fields(span: ReadableSpan) -> bool:
    """Return True if this SDK keeps a span's fields where the fast path reads them."""
    try:
        return (
            *_read_private_fields(span),
            span._resource,
            span._instrumentation_scope,
        ) is not None
    except AttributeError:
        return False


_read_fields: FieldReader = (
    _read_private_fields if has_private_fields(ReadableSpan("probe")) else _read_public_fields
)


def _id_fields(context: SpanContext | None) -> str:
    if context is None:
        return f'"traceId":"{trace_id_json(0)}","spanId":"{span_id_json(0)}"'
    # A tuple, which is faster to read than its properties.
    trace_id, span_id, _, _, state, *_ = context
    text = f'"traceId":"{trace_id_json(trace_id)}","spanId":"{span_id_json(span_id)}"'
    return text if state is DEFAULT_TRACE_STATE else text + trace_state_field(state)


def _flags_on_wire(owner: Any, context: SpanContext | None, remote: SpanContext | None) -> int:
    # A span that was read from a foreign recording has them; the SDK has no field for them.
    foreign: int | None = getattr(owner, "otlp_flags", None)
    if foreign is not None:
        return foreign
    flags = HAS_IS_REMOTE if context is None else context[3] & 0xFF | HAS_IS_REMOTE
    return flags if remote is None or not remote[2] else flags | IS_REMOTE


def _kind_on_wire(span: Any, kind: Any) -> int:
    foreign: int | None = getattr(span, "otlp_kind", None)
    if foreign is not None:
        return foreign
    try:
        # The SDK counts from 0, OTLP from 1; _value_, since value is a slow descriptor.
        return to_enum(int(kind._value_) + 1)
    except (AttributeError, TypeError, ValueError, OverflowError):
        return 0


def _parent_field(parent: SpanContext | None) -> str:
    return "" if parent is None else f',"parentSpanId":"{span_id_json(parent[1])}"'


def trace_state_field(state: TraceState | None) -> str:
    """Return the trace state, with a comma before it; nothing for an empty one."""
    if not state:
        return ""
    header = ",".join([f"{key}={value}" for key, value in state.items()])
    return f',"traceState":{text_json(header)}'


def attributes_field(attributes: Any) -> str:
    """Return the attributes and how many were dropped, with a comma before; nothing for none."""
    encoded = attributes_json(getattr(attributes, "_dict", attributes))
    text = f',"attributes":[{encoded}]' if encoded else ""
    dropped = getattr(attributes, "dropped", 0)
    return f'{text},"droppedAttributesCount":{to_uint32(dropped)}' if dropped else text


def _span_event_json(event: Any) -> str:
    return (
        f'{{"timeUnixNano":"{to_fixed64(event.timestamp)}","name":{text_json(event.name)}'
        f"{attributes_field(event.attributes)}}}"
    )


def _link_json(link: Any) -> str:
    context = link.context
    return (
        f"{{{_id_fields(context)}{attributes_field(link.attributes)}"
        f',"flags":{_flags_on_wire(link, context, context)}}}'
    )


def events_field(events: Any) -> str:
    """Return the events and how many were dropped, with a comma before; nothing for none."""
    # The deque in a BoundedList, whose own length and iterator are slow.
    items = getattr(events, "_dq", events)
    text = f',"events":[{",".join([_span_event_json(event) for event in items])}]' if items else ""
    dropped = getattr(events, "dropped", 0)
    return f'{text},"droppedEventsCount":{to_uint32(dropped)}' if dropped else text


def links_field(links: Any) -> str:
    """Return the links and how many were dropped, with a comma before; nothing for none."""
    items = getattr(links, "_dq", links)
    text = f',"links":[{",".join([_link_json(link) for link in items])}]' if items else ""
    dropped = getattr(links, "dropped", 0)
    return f'{text},"droppedLinksCount":{to_uint32(dropped)}' if dropped else text


def status_field(status: Status | None) -> str:
    """Return the status, with a comma before it; nothing for None."""
    if status is None:
        return ""
    code, message = status.status_code, status.description
    if type(code) is not StatusCode:
        code = _UNSET
    if code is _UNSET and not message:
        return ',"status":{}'
    parts = [f'"code":{code.value}'] if code is not _UNSET else []
    if message:
        parts.append(f'"message":{text_json(message)}')
    return f',"status":{{{",".join(parts)}}}'


# The fast path.

_SAMPLED = 1
_PLAIN_SPAN: Any = ReadableSpan


def encode_span(span: ReadableSpan, text: str | None = None) -> EncodedRecord:
    """Encode a span; ``text`` is its OTLP JSON object, if the caller has made it already."""
    return EncodedRecord(
        to_fixed64(span.start_time),
        resource_envelope(span.resource),
        scope_envelope(span.instrumentation_scope),
        None,
        span_json(span) if text is None else text,
    )


def span_json(span: ReadableSpan) -> str:
    """Return the OTLP JSON object of one span."""
    return _fast_span_json(span) or careful_span_json(span)


def is_sampled(span: Any) -> bool:
    """Return True if a span is to be recorded; never for one without a context."""
    try:
        return bool(span._context[3] & _SAMPLED)  # a fifth of the time of the properties
    except (AttributeError, TypeError, IndexError):
        pass
    try:
        return bool(span.context.trace_flags & _SAMPLED)
    except AttributeError:
        return False


# It takes half of the time of ``careful_span_json`` (python -m tests.benchmarks.instructions), by
#
# - private fields: each property is a call;
# - one f-string: each function that makes a part of it is a call, and its text is copied once more;
# - looking once whether anything is odd, instead of clamping each value to its range.
def _fast_span_json(span: Any) -> str | None:
    """Return the JSON of a span as the SDK ends it; None for one that is odd in any way."""
    if type(span) is not _PLAIN_SPAN:
        return None  # a subclass carries what the SDK has no field for
    try:
        trace_id, span_id, _, flags, state, is_valid = span._context
        start, end, name, parent = span._start_time, span._end_time, span._name, span._parent
        attributes, events = span._attributes, span._events
        links, status, kind = span._links, span._status, span._kind
        is_usual = type(start) is int is type(end) and type(name) is str and is_valid
        if (
            not is_usual
            or type(kind) is not SpanKind
            or start < 0
            or end < 0
            or start > MAX_FIXED64
            or end > MAX_FIXED64
        ):
            return None
        flags = flags & 0xFF | HAS_IS_REMOTE
        before = "" if state is DEFAULT_TRACE_STATE else trace_state_field(state)
        if parent is not None:
            if not parent[5]:
                return None
            before = f'{before},"parentSpanId":"{parent[1]:016x}"'
            if parent[2]:
                flags |= IS_REMOTE
        kept, after = attributes._dict, ""
        if attributes.dropped:
            after = attributes_field(attributes)
        elif kept:
            after = f',"attributes":[{attributes_json(kept)}]'
        if events._dq or events.dropped:
            after += events_field(events)
        if links._dq or links.dropped:
            after += links_field(links)
        if status._status_code is _UNSET and not status._description:
            after += ',"status":{}'
        else:
            after += status_field(status)
        return (
            f'{{"traceId":"{trace_id:032x}","spanId":"{span_id:016x}"{before},"flags":{flags}'
            f',"name":{quote(name)},"kind":{kind._value_ + 1}'
            f',"startTimeUnixNano":"{start}","endTimeUnixNano":"{end}"{after}}}'
        )
    except Exception:  # whatever an odd value raises: the careful path repairs it
        return None
