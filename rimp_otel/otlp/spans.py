"""Spans to OTLP JSON: the way that nearly all take, and who falls back to the careful one."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.span import DEFAULT_TRACE_STATE

from rimp_otel.otlp.fragment import Fragment, resource_wrapping, scope_wrapping
from rimp_otel.otlp.numbers import fixed64
from rimp_otel.otlp.spanfields import (
    HAS_IS_REMOTE,
    IS_REMOTE,
    attributes_field,
    careful_text,
    events_field,
    links_field,
    status_field,
    trace_state_field,
)
from rimp_otel.otlp.values import attributes_json, quote

__all__ = ["is_sampled", "span_fragment", "span_text"]

_MOST = 2**64 - 1
_UNSET = StatusCode.UNSET
_SAMPLED = 1
_USUAL: Any = ReadableSpan


def span_fragment(span: ReadableSpan, text: str | None = None) -> Fragment:
    """The span as a fragment; ``text`` is its object, where that has been made."""
    return Fragment(
        fixed64(span.start_time),
        resource_wrapping(span.resource),
        scope_wrapping(span.instrumentation_scope),
        None,
        span_text(span) if text is None else text,
    )


def span_text(span: ReadableSpan) -> str:
    """The OTLP JSON object of one span."""
    return _quick_text(span) or careful_text(span)


def is_sampled(span: Any) -> bool:
    """Whether a span is to be recorded. Of what has no context, nothing is."""
    try:
        return bool(span._context[3] & _SAMPLED)  # a fifth of the time of the properties
    except (AttributeError, TypeError, IndexError):
        pass
    try:
        return bool(span.context.trace_flags & _SAMPLED)
    except AttributeError:
        return False


# Half of the time of ``careful_text`` (python -m tests.benchmarks.instructions), by
#
# - private fields: each property is a call;
# - one f-string: each function that makes a part of it is a call, and its text is copied once more;
# - looking once whether anything is odd, instead of bringing each value into its range.
def _quick_text(span: Any) -> str | None:
    """The text of a span as the SDK ends it; None for one that is odd in any way."""
    if type(span) is not _USUAL:
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
            or start > _MOST
            or end > _MOST
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
    except Exception:  # whatever an odd value raises: the careful way repairs it
        return None
