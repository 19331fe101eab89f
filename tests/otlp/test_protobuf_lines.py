"""Lines in protobuf's binary form, against protobuf's own encoder and parsers, to the byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from rimp_otel.errors import DecodeError
from rimp_otel.models.records import Signal
from rimp_otel.otlp.protobuf import line_from_protobuf, protobuf_from_line
from rimp_otel.otlp.protobuf_lines import protobuf_of_line
from rimp_otel.otlp.protobuf_writer import FIELDS
from tests.otlp.test_protobuf import FOREIGN, MESSAGES, fill

OTHER_NAMES = {
    "Link": "Span.Link",
    "OtlpBuckets": "ExponentialHistogramDataPoint.Buckets",
    "OtlpExemplar": "Exemplar",
    "OtlpScope": "InstrumentationScope",
    "SpanEvent": "Span.Event",
    "ValueAtQuantile": "SummaryDataPoint.ValueAtQuantile",
}


def descriptor_of(name: str) -> Any:
    """Return protobuf's description of one of our messages."""
    first, *inner = OTHER_NAMES.get(name, name).split(".")
    for module in (common_pb2, resource_pb2, trace_pb2, logs_pb2, metrics_pb2):
        if first in module.DESCRIPTOR.message_types_by_name:
            found = module.DESCRIPTOR.message_types_by_name[first]
            return found.nested_types_by_name[inner[0]] if inner else found
    raise AssertionError(f"there is no message {name}")


@pytest.mark.parametrize("message", FIELDS, ids=lambda message: message.__name__)
def test_the_fields_are_those_of_the_proto_files(message):
    """Each field of each message, by its number, in the order of the numbers."""
    fields = [(field.number, field.name) for field in FIELDS[message]]
    expected = {
        (field.number, field.name)
        for field in descriptor_of(message.__name__).fields
        if field.name not in FOREIGN
    }
    assert fields == sorted(expected)


@pytest.mark.parametrize("signal", list(Signal))
@settings(suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_message_is_written_as_by_protobuf(signal, data):
    """Every field of every message, also with values that the SDK never makes."""
    message = MESSAGES[signal]()
    fill(data.draw, message, 0)
    line = line_from_protobuf(signal, message.SerializeToString())
    assert protobuf_of_line(signal, line) == message.SerializeToString(deterministic=True)


SPAN = {
    "traceId": "5b8efff798038103d269b633813fc60c",
    "spanId": "eee19b7ec3c1b174",
    "parentSpanId": "eee19b7ec3c1b173",
    "flags": 257,
    "name": "n",
    "kind": 3,
    "startTimeUnixNano": "1544712660000000000",
    "endTimeUnixNano": "1544712661000000000",
    "attributes": [{"key": "k", "value": {"stringValue": "v"}}],
    "status": {},
}
ODD_FIELDS = [
    {"traceId": "W47/95gDgQPSabYzgT/GDA==", "spanId": "7uGbfsPBsXQ=", "parentSpanId": None},
    {"traceId": "5B8EFFF798038103D269B633813FC60C"},
    {"traceId": ""},
    {"spanId": None},
    {"parentSpanId": ""},
    {"parentSpanId": "7uGbfsPBsXM="},
    {"flags": 0},
    {"flags": None},
    {"flags": 2**32 - 1},
    {"name": ""},
    {"name": None},
    {"name": 'caf\u00e9\n"\\' * 200},
    {"kind": "SPAN_KIND_CLIENT"},
    {"kind": 0},
    {"kind": 6},
    {"kind": None},
    {"startTimeUnixNano": "0"},
    {"endTimeUnixNano": 2**64 - 1},
    {"endTimeUnixNano": None},
    {"traceState": "a=b"},
    {"droppedAttributesCount": 1},
    {"droppedEventsCount": 1, "droppedLinksCount": 2},
    {"events": [{"name": "e", "timeUnixNano": 5, "attributes": SPAN["attributes"]}]},
    {"links": [{"traceId": SPAN["traceId"], "spanId": SPAN["spanId"], "flags": 1}]},
    {"status": {"code": 2, "message": "m"}},
    {"status": {"code": 1}},
    {"status": {"code": "STATUS_CODE_ERROR"}},
    {"status": None},
    {"unknown": [1, {"a": "b"}]},
    {"attributes": None},
    {"attributes": []},
]


@pytest.mark.parametrize("odd", ODD_FIELDS, ids=json.dumps)
@pytest.mark.parametrize("indent", [None, 1])
def test_an_odd_span_is_written_as_by_protobuf(odd, indent):
    """Also one between others, and with spaces in the line."""
    spans = [SPAN, {**SPAN, **odd}, SPAN]
    line = {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}
    text = json.dumps(line, indent=indent).encode()
    compact = json.dumps(line, separators=(",", ":")).encode()
    expected = protobuf_from_line(text).SerializeToString(deterministic=True)
    assert protobuf_of_line(Signal.TRACES, text) == expected
    assert protobuf_of_line(Signal.TRACES, compact) == expected


VALUES = [
    {"stringValue": ""},
    {"stringValue": 'a"b\\c\u00e9\n'},
    {"stringValue": '},{"key":'},
    {"stringValue": "x" * 20_000},
    {"intValue": "-1"},
    {"intValue": "9223372036854775807"},
    {"intValue": "-9223372036854775808"},
    {"intValue": 5},
    {"doubleValue": 1.5},
    {"doubleValue": "NaN"},
    {"doubleValue": -0.0},
    {"boolValue": False},
    {"bytesValue": "-_8"},
    {"arrayValue": {}},
    {"arrayValue": {"values": [{"stringValue": "a"}, {}, {"intValue": "1"}]}},
    {"kvlistValue": {"values": [{"key": "a", "value": {"stringValue": "x"}}]}},
    {
        "kvlistValue": {
            "values": [
                {"key": "a", "value": {"stringValue": "x"}},
                {"key": "b", "value": {"stringValue": "y"}},
            ]
        }
    },
    {"stringValue": "s", "intValue": "1"},
    {"intValue": "1", "stringValue": "s"},
    {"unknown": 1},
    {},
    None,
]
KEYS = ["k", "", 'a"b', "a\\b", "\u00e9", "x" * 300, None]


@pytest.mark.parametrize("key", KEYS, ids=str)
@pytest.mark.parametrize("value", VALUES, ids=lambda value: json.dumps(value)[:40])
def test_any_attribute_is_written_as_by_protobuf(key, value):
    """In any place of the list, and again once its text is known."""
    other = {"key": "o", "value": {"stringValue": "p"}}
    odd = {"key": key, "value": value}
    for attributes in ([odd], [odd, other], [other, odd, other, odd], [{"value": value}]):
        span = {**SPAN, "attributes": attributes}
        line = {"resourceSpans": [{"scopeSpans": [{"spans": [span, span]}]}]}
        text = json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode()
        expected = protobuf_from_line(text).SerializeToString(deterministic=True)
        assert protobuf_of_line(Signal.TRACES, text) == expected


@pytest.mark.parametrize(
    "attributes",
    [
        '[{"key":"a","value":{"stringValue":"x"}}},{"key":"b"}]',
        '[{"key":"a","value":{"intValue":"1.5"}}]',
        '[{"key":"a","value":{"intValue":"9223372036854775808"}}]',
        '[{"key":"a","value":{"intValue":"1_0"}}]',
        '[{"key":"a","value":{"intValue":"007"}}]',
        '[{"key":"a","value":{"intValue":" 1"}}]',
        '[{"key":"a","value":{"stringValue":5}}]',
        '[{"key":5}]',
        '{"key":"a"}',
        '"text"',
    ],
)
def test_attributes_that_are_not_otlp_are_refused(attributes):
    """As by protobuf's way."""
    line = f'{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"attributes":{attributes}}}]}}]}}]}}'
    for convert in (protobuf_from_line, lambda text: protobuf_of_line(Signal.TRACES, text)):
        with pytest.raises(DecodeError):
            convert(line.encode())


@pytest.mark.parametrize(
    "ids",
    [
        {"traceId": "5b8efff798038103d269b633813fc60c00", "spanId": "eee19b7ec3c1b1"},
        {"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b1"},
        {"traceId": "zb8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174"},
    ],
)
def test_ids_of_wrong_lengths_are_refused(ids):
    """Also two that have the right length together."""
    span = json.dumps({**SPAN, **ids})
    record = json.dumps(ids)
    for signal, line in (
        (Signal.TRACES, f'{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{span}]}}]}}]}}'),
        (Signal.LOGS, f'{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{record}]}}]}}]}}'),
    ):
        with pytest.raises(DecodeError, match="Id="):
            protobuf_of_line(signal, line.encode())


RECORD = {
    "timeUnixNano": "1544712660000000000",
    "observedTimeUnixNano": "1544712660000000001",
    "severityNumber": 9,
    "severityText": "INFO",
    "body": {"stringValue": "b"},
    "attributes": SPAN["attributes"],
    "flags": 1,
    "traceId": SPAN["traceId"],
    "spanId": SPAN["spanId"],
}
ODD_RECORDS = [
    {"timeUnixNano": None},
    {"timeUnixNano": "0", "observedTimeUnixNano": "0"},
    {"severityNumber": "SEVERITY_NUMBER_WARN"},
    {"severityNumber": None, "severityText": None},
    {"severityNumber": 0, "severityText": ""},
    {"severityText": "caf\u00e9"},
    *({"body": value} for value in VALUES),
    {"attributes": None},
    {"flags": None},
    {"traceId": "", "spanId": ""},
    {"traceId": None, "spanId": None},
    {"traceId": ""},
    {"spanId": ""},
    {"eventName": "e", "droppedAttributesCount": 3},
]


@pytest.mark.parametrize("odd", ODD_RECORDS, ids=lambda odd: json.dumps(odd)[:60])
def test_an_odd_log_record_is_written_as_by_protobuf(odd):
    """Each between others, in its short form and with spaces."""
    line = {"resourceLogs": [{"scopeLogs": [{"logRecords": [RECORD, {**RECORD, **odd}, RECORD]}]}]}
    check_line(Signal.LOGS, line)


POINT = {
    "startTimeUnixNano": "1",
    "timeUnixNano": "2",
    "asInt": "-3",
    "attributes": SPAN["attributes"],
}
ODD_POINTS = [
    {"startTimeUnixNano": None},
    {"timeUnixNano": 2**64 - 1},
    {"asDouble": 0.0},
    {"asDouble": "NaN", "asInt": None},
    {"asInt": None},
    {"asInt": 0},
    {"flags": 1},
    {
        "exemplars": [
            {"asDouble": 1.5, "asInt": "2", "timeUnixNano": "3", "traceId": SPAN["traceId"]}
        ]
    },
    {"attributes": []},
    {"attributes": None},
    *({"attributes": [{"key": "k", "value": value}]} for value in VALUES),
]


@pytest.mark.parametrize("odd", ODD_POINTS, ids=lambda odd: json.dumps(odd)[:60])
@pytest.mark.parametrize("kind", ["gauge", "sum"])
def test_an_odd_point_is_written_as_by_protobuf(kind, odd):
    """Each between others, in its short form and with spaces."""
    metric = {"name": "m", kind: {"dataPoints": [POINT, {**POINT, **odd}, POINT]}}
    check_line(Signal.METRICS, {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]})


def check_line(signal, line):
    """Compare with protobuf's way, twice: the second time, more is known by its text."""
    for separators in ((",", ":"), (",", ":"), None):
        text = json.dumps(line, separators=separators, ensure_ascii=False).encode()
        expected = protobuf_from_line(text).SerializeToString(deterministic=True)
        assert protobuf_of_line(signal, text) == expected


def nested_line(depth: int) -> bytes:
    """Return a line with a span's attribute of so many arrays within each other."""
    value = '{"arrayValue":{"values":[' * depth + "]}}" * depth
    span = f'{{"attributes":[{{"key":"k","value":{value}}}]}}'
    return f'{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{span}]}}]}}]}}'.encode()


def test_what_protobuf_cannot_express_is_refused():
    """Nested to protobuf's limit it is written, and its parser reads it; more raises DecodeError."""
    most = max(n for n in range(60) if _is_written(nested_line(n)))
    data = protobuf_of_line(Signal.TRACES, nested_line(most))
    assert trace_pb2.TracesData.FromString(data)
    assert most == 47
    for depth in (48, 1_000, 100_000):
        with pytest.raises(DecodeError, match="nested too deeply"):
            protobuf_of_line(Signal.TRACES, nested_line(depth))


def _is_written(line: bytes) -> bool:
    try:
        return bool(protobuf_of_line(Signal.TRACES, line))
    except DecodeError:
        return False


def test_what_is_no_utf_8_is_repaired():
    """Protobuf's parsers would refuse the whole request."""
    attribute = b'[{"key":"k","value":{"stringValue":"a\xff"}},{"key":"l","value":{"stringValue":"\\ud800"}}]'
    line = b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":%b}]}]}]}' % attribute
    message = trace_pb2.TracesData.FromString(protobuf_of_line(Signal.TRACES, line))
    (span,) = message.resource_spans[0].scope_spans[0].spans
    assert [pair.value.string_value for pair in span.attributes] == ["a\ufffd", "\ufffd"]


def test_field_types_are_known():
    """No field of OTLP has a type that has no test here."""
    types = {field.type for message in FIELDS for field in descriptor_of(message.__name__).fields}
    assert FieldDescriptor.TYPE_GROUP not in types
