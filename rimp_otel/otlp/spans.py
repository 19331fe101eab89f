"""Spans to OTLP JSON.

Field for field what ``opentelemetry-exporter-otlp-proto-common`` puts into a message, and what it
leaves out: the trace state of links, and the W3C trace flags in ``flags``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind

from rimp_otel.otlp.fragment import Fragment, resource_wrapping, scope_wrapping
from rimp_otel.otlp.numbers import fixed64, span_id_json, trace_id_json, uint32
from rimp_otel.otlp.values import attributes_json, text_json

__all__ = ["span_fragment", "span_json"]

_HAS_IS_REMOTE, _IS_REMOTE = 0x100, 0x200

# The SDK counts kinds from 0, OTLP from 1.
_KINDS = {kind: kind.value + 1 for kind in SpanKind}

Reader = Callable[[Any], tuple[Any, ...]]


def span_fragment(span: ReadableSpan) -> Fragment:
    """The span as a fragment."""
    return Fragment(
        fixed64(span.start_time),
        resource_wrapping(span.resource),
        scope_wrapping(span.instrumentation_scope),
        None,
        span_json(span),
    )


def span_json(span: ReadableSpan) -> str:
    """The OTLP JSON object of one span."""
    name, context, parent, kind, start, end, attributes, events, links, status = _read(span)
    trace_id, span_id, trace_flags, trace_state = _read_context(context)
    # Of a span that was read from a foreign recording: what the SDK has no field for.
    flags = getattr(span, "otlp_flags", None)
    if flags is None:
        flags = trace_flags & 0xFF | _remote_flags(parent)
    foreign_kind = getattr(span, "otlp_kind", None)
    text = (
        f'{{"traceId":"{trace_id_json(trace_id)}","spanId":"{span_id_json(span_id)}"'
        f"{_trace_state(trace_state)}{_parent(parent)}"
        f',"flags":{flags},"name":{text_json(name)}'
        f',"kind":{_KINDS.get(kind, 0) if foreign_kind is None else foreign_kind}'
        f',"startTimeUnixNano":"{fixed64(start)}","endTimeUnixNano":"{fixed64(end)}"'
        f"{_attributes(attributes)}"
    )
    if events:
        text += f',"events":[{",".join([_event(event) for event in events])}]'
    if links:
        text += f',"links":[{",".join([_link(link) for link in links])}]'
    return f"{text}{_dropped(events, links)}{_status(status)}}}"


def _read_fast(span: Any) -> tuple[Any, ...]:
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


def _read_public(span: Any) -> tuple[Any, ...]:
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


def _choose_reader() -> Reader:
    """The private fields (no copies, no proxies), where the SDK has them; else the properties."""
    try:
        _read_fast(ReadableSpan("probe"))
    except AttributeError:
        return _read_public
    return _read_fast


_read = _choose_reader()


def _read_context(context: SpanContext | None) -> tuple[int, int, int, Any]:
    if context is None:
        return 0, 0, 0, None
    return context.trace_id, context.span_id, context.trace_flags, context.trace_state


def _remote_flags(context: SpanContext | None) -> int:
    remote = context is not None and context.is_remote
    return _HAS_IS_REMOTE | _IS_REMOTE if remote else _HAS_IS_REMOTE


def _parent(parent: SpanContext | None) -> str:
    return "" if parent is None else f',"parentSpanId":"{span_id_json(parent.span_id)}"'


def _trace_state(state: Any) -> str:
    if not state:
        return ""
    header = ",".join([f"{key}={value}" for key, value in state.items()])
    return f',"traceState":{text_json(header)}'


def _attributes(attributes: Any) -> str:
    encoded = attributes_json(getattr(attributes, "_dict", attributes))
    text = f',"attributes":[{encoded}]' if encoded else ""
    dropped = getattr(attributes, "dropped", 0)
    return f'{text},"droppedAttributesCount":{uint32(dropped)}' if dropped else text


def _event(event: Any) -> str:
    return (
        f'{{"timeUnixNano":"{fixed64(event.timestamp)}","name":{text_json(event.name)}'
        f"{_attributes(event.attributes)}}}"
    )


def _link(link: Any) -> str:
    trace_id, span_id, trace_flags, trace_state = _read_context(link.context)
    flags = getattr(link, "otlp_flags", None)
    if flags is None:
        flags = trace_flags & 0xFF | _remote_flags(link.context)
    return (
        f'{{"traceId":"{trace_id_json(trace_id)}","spanId":"{span_id_json(span_id)}"'
        f'{_trace_state(trace_state)}{_attributes(link.attributes)},"flags":{flags}}}'
    )


def _dropped(events: Any, links: Iterable[Any]) -> str:
    text = ""
    if dropped := getattr(events, "dropped", 0):
        text = f',"droppedEventsCount":{uint32(dropped)}'
    if dropped := getattr(links, "dropped", 0):
        text += f',"droppedLinksCount":{uint32(dropped)}'
    return text


def _status(status: Any) -> str:
    if status is None:
        return ""
    code = status.status_code.value
    message = status.description
    parts = [f'"code":{code}'] if code else []
    if message:
        parts.append(f'"message":{text_json(message)}')
    return f',"status":{{{",".join(parts)}}}'
