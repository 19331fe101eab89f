"""Encoding spans: our line is the official encoder's message, and keeps what that one loses."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from rimp_otel.models.records import Signal
from rimp_otel.otlp.encode_spans import _fast_span_json, careful_span_json, is_sampled, span_json
from rimp_otel.otlp.lines import LINE_SIZE
from tests.otlp import strategies
from tests.otlp.official import assert_same, differences, lines_of, message_of, official_message

RESOURCE = Resource({})


def span_of(**fields: Any) -> ReadableSpan:
    """Return a span with these fields."""
    return ReadableSpan(
        **{"name": "span", "context": SpanContext(1, 2, False), "resource": RESOURCE, **fields}
    )


def written(*spans: ReadableSpan) -> list[Any]:
    """Return the spans' messages in our lines."""
    message = message_of(Signal.TRACES, lines_of(Signal.TRACES, spans))
    return [
        span
        for group in message.resource_spans
        for scoped in group.scope_spans
        for span in scoped.spans
    ]


@strategies.generated
@given(strategies.spans)
def test_any_spans_are_the_official_message(spans):
    """Spans with any values, of several resources and scopes, are the official message."""
    assert_same(Signal.TRACES, lines_of(Signal.TRACES, spans), spans)


@strategies.generated
@given(strategies.provider_spans)
def test_spans_of_a_provider_are_the_official_message(spans):
    """Spans of a TracerProvider with limits that drop some of everything are the official message."""
    assert_same(Signal.TRACES, lines_of(Signal.TRACES, spans), spans)


@strategies.generated
@given(strategies.provider_spans)
def test_the_fast_path_writes_what_the_careful_one_does(spans):
    """The fast path writes a provider's spans as the careful one does; only foreign ones are odd."""
    for span in spans:
        fast = _fast_span_json(span)
        assert fast is None or fast == careful_span_json(span)


def test_the_fast_path_is_taken():
    """A span with every field, as the SDK ends it, takes the fast path."""
    tracer = TracerProvider().get_tracer("t")
    parent = NonRecordingSpan(SpanContext(1, 2, True, TraceFlags(1), TraceState([("a", "1")])))
    link = Link(SpanContext(3, 4, False))
    with tracer.start_as_current_span(
        "s", set_span_in_context(parent), SpanKind.SERVER, {"a": 1, "b": [2.5]}, [link]
    ) as span:
        span.add_event("e", {"c": "d"})
        span.set_status(StatusCode.ERROR, "why")
    fast = _fast_span_json(span._readable_span())
    assert fast == careful_span_json(span._readable_span())
    assert fast is not None
    flags = span.context.trace_flags | 0x300  # the SDK's floor says of each id that it is random
    assert f'"traceState":"a=1","parentSpanId":"0000000000000002","flags":{flags},' in fast


@pytest.mark.parametrize(
    "odd",
    [
        {"name": None},
        {"context": SpanContext(0, 0, False)},
        {"parent": SpanContext(1, 0, False)},
        {"start_time": -1},
        {"end_time": 2**64},
        {"end_time": 1.5},
        {"attributes": {"a": 1}},
    ],
)
def test_odd_spans_take_the_careful_path(odd):
    """A field that the SDK would not write so takes the careful path."""
    span = span_of(**{"start_time": 1, "end_time": 2, **odd})
    assert _fast_span_json(span) is None
    assert span_json(span) == careful_span_json(span)


@pytest.mark.parametrize(
    ("span", "sampled"),
    [
        (span_of(context=SpanContext(1, 2, False, TraceFlags(1))), True),
        (span_of(context=SpanContext(1, 2, False, TraceFlags(0))), False),
        (SimpleNamespace(context=SpanContext(1, 2, False, TraceFlags(3))), True),
        (SimpleNamespace(_context=None, context=SpanContext(1, 2, False, TraceFlags(2))), False),
        (span_of(context=None), False),
        (object(), False),
    ],
)
def test_what_is_sampled(span, sampled):
    """The sampled bit counts, for any object that has a context."""
    assert is_sampled(span) is sampled


def test_a_span_is_this_text():
    """One span is written out in full, to be read by people."""
    span = span_of(
        name="GET /",
        context=SpanContext(0xABC, 0xDEF, False, TraceFlags(1), TraceState([("a", "1")])),
        parent=SpanContext(0xABC, 0x123, True),
        attributes={"http.status": 200, "ok": True, "ids": (b"\0", None, {"x": 1.5})},
        start_time=1,
        end_time=2,
        instrumentation_scope=InstrumentationScope("lib", "1.0"),
    )
    assert lines_of(Signal.TRACES, [span]) == [
        b'{"resourceSpans":[{"resource":{},"scopeSpans":[{"scope":{"name":"lib","version":"1.0"},'
        b'"spans":[{"traceId":"00000000000000000000000000000abc","spanId":"0000000000000def",'
        b'"traceState":"a=1","parentSpanId":"0000000000000123","flags":769,"name":"GET /",'
        b'"kind":1,"startTimeUnixNano":"1","endTimeUnixNano":"2","attributes":['
        b'{"key":"http.status","value":{"intValue":"200"}},'
        b'{"key":"ok","value":{"boolValue":true}},'
        b'{"key":"ids","value":{"arrayValue":{"values":[{"bytesValue":"AA=="},{},'
        b'{"kvlistValue":{"values":[{"key":"x","value":{"doubleValue":1.5}}]}}]}}}],'
        b'"status":{}}]}]}]}'
    ]


def test_groups_stand_in_the_order_of_their_first_record():
    """Groups keep the order of their first records, also if resources and scopes alternate."""
    resources = [Resource({"n": 0}), Resource({"n": 1})]
    scopes = [InstrumentationScope("a"), InstrumentationScope("b"), None]
    spans = [
        span_of(name=name, resource=resources[owner], instrumentation_scope=scopes[scope])
        for name, owner, scope in [("1", 1, 1), ("2", 0, 0), ("3", 1, 2), ("4", 1, 1), ("5", 0, 2)]
    ]
    message = message_of(Signal.TRACES, lines_of(Signal.TRACES, spans))
    groups = [
        (
            group.resource.attributes[0].value.int_value,
            scoped.scope.name,
            [span.name for span in scoped.spans],
        )
        for group in message.resource_spans
        for scoped in group.scope_spans
    ]
    assert groups == [(1, "b", ["1", "4"]), (1, "", ["3"]), (0, "a", ["2"]), (0, "", ["5"])]
    assert_same(Signal.TRACES, lines_of(Signal.TRACES, spans), spans)


def test_a_batch_of_several_lines_is_one_message():
    """Lines end after about 64 KiB; joined, they are the official message."""
    scopes = [InstrumentationScope("a"), InstrumentationScope("b")]
    spans = [
        span_of(name=f"{n} {'x' * 1_000}", instrumentation_scope=scopes[n % 2]) for n in range(200)
    ]
    lines = lines_of(Signal.TRACES, spans)
    assert len(lines) == 4
    assert all(LINE_SIZE < len(line) < LINE_SIZE + 3_000 for line in lines[:-1])
    assert_same(Signal.TRACES, lines, spans)


def test_no_spans_are_no_line():
    """No spans make no line."""
    assert lines_of(Signal.TRACES, []) == []


@pytest.mark.parametrize(
    ("parent", "flags"),
    [
        (None, 0x1FF),
        (SpanContext(1, 3, False), 0x1FF),
        (SpanContext(1, 3, True), 0x3FF),
    ],
)
def test_the_trace_flags_of_a_span_are_kept(parent, flags):
    """All eight W3C trace flags are kept beside OTLP's two; the official encoder loses them."""
    span = span_of(context=SpanContext(1, 2, False, TraceFlags(0xFF)), parent=parent)
    (ours,) = written(span)
    assert ours.flags == flags
    theirs = official_message(Signal.TRACES, [span]).resource_spans[0].scope_spans[0].spans[0]
    assert theirs.flags == flags & ~0xFF


def test_the_flags_and_the_trace_state_of_a_link_are_kept():
    """A link keeps its flags and trace state; the official encoder loses both."""
    state = TraceState([("vendor", "opaque"), ("b", "2")])
    span = span_of(links=[Link(SpanContext(3, 4, True, TraceFlags(1), state), {"k": "v"})])
    (link,) = written(span)[0].links
    assert (link.flags, link.trace_state) == (0x301, "vendor=opaque,b=2")
    theirs = official_message(Signal.TRACES, [span]).resource_spans[0].scope_spans[0].spans[0]
    assert (theirs.links[0].flags, theirs.links[0].trace_state) == (0x300, "")


def test_what_a_resource_and_a_scope_dropped_is_counted():
    """Dropped attributes of resource and scope are counted; the official encoder loses the counts."""
    resource, scope = Resource({}), InstrumentationScope("a")
    resource.attributes.dropped, scope.attributes.dropped = 2, 3
    spans = [span_of(resource=resource, instrumentation_scope=scope)]
    lines = lines_of(Signal.TRACES, spans)
    (group,) = message_of(Signal.TRACES, lines).resource_spans
    assert group.resource.dropped_attributes_count == 2
    assert group.scope_spans[0].scope.dropped_attributes_count == 3
    assert_same(Signal.TRACES, lines, spans)


def test_scopes_that_are_written_the_same_share_a_group():
    """Scopes with the same text share a group, where the official encoder makes several."""
    scopes = [None, InstrumentationScope(""), InstrumentationScope("", "")]
    spans = [span_of(instrumentation_scope=scope) for scope in scopes]
    message = message_of(Signal.TRACES, lines_of(Signal.TRACES, spans))
    assert [len(scoped.spans) for scoped in message.resource_spans[0].scope_spans] == [3]
    theirs = official_message(Signal.TRACES, spans)
    assert [len(scoped.spans) for scoped in theirs.resource_spans[0].scope_spans] == [1, 1, 1]


def test_the_comparison_sees_a_difference_in_any_field():
    """Clearing any field of a span is a difference, so that the tests above can fail."""
    span = span_of(
        context=SpanContext(1, 2, False, trace_state=TraceState([("a", "1")])),
        parent=SpanContext(1, 3, True),
        attributes={"a": float("nan")},
        links=[Link(SpanContext(3, 4, True), {"k": "v"})],
        start_time=5,
        end_time=6,
    )
    theirs = official_message(Signal.TRACES, [span])
    same = type(theirs).FromString(theirs.SerializeToString())
    assert list(differences(same, theirs)) == []
    fields = [
        field.name for field, _ in same.resource_spans[0].scope_spans[0].spans[0].ListFields()
    ]
    assert len(fields) == 12
    for name in fields:
        other = type(theirs).FromString(theirs.SerializeToString())
        other.resource_spans[0].scope_spans[0].spans[0].ClearField(name)
        (found,) = differences(other, theirs)
        assert found.startswith(f".resource_spans[0].scope_spans[0].spans[0].{name}: 'None'")
