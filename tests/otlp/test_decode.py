"""Decoding OTLP JSON: the record that each field becomes, and the lines that are refused."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, SpanKind, StatusCode

from rimp_otel.errors import DecodeError
from rimp_otel.models.records import (
    Buckets,
    EventType,
    Exemplar,
    ExponentialHistogramPoint,
    HistogramPoint,
    MetricKind,
    ResourceInfo,
    ScopeInfo,
    Signal,
    SummaryPoint,
    TelemetryEvent,
    TelemetryMetric,
    Temporality,
)
from rimp_otel.otlp import decode_common, decode_spans
from rimp_otel.otlp.decode import decode_line
from rimp_otel.otlp.scan import count_records, signal_of_line

TRACE_ID = "5b8efff798038103d269b633813fc60c"
SPAN_ID = "eee19b7ec3c1b174"


def line_of(
    signal: Signal, *records: dict[str, Any], resource: Any = None, scope: Any = None
) -> str:
    """Return a line with one resource and one scope."""
    group = {"resource": resource, signal.scope_key: [{"scope": scope, signal.record_key: records}]}
    return json.dumps({signal.resource_key: [group]})


def span_of(**fields: Any) -> Any:
    """Return the span of a line with these fields."""
    (span,) = decode_line(line_of(Signal.TRACES, fields)).records
    return span


def event_of(**fields: Any) -> TelemetryEvent:
    """Return the event of a line with these fields."""
    (event,) = decode_line(line_of(Signal.LOGS, fields)).records
    return event


def metric_of(**fields: Any) -> TelemetryMetric:
    """Return the metric point of a line with one data point."""
    (metric,) = decode_line(line_of(Signal.METRICS, fields)).records
    return metric


def reason_of(line: str) -> str | None:
    """Return why a line is refused; None if it is not."""
    try:
        decode_line(line)
    except DecodeError as error:
        return error.reason
    return None


def attribute(key: str, **value: Any) -> dict[str, Any]:
    """Return an attribute as it stands in JSON."""
    return {"key": key, "value": value}


def test_an_sdk_like_span_is_a_plain_readable_span():
    """A span that the SDK could have made needs no subclass, and has all its fields."""
    span = span_of(
        traceId=TRACE_ID,
        spanId=SPAN_ID,
        parentSpanId="00000000000000ff",
        traceState="a=1,b=2",
        flags=0x301,
        name="GET /",
        kind=2,
        startTimeUnixNano="1544712660000000000",
        endTimeUnixNano=1544712661000000000,
        attributes=[attribute("n", intValue="8")],
        droppedAttributesCount=3,
        status={"code": 2, "message": "failed"},
    )
    assert type(span) is ReadableSpan
    assert span.name == "GET /"
    assert span.context.trace_id == 0x5B8EFFF798038103D269B633813FC60C
    assert span.context.span_id == 0xEEE19B7EC3C1B174
    assert span.context.trace_flags == 1
    assert not span.context.is_remote
    assert dict(span.context.trace_state) == {"a": "1", "b": "2"}
    assert (span.parent.trace_id, span.parent.span_id) == (span.context.trace_id, 255)
    assert span.parent.is_remote
    assert span.kind is SpanKind.SERVER
    assert (span.start_time, span.end_time) == (1544712660000000000, 1544712661000000000)
    assert dict(span.attributes) == {"n": 8}
    assert span.dropped_attributes == 3
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "failed"


def test_a_span_of_nothing_has_the_defaults():
    """All fields may be missing: ids and times are 0, and the subclass keeps what was missing."""
    span = span_of()
    assert isinstance(span, decode_spans.RecordedSpan)
    assert (span.otlp_flags, span.otlp_kind, span.kind) == (0, 0, SpanKind.INTERNAL)
    assert (span.name, span.start_time, span.end_time, span.parent) == ("", 0, 0, None)
    assert (span.context.trace_id, span.context.span_id) == (0, 0)
    assert (span.events, span.links, dict(span.attributes)) == ((), (), {})


@pytest.mark.parametrize("kind", [0, 6, 2**31 - 1])
def test_a_kind_that_the_sdk_lacks_is_kept(kind):
    """A kind that the SDK does not know is kept by the subclass as a number."""
    assert (span_of(kind=kind).otlp_kind, span_of(kind=kind, flags=256).otlp_flags) == (kind, None)


@pytest.mark.parametrize(
    ("flags", "parent", "kept"),
    [
        (0x100, "", None),
        (0x101, SPAN_ID, None),
        (0x303, SPAN_ID, None),
        (0x1FF, "", None),
        (0x300, "", 0x300),
        (0x001, SPAN_ID, 0x001),
        (0x10100, "", 0x10100),
    ],
)
def test_flags_are_kept_where_the_contexts_do_not_tell_them(flags, parent, kept):
    """Flags need the subclass only if they differ from those that would be written."""
    span = span_of(flags=flags, parentSpanId=parent, kind=1)
    assert getattr(span, "otlp_flags", None) == kept
    assert span.context.trace_flags == flags & 0xFF


def test_attribute_values_of_a_span():
    """Each kind of value is decoded, arrays as tuples; the last value of a repeated key counts."""
    values = [
        attribute("s", stringValue=""),
        attribute("b", boolValue=False),
        attribute("i", intValue="-9223372036854775808"),
        attribute("d", doubleValue=-0.5),
        attribute("y", bytesValue="-_8"),
        attribute("a", arrayValue={"values": [{"intValue": 1}, {}, {"arrayValue": {}}]}),
        attribute("m", kvlistValue={"values": [attribute("k", arrayValue={"values": []})]}),
        attribute("none"),
        {"key": "missing"},
        {"value": {"stringValue": "no key"}},
        attribute("s", stringValue="last"),
    ]
    attributes = dict(span_of(attributes=values).attributes)
    assert attributes == {
        "s": "last",
        "b": False,
        "i": -(2**63),
        "d": -0.5,
        "y": b"\xfb\xff",
        "a": (1, None, ()),
        "m": {"k": ()},
        "none": None,
        "missing": None,
        "": "no key",
    }


@pytest.mark.parametrize(
    ("written", "value"),
    [("Infinity", math.inf), ("-Infinity", -math.inf), (1, 1.0), ("1.5", 1.5)],
)
def test_doubles_may_be_strings(written, value):
    """The infinities, for which JSON has no number, are read from strings."""
    assert event_of(body={"doubleValue": written}).body == value


def test_not_a_number_is_a_double():
    """NaN is read from a string."""
    assert math.isnan(event_of(body={"doubleValue": "NaN"}).body)


def test_events_and_links_with_what_was_dropped():
    """The SDK's fields hold the counts of dropped items."""
    lost = {"attributes": [attribute("k", stringValue="v")], "droppedAttributesCount": 1}
    span = span_of(
        events=[{"timeUnixNano": "7", "name": "e", **lost}],
        droppedEventsCount=2,
        links=[{"traceId": TRACE_ID, "spanId": SPAN_ID, "flags": 0x301, **lost}],
        droppedLinksCount=3,
    )
    (event,), (link,) = span.events, span.links
    assert (type(event), event.name, event.timestamp, event.dropped_attributes) == (
        Event,
        "e",
        7,
        1,
    )
    assert dict(event.attributes) == dict(link.attributes) == {"k": "v"}
    assert (type(link), link.context.is_remote) == (Link, True)
    assert (link.context.span_id, link.context.trace_flags) == (0xEEE19B7EC3C1B174, 1)
    assert (link.dropped_attributes, span.dropped_events, span.dropped_links) == (1, 2, 3)


def test_dropped_events_without_any_left():
    """A count of dropped events is kept although no event is left."""
    assert span_of(droppedEventsCount=2).dropped_events == 2
    assert span_of().dropped_events == 0


def test_link_flags_that_its_context_does_not_tell_are_kept():
    """A link without flags keeps that, although the SDK would write some."""
    (link,) = span_of(links=[{"traceId": TRACE_ID, "spanId": SPAN_ID}]).links
    assert isinstance(link, decode_spans.RecordedLink)
    assert link.otlp_flags == 0


def test_what_the_sdk_would_log_and_drop_is_kept_silently(caplog):
    """A description without an error, empty keys, and foreign trace state entries are kept without a log message."""
    span = span_of(
        status={"code": "STATUS_CODE_OK", "message": "fine"},
        traceState="UPPER=1, b=2,,b=3,odd",
        attributes=[attribute("", stringValue="v")],
    )
    assert (span.status.status_code, span.status.description) == (StatusCode.OK, "fine")
    assert dict(span.context.trace_state) == {"UPPER": "1", "b": "2", "odd": ""}
    assert dict(span.attributes) == {"": "v"}
    assert caplog.records == []


def test_without_the_private_fields_the_public_constructors_do(monkeypatch):
    """An SDK that keeps its values elsewhere gets them by its public constructors."""
    monkeypatch.setattr(decode_common, "_SETS_ATTRIBUTES", False)
    monkeypatch.setattr(decode_spans, "_SETS_STATES", False)
    span = span_of(
        attributes=[attribute("k", intValue=1)], droppedAttributesCount=2, traceState="public=1"
    )
    assert isinstance(span._attributes, BoundedAttributes)
    assert (dict(span.attributes), span.dropped_attributes) == ({"k": 1}, 2)
    assert dict(span.context.trace_state) == {"public": "1"}


def test_resource_and_scope_of_a_span():
    """A span's resource and scope have their attributes, schema URLs, and counts of dropped attributes."""
    group = {
        "resource": {"attributes": [attribute("r", arrayValue={"values": []})]},
        "schemaUrl": "https://r",
        "scopeSpans": [
            {
                "scope": {
                    "name": "lib",
                    "version": "2",
                    "attributes": [attribute("s", intValue=1)],
                },
                "schemaUrl": "https://s",
                "spans": [{}],
            }
        ],
    }
    (span,) = decode_line(json.dumps({"resourceSpans": [group]})).records
    resource, scope = span.resource, span.instrumentation_scope
    assert (dict(resource.attributes), resource.schema_url) == ({"r": ()}, "https://r")
    assert (scope.name, scope.version, scope.schema_url) == ("lib", "2", "https://s")
    assert dict(scope.attributes) == {"s": 1}
    assert not hasattr(resource, "dropped_attributes_count")


def test_resource_and_scope_that_lost_attributes():
    """Subclasses hold the counts of dropped attributes, for which the SDK has no field."""
    lost = {"droppedAttributesCount": 4}
    (span,) = decode_line(line_of(Signal.TRACES, {}, resource=lost, scope=lost)).records
    assert span.resource.dropped_attributes_count == 4
    assert span.instrumentation_scope.dropped_attributes_count == 4


@pytest.mark.parametrize("signal", list(Signal))
def test_equal_resources_and_scopes_are_one_object(signal):
    """Equal resources and scopes are one object, within a line and across lines."""
    records = [{"name": "m", "gauge": {"dataPoints": [{}]}}] if signal is Signal.METRICS else [{}]
    resource = {"attributes": [attribute("shared", stringValue=signal.value)]}
    scope = {"name": "shared"}
    line = line_of(signal, *records * 2, resource=resource, scope=scope)
    first, second, third, _ = decode_line(line).records + decode_line(line).records
    scope_name = "instrumentation_scope" if signal is Signal.TRACES else "scope"
    assert first.resource is second.resource is third.resource
    assert getattr(first, scope_name) is getattr(second, scope_name) is getattr(third, scope_name)


def test_the_cache_of_resources_stays_small(monkeypatch):
    """A recording with ever new resources does not fill the memory."""
    monkeypatch.setattr(decode_common._resources, "size", 3)
    for number in range(10):
        decode_line(line_of(Signal.TRACES, {}, resource={"droppedAttributesCount": number}))
    assert len(decode_common._resources) <= 3


def test_a_log_record_is_an_event():
    """All fields of a log record are in the event, with resource and scope."""
    record = {
        "timeUnixNano": "1544712660300000000",
        "observedTimeUnixNano": "1544712660300000001",
        "severityNumber": 13,
        "severityText": "warn",
        "body": {"stringValue": "disk is full"},
        "attributes": [attribute("a", arrayValue={"values": [{"boolValue": True}]})],
        "droppedAttributesCount": 1,
        "flags": 1,
        "traceId": TRACE_ID.upper(),
        "spanId": SPAN_ID,
        "eventName": "disk",
    }
    scope = {"name": "lib", "version": "1", "droppedAttributesCount": 3}
    resource = {"attributes": [attribute("service.name", stringValue="shop")]}
    decoded = decode_line(line_of(Signal.LOGS, record, resource=resource, scope=scope))
    assert decoded.signal is Signal.LOGS
    assert decoded.records == [
        TelemetryEvent(
            source="lib",
            message="disk is full",
            event_type=EventType.WARNING,
            metadata={"a": [True]},
            time_unix_nano=1544712660300000000,
            observed_time_unix_nano=1544712660300000001,
            trace_id=0x5B8EFFF798038103D269B633813FC60C,
            span_id=0xEEE19B7EC3C1B174,
            trace_flags=1,
            severity_number=13,
            severity_text="warn",
            event_name="disk",
            dropped_attributes_count=1,
            scope=ScopeInfo("lib", "1", {}, "", 3),
            resource=ResourceInfo({"service.name": "shop"}),
        )
    ]


@pytest.mark.parametrize(
    ("body", "value", "message"),
    [
        (None, None, ""),
        ({}, None, ""),
        ({"stringValue": ""}, "", ""),
        ({"intValue": "5"}, 5, "5"),
        ({"bytesValue": "AAE="}, b"\0\1", '"AAE="'),
        (
            {"kvlistValue": {"values": [attribute("ä", arrayValue={"values": [{"intValue": 1}]})]}},
            {"ä": [1]},
            '{"ä":[1]}',
        ),
    ],
)
def test_a_body_is_kept_and_shown_as_a_message(body, value, message):
    """The message of a body that is not text is compact JSON; no body has an empty message."""
    event = event_of(body=body)
    assert (event.body, event.message) == (value, message)


def test_an_event_of_nothing_has_the_defaults():
    """An unspecified severity stays unspecified, and is shown as information."""
    event = event_of()
    assert (event.severity_number, event.event_type, event.source) == (0, EventType.INFO, "")
    assert (event.time_unix_nano, event.trace_id, event.span_id, event.metadata) == (0, 0, 0, {})


def test_number_points():
    """A sum is one metric point for each of its points; integers stay integers."""
    points = [
        {"asInt": "5", "timeUnixNano": "2", "startTimeUnixNano": "1"},
        {"asDouble": 2.5, "attributes": [attribute("k", stringValue="v")]},
        {"flags": 1},
    ]
    metric = {
        "name": "jobs",
        "unit": "1",
        "description": "Jobs",
        "metadata": [attribute("m", intValue=1)],
        "sum": {"dataPoints": points, "aggregationTemporality": 2, "isMonotonic": True},
    }
    first, second, third = decode_line(line_of(Signal.METRICS, metric)).records
    assert first == TelemetryMetric(
        name="jobs",
        value=5,
        unit="1",
        time_unix_nano=2,
        start_time_unix_nano=1,
        kind=MetricKind.SUM,
        temporality=Temporality.CUMULATIVE,
        is_monotonic=True,
        description="Jobs",
        metric_metadata={"m": 1},
        scope=ScopeInfo(),
        resource=ResourceInfo(),
    )
    assert type(first.value) is int
    assert (second.value, second.tags) == (2.5, {"k": "v"})
    assert (math.isnan(third.value), third.flags, third.has_value) == (True, 1, False)


def test_a_histogram_point():
    """A histogram's value is its sum; its point is the distribution."""
    point = {
        "count": "3",
        "sum": 0,
        "bucketCounts": ["1", 2],
        "explicitBounds": [0.5],
        "min": -1.0,
        "exemplars": [
            {
                "asInt": "7",
                "timeUnixNano": "9",
                "traceId": TRACE_ID,
                "spanId": SPAN_ID,
                "filteredAttributes": [attribute("f", boolValue=True)],
            }
        ],
    }
    metric = metric_of(name="h", histogram={"dataPoints": [point], "aggregationTemporality": 1})
    assert (metric.value, metric.kind, metric.temporality) == (
        0.0,
        MetricKind.HISTOGRAM,
        Temporality.DELTA,
    )
    assert metric.point == HistogramPoint(3, 0.0, (1, 2), (0.5,), -1.0, None)
    assert metric.exemplars == [
        Exemplar(7, 9, 0x5B8EFFF798038103D269B633813FC60C, 0xEEE19B7EC3C1B174, {"f": True})
    ]


def test_a_histogram_without_a_sum_has_no_number():
    """Without a sum, a histogram's value is NaN."""
    assert math.isnan(metric_of(histogram={"dataPoints": [{"count": 1}]}).value)


def test_an_exponential_histogram_point():
    """An exponential histogram has buckets, scale and the zero bucket with its threshold."""
    point = {
        "count": "6",
        "sum": 1.5,
        "scale": -3,
        "zeroCount": "1",
        "zeroThreshold": 0.25,
        "positive": {"offset": -2, "bucketCounts": ["2", "3"]},
        "max": 4,
    }
    metric = metric_of(exponentialHistogram={"dataPoints": [point]})
    assert metric.point == ExponentialHistogramPoint(
        6, 1.5, -3, 1, 0.25, Buckets(-2, (2, 3)), None, None, 4.0
    )


def test_a_summary_point():
    """A summary's quantiles are pairs; a quantile of 0, which protobuf leaves out, is 0."""
    quantiles = [{"value": 1.0}, {"quantile": 0.5, "value": 2.0}]
    metric = metric_of(
        summary={"dataPoints": [{"count": 2, "sum": 3, "quantileValues": quantiles}]}
    )
    assert (metric.kind, metric.value) == (MetricKind.SUMMARY, 3.0)
    assert metric.point == SummaryPoint(2, 3.0, ((0.0, 1.0), (0.5, 2.0)))


@pytest.mark.parametrize(
    ("trace_id", "span_id"),
    [
        (TRACE_ID, SPAN_ID),
        (TRACE_ID.upper(), SPAN_ID.upper()),
        ("W47/95gDgQPSabYzgT/GDA==", "7uGbfsPBsXQ="),
        ("W47/95gDgQPSabYzgT/GDA", "7uGbfsPBsXQ"),
        ("W47_95gDgQPSabYzgT_GDA==", "7uGbfsPBsXQ="),
    ],
)
def test_ids_are_hex_or_base64(trace_id, span_id):
    """Hex of either case and base64 of either alphabet are the same id."""
    context = span_of(traceId=trace_id, spanId=span_id).context
    assert (context.trace_id, context.span_id) == (
        0x5B8EFFF798038103D269B633813FC60C,
        0xEEE19B7EC3C1B174,
    )


@pytest.mark.parametrize(
    "trace_id",
    [
        "zzz",
        TRACE_ID[:-1],
        TRACE_ID + "0",
        TRACE_ID[:-1] + "g",
        "0x" + TRACE_ID[2:],
        TRACE_ID[:-2] + " 0",
        "1_" * 16,
        "٣" * 32,
        "W47/95gDgQPSabYzgT/GDA=",
        "W47/95gDgQPSabYzgT/GDB==",
        "W47/95gDgQPSabYzgT/GDA====",
        "W47/95gDgQPSabYz gT/GDA==",
        "7uGbfsPBsXQ=",
    ],
)
def test_an_id_that_is_neither_is_refused_by_name(trace_id):
    """The reason names the field and the value of a wrong id."""
    with pytest.raises(DecodeError) as caught:
        span_of(traceId=trace_id)
    assert caught.value.reason == (
        f"traceId={trace_id!r} is neither 32 hex digits nor base64 of 16 bytes"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Input data was truncated"),
        ("{}", "none of the keys: resourceSpans, resourceLogs, resourceMetrics"),
        ("[]", "Expected `object`, got `array`"),
        ('{"resourceSpans":[', "Input data was truncated"),
        ('{"resourceSpans":[]}\0\0\0', "holds NUL bytes: a torn or damaged line"),
        ("\0" * 8, "holds NUL bytes: a torn or damaged line"),
        (
            '{"resourceSpans":[],"resourceLogs":[]}',
            "several signals in one line: resourceSpans, resourceLogs",
        ),
        ('{"resourceSpans":{}}', "Expected `array | null`, got `object` - at `$.resourceSpans`"),
        (
            '{"resourceSpans":' + "[" * 50_000,
            "Expected `object`, got `array` - at `$.resourceSpans[0]`",
        ),
        ('{"x":' + "[" * 50_000, "nested too deeply"),
    ],
)
def test_what_is_not_otlp_json_is_refused_with_a_reason(text, reason):
    """The reason says what is wrong; text and bytes are refused alike."""
    for given_text in (text, text.encode()):
        with pytest.raises(DecodeError) as caught:
            decode_line(given_text)
        assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"kind": "SPAN_KIND_ODD"}, "kind='SPAN_KIND_ODD' is not a name that OTLP defines"),
        ({"kind": -1}, "Expected `int` >= 0"),
        ({"status": {"code": 3}}, "Expected `int` <= 2"),
        ({"name": 5}, "Expected `str | null`, got `int`"),
        ({"flags": 2**32}, "Expected `int` <= 4294967295"),
        ({"startTimeUnixNano": "-1"}, "Expected `int` >= 0"),
        (
            {"endTimeUnixNano": str(2**64)},
            "endTimeUnixNano=18446744073709551616 is larger than 64 bits",
        ),
        ({"startTimeUnixNano": "1_0"}, "Expected `int | null`, got `str`"),
        (
            {"attributes": [attribute("b", boolValue="true")]},
            "boolValue='true' is not true or false",
        ),
        ({"attributes": [attribute("b", boolValue=1)]}, "boolValue=1 is not true or false"),
        ({"attributes": [attribute("i", intValue=2**63)]}, "Expected `int` <= 9223372036854775807"),
        ({"attributes": [attribute("y", bytesValue="*")]}, "bytesValue='*' is not base64"),
        ({"attributes": [attribute("y", bytesValue="A" * 99 + "*")]}, "AAA... is not base64"),
        ({"attributes": [None]}, "Expected `object`, got `null`"),
        ({"events": {}}, "Expected `array | null`, got `object`"),
    ],
)
def test_a_wrong_field_is_refused_with_a_reason(fields, part):
    """One wrong field is enough to refuse a line."""
    with pytest.raises(DecodeError) as caught:
        span_of(**fields)
    assert part in caught.value.reason


def test_metrics_that_are_refused():
    """Points of two kinds, counts past 64 bits, and an unknown temporality are refused."""
    with pytest.raises(DecodeError, match="points of one kind only"):
        metric_of(gauge={}, sum={})
    with pytest.raises(DecodeError, match="bucketCounts=18446744073709551616"):
        metric_of(histogram={"dataPoints": [{"bucketCounts": [str(2**64)]}]})
    with pytest.raises(DecodeError, match="aggregationTemporality='X' is not a name"):
        metric_of(sum={"aggregationTemporality": "X"})


@pytest.mark.parametrize("place", ["resource", "scope"])
def test_a_wrong_resource_or_scope_is_refused(place):
    """The reason tells a wrong resource from a wrong scope, which are decoded apart from the line."""
    with pytest.raises(DecodeError) as caught:
        decode_line(line_of(Signal.TRACES, {}, **{place: []}))
    assert caught.value.reason == f"{place}: Expected `object | null`, got `array`"


def test_a_value_nested_too_deeply_is_refused():
    """A value that is nested too deeply raises DecodeError, at whatever depth."""
    for depth in (100, 300, 1_000, 20_000):
        value = '{"arrayValue":{"values":[' * depth + "]}}" * depth
        line = f'{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"body":{value}}}]}}]}}]}}'
        assert reason_of(line) in (None, "nested too deeply")


def test_nulls_and_unknown_fields_are_the_default():
    """Nulls and unknown fields are read as defaults, as OTLP demands."""
    line = '{"new":1,"resourceSpans":[{"resource":null,"scopeSpans":null,"x":[{}]},{"scopeSpans":[{"scope":null,"spans":[{"name":null,"attributes":null,"new":{"a":[]}}]}]}]}'
    (span,) = decode_line(line).records
    assert (span.name, dict(span.attributes)) == ("", {})
    assert decode_line('{"resourceLogs":null}') == (Signal.LOGS, [])


def test_records_are_in_the_order_of_the_line():
    """Records keep the order of the line, across resources and scopes."""
    scope = [{"spans": [{"name": "a"}, {"name": "b"}]}, {"spans": [{"name": "c"}]}]
    line = json.dumps({"resourceSpans": [{"scopeSpans": scope}, {"scopeSpans": scope[1:]}]})
    assert [span.name for span in decode_line(line).records] == ["a", "b", "c", "c"]


@pytest.mark.parametrize("signal", list(Signal))
@pytest.mark.parametrize("head", ["{", ' {\n"later": 1, ', '{"long":"' + "x" * 500 + '",'])
def test_signal_of_a_line(signal, head):
    """The first key tells the signal, or else the whole line; text and bytes alike."""
    line = f'{head}"{signal.resource_key}" : []}}'
    assert signal_of_line(line) is signal_of_line(line.encode()) is signal


@pytest.mark.parametrize("text", ["", "{}", "null", '{"resourceSpan":[]}', "\ud800", "\0"])
def test_signal_of_something_else_is_refused(text):
    """A text without a signal is refused."""
    with pytest.raises(DecodeError):
        signal_of_line(text)
    with pytest.raises(DecodeError):
        count_records(text)


def test_count_records():
    """Records are counted, for metrics their data points."""
    metrics = [
        {"gauge": {"dataPoints": [{}, {}]}},
        {"summary": {"dataPoints": [{}]}},
        {"sum": {}},
        {},
    ]
    assert count_records(line_of(Signal.METRICS, *metrics)) == 3
    assert count_records(line_of(Signal.TRACES, {}, {}).encode()) == 2
    assert count_records(line_of(Signal.LOGS, {})) == 1
    assert count_records('{"resourceLogs":null}') == 0


SAMPLE = line_of(
    Signal.TRACES,
    {
        "traceId": TRACE_ID,
        "spanId": SPAN_ID,
        "kind": 1,
        "flags": 257,
        "startTimeUnixNano": "5",
        "attributes": [attribute("k", arrayValue={"values": [{"bytesValue": "AA=="}]})],
        "links": [{"traceId": TRACE_ID}],
        "status": {"code": 1},
    },
    resource={"attributes": [attribute("r", doubleValue="NaN")]},
).encode()


@given(st.binary() | st.text())
def test_random_input_raises_nothing_else(data):
    """Random input raises DecodeError and nothing else."""
    for read in (decode_line, count_records):
        with pytest.raises(DecodeError):
            read(data)
    with contextlib.suppress(DecodeError):
        assert signal_of_line(data).resource_key.encode() in (
            data if isinstance(data, bytes) else data.encode(errors="replace")
        )


@given(st.integers(0, len(SAMPLE)), st.integers(0, 40), st.binary(max_size=8))
def test_a_damaged_line_raises_nothing_else(start, length, inserted):
    """A damaged line is read or refused; if it is read, its records are counted alike."""
    damaged = SAMPLE[:start] + inserted + SAMPLE[start + length :]
    try:
        records = decode_line(damaged).records
    except DecodeError:
        return
    assert len(records) == count_records(damaged)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


@given(st.data())
def test_a_line_with_a_wrong_value_raises_nothing_else(data):
    """A line with any JSON value in any field is read or refused."""
    line = json.loads(SAMPLE)
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        for key in value if isinstance(value, dict) else range(len(value)):
            places.append((value, key))
            if isinstance(value[key], (dict, list)):
                walk(value[key])

    walk(line)
    owner, key = data.draw(st.sampled_from(range(len(places))).map(places.__getitem__))
    owner[key] = data.draw(json_values)
    assert reason_of(json.dumps(line)) != ""
