"""Events and the SDK's log records, converted in both directions."""

from __future__ import annotations

import logging
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk._logs import (
    LogRecordLimits,
    ReadableLogRecord,
    ReadWriteLogRecord,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    set_span_in_context,
)

from rimp_otel.convert.logs import event_from_log_record, log_record_from_event
from rimp_otel.convert.resources import text_of_body
from rimp_otel.models.records import EventType, ResourceInfo, ScopeInfo, TelemetryEvent

SPAN = set_span_in_context(
    NonRecordingSpan(SpanContext(0xABC, 0xDEF, False, TraceFlags(1))), Context()
)


def _full_event() -> TelemetryEvent:
    return TelemetryEvent(
        source="shop.cart",
        message='{"id":[1,2]}',
        event_type=EventType.WARNING,
        metadata={"a": [1, 2], "b": {"c": None}, "d": b"\x00"},
        time_unix_nano=1_700_000_000_000_000_001,
        observed_time_unix_nano=1_700_000_000_000_000_002,
        trace_id=0xABC,
        span_id=0xDEF,
        trace_flags=1,
        severity_number=14,
        severity_text="WARN2",
        event_name="cart.changed",
        body={"id": [1, 2]},
        dropped_attributes_count=4,
        scope=ScopeInfo("shop.cart", "1.0"),
        resource=ResourceInfo({"service.name": "shop"}),
    )


def _full_log_record() -> ReadableLogRecord:
    attributes = BoundedAttributes()
    # Of the constructor, SDK 1.42 takes neither maps nor bytes.
    attributes._dict = {"a": (1, 2), "b": {"c": None}, "d": b"\x00"}
    attributes.dropped = 4
    log = LogRecord(
        timestamp=1_700_000_000_000_000_001,
        observed_timestamp=1_700_000_000_000_000_002,
        context=SPAN,
        severity_text="WARN2",
        severity_number=SeverityNumber.WARN2,
        body={"id": (1, 2)},
        attributes=attributes,
        event_name="cart.changed",
    )
    scope = InstrumentationScope("shop.cart", "1.0")
    return ReadableLogRecord(log, Resource({"service.name": "shop"}), scope)


def _fields(record: ReadableLogRecord) -> dict[str, Any]:
    log = {key: value for key, value in vars(record.log_record).items() if key != "context"}
    dropped = record.dropped_attributes
    return {**log, "of": (record.resource, record.instrumentation_scope, dropped)}


def test_every_field_of_a_log_record() -> None:
    """Every field of a log record is in the event."""
    assert event_from_log_record(_full_log_record()) == _full_event()


def test_every_field_of_an_event() -> None:
    """Every field of an event is in the log record."""
    assert _fields(log_record_from_event(_full_event())) == _fields(_full_log_record())


def test_a_bare_log_record() -> None:
    """Missing fields become OTLP's defaults: no time, no severity, no scope."""
    log = LogRecord(observed_timestamp=7_000, context=Context({"not": "empty"}))
    event = event_from_log_record(ReadWriteLogRecord(log, resource=None))
    assert event == TelemetryEvent(
        source="",
        message="",
        time_unix_nano=0,
        observed_time_unix_nano=7_000,
        severity_number=0,
        body=None,
    )
    assert event.timestamp == datetime(1970, 1, 1, 0, 0, 0, 7, timezone.utc)


def test_attributes_that_a_limit_dropped_are_counted() -> None:
    """The SDK's count of dropped attributes becomes the event's."""
    attributes = BoundedAttributes(maxlen=1, attributes={"a": 1, "b": 2})
    record = ReadableLogRecord(LogRecord(attributes=attributes), Resource({}))
    assert event_from_log_record(record).dropped_attributes_count == 1
    assert event_from_log_record(record).metadata == {"b": 2}


def test_the_event_shares_nothing_with_the_log_record() -> None:
    """The event keeps a body that the application changes later."""
    body = {"items": [1]}
    event = event_from_log_record(ReadableLogRecord(LogRecord(body=body), Resource({})))
    body["items"].append(2)
    assert event.body == {"items": [1]}
    assert event.message == '{"items":[1]}'


def test_a_severity_that_is_a_plain_number() -> None:
    """A severity may be a plain number, as some instrumentations pass it."""
    log = LogRecord(severity_number=17)
    event = event_from_log_record(ReadableLogRecord(log, Resource({})))
    assert (event.severity_number, event.event_type) == (17, EventType.ERROR)


@pytest.mark.parametrize(("number", "expected"), [(99, 24), (-5, 0), (0, 0), (3, 3)])
def test_a_severity_that_the_sdk_does_not_know(number: int, expected: int) -> None:
    """An unknown severity becomes the nearest one."""
    record = log_record_from_event(TelemetryEvent("s", "m", severity_number=number))
    assert record.log_record.severity_number is SeverityNumber(expected)


def test_a_native_event_has_its_source_as_scope() -> None:
    """The source of a native event becomes its scope, as in storage."""
    record = log_record_from_event(TelemetryEvent("app", "hello", time_unix_nano=5))
    assert record.instrumentation_scope == InstrumentationScope("app")
    assert record.log_record.timestamp == 5
    assert record.log_record.observed_timestamp == 0
    assert record.log_record.severity_number is SeverityNumber.INFO


def test_the_span_that_is_active_at_the_conversion_does_not_get_in() -> None:
    """An event outside of a span stays so although a span is active."""
    with TracerProvider().get_tracer("t").start_as_current_span("replay"):
        outside = log_record_from_event(TelemetryEvent("app", "hello")).log_record
        inside = log_record_from_event(_full_event()).log_record
        half = log_record_from_event(TelemetryEvent("app", "hello", trace_id=9)).log_record
    assert (outside.trace_id, outside.span_id, outside.trace_flags) == (0, 0, 0)
    assert (inside.trace_id, inside.span_id, inside.trace_flags) == (0xABC, 0xDEF, 1)
    assert (half.trace_id, half.span_id, half.trace_flags) == (9, 0, 0)


def test_limits_of_the_environment_do_not_apply(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Attribute limits of the environment change nothing, and nothing is logged."""
    monkeypatch.setenv("OTEL_ATTRIBUTE_COUNT_LIMIT", "1")
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "1")
    assert LogRecordLimits().max_attributes == 1
    event = TelemetryEvent("s", "m", metadata={"a": "long", "": 1, "n": None, "l": [1, "x"]})
    with caplog.at_level(logging.DEBUG):
        record = log_record_from_event(event)
    expected = {"a": "long", "": 1, "n": None, "l": (1, "x")}
    assert dict(record.log_record.attributes or {}) == expected
    assert record.dropped_attributes == 0
    assert caplog.records == []


NANOS = st.integers(0, 2**64 - 1)
SCALARS = (
    st.text() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.binary() | st.none()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ATTRIBUTES = st.dictionaries(st.text(), VALUES, max_size=4)
RESOURCES = st.none() | st.builds(ResourceInfo, ATTRIBUTES, st.text(), st.integers(0, 99))
SCOPES = st.builds(ScopeInfo, st.text(), st.text(), ATTRIBUTES, st.text(), st.integers(0, 99))


@st.composite
def _events(draw: st.DrawFn) -> TelemetryEvent:
    body, severity = draw(VALUES), draw(st.integers(0, 24))
    scope = draw(st.none() | SCOPES)
    return TelemetryEvent(
        source=scope.name if scope else "",
        message=text_of_body(body),
        event_type=EventType.from_severity_number(severity),
        metadata=draw(ATTRIBUTES),
        time_unix_nano=draw(NANOS),
        observed_time_unix_nano=draw(NANOS),
        trace_id=draw(st.integers(0, 2**128 - 1)),
        span_id=draw(st.integers(0, 2**64 - 1)),
        trace_flags=draw(st.integers(0, 255)),
        severity_number=severity,
        severity_text=draw(st.text()),
        event_name=draw(st.text()),
        body=body,
        dropped_attributes_count=draw(st.integers(0, 2**32 - 1)),
        scope=scope,
        resource=draw(RESOURCES),
    )


@given(_events())
def test_an_event_comes_back_as_it_was(event: TelemetryEvent) -> None:
    """Any event comes back equal from a log record, types included."""
    back = event_from_log_record(log_record_from_event(event))
    assert back == event
    assert repr(back) == repr(event)
