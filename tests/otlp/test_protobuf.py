"""OTLP protobuf and strict OTLP JSON, checked with protobuf's own parsers."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData
from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from rimp_otel.errors import DecodeError, MissingExtraError
from rimp_otel.models.records import Signal
from rimp_otel.otlp.decode import decode_line
from rimp_otel.otlp.protobuf import line_from_protobuf, normalize_line, protobuf_from_line
from rimp_otel.otlp.scan import count_records

MESSAGES = {Signal.TRACES: TracesData, Signal.LOGS: LogsData, Signal.METRICS: MetricsData}
ID_SIZES = {"trace_id": 16, "span_id": 8, "parent_span_id": 8}
# Of the profiling signal: the others are to read them as not there.
FOREIGN = {"string_value_strindex", "key_strindex"}
MAX_DEPTH = 12


def test_a_message_becomes_a_line_and_comes_back():
    """One span goes through the line and back."""
    data = TracesData()
    span = data.resource_spans.add().scope_spans.add().spans.add()
    span.trace_id, span.span_id, span.kind = b"\1" * 16, b"\2" * 8, 2
    line = line_from_protobuf(Signal.TRACES, data.SerializeToString())
    assert line == (
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"01010101010101010101010101010101",'
        b'"spanId":"0202020202020202","kind":2}]}]}]}'
    )
    assert protobuf_from_line(line) == data


@pytest.mark.parametrize("signal", list(Signal))
def test_an_empty_message_is_a_line_of_its_signal(signal):
    """The line of an empty message tells its signal."""
    line = line_from_protobuf(signal, b"")
    assert json.loads(line) == {signal.resource_key: []}
    assert protobuf_from_line(line) == MESSAGES[signal]()


@pytest.mark.parametrize("data", [b"\x0a\xff", b"{}", b"\xff" * 40])
def test_bytes_that_are_no_message_are_refused(data):
    """Damaged protobuf raises DecodeError."""
    with pytest.raises(DecodeError, match="not OTLP protobuf"):
        line_from_protobuf(Signal.TRACES, data)


def test_an_id_of_a_wrong_length_is_refused():
    """An id of a wrong length, which protobuf allows, is refused."""
    data = TracesData()
    data.resource_spans.add().scope_spans.add().spans.add().trace_id = b"short"
    with pytest.raises(DecodeError, match="traceId="):
        line_from_protobuf(Signal.TRACES, data.SerializeToString())


def test_a_line_that_is_too_deep_for_protobuf_is_refused():
    """A line with more than 100 nested messages is refused."""
    value = '{"arrayValue":{"values":[' * 60 + "]}}" * 60
    with pytest.raises(DecodeError, match="deep"):
        protobuf_from_line(
            f'{{"resourceLogs":[{{"resource":{{"attributes":[{{"value":{value}}}]}}}}]}}'
        )


@pytest.mark.parametrize("missing", ["google.protobuf.json_format", "opentelemetry.proto.trace.v1"])
def test_a_missing_extra_says_how_to_install_it(monkeypatch, missing):
    """Without protobuf, the error names the extra."""
    for name in [name for name in sys.modules if name.startswith(missing)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'rimp-otel\[protobuf\]'"):
        line_from_protobuf(Signal.TRACES, b"")


SCALARS = {
    FieldDescriptor.TYPE_STRING: st.text(max_size=4),
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=5),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_DOUBLE: st.floats(allow_nan=False) | st.just(float("nan")),
    FieldDescriptor.TYPE_ENUM: st.integers(0, 2),
    FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SINT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED32: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SFIXED64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.TYPE_FIXED64: st.integers(0, 2**64 - 1),
}


def fill(draw: Any, message: Any, depth: int) -> None:
    """Set some of the fields of a message to anything that OTLP allows."""
    descriptor: Descriptor = message.DESCRIPTOR
    groups = [[f for f in group.fields if len(group.fields) > 1] for group in descriptor.oneofs]
    grouped = {field.name for group in groups for field in group}
    fields = [field for field in descriptor.fields if field.name not in grouped]
    fields += [draw(st.sampled_from(group)) for group in groups if group]
    for field in fields:
        # The way down to the records is always taken, so that there are some.
        goes_down = depth < 3 and field.type == FieldDescriptor.TYPE_MESSAGE
        wanted = goes_down or draw(st.booleans())
        if wanted and field.name not in FOREIGN and depth < MAX_DEPTH:
            fill_field(draw, message, field, depth)


def fill_field(draw: Any, message: Any, field: Any, depth: int) -> None:
    """Set one field."""
    is_list = hasattr(getattr(message, field.name), "extend")
    count = draw(st.integers(1, 2)) if is_list else 1
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        for _ in range(count):
            target = getattr(message, field.name)
            target = target.add() if is_list else target
            target.SetInParent()
            fill(draw, target, depth + 1)
        return
    size = ID_SIZES.get(field.name)
    values = SCALARS[field.type] if size is None else st.binary(min_size=size, max_size=size)
    if is_list:
        getattr(message, field.name).extend(draw(st.lists(values, max_size=3)))
    else:
        setattr(message, field.name, draw(values))


@pytest.mark.parametrize("signal", list(Signal))
@settings(suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_message_comes_back_as_it_was(signal, data):
    """Every field of every message goes through the line and back, and its records decode."""
    message = MESSAGES[signal]()
    fill(data.draw, message, 0)
    line = line_from_protobuf(signal, message.SerializeToString())
    # As bytes: a NaN is not equal to itself.
    back = protobuf_from_line(line).SerializeToString(deterministic=True)
    assert back == message.SerializeToString(deterministic=True)
    decoded = decode_line(line)
    assert (decoded.signal, len(decoded.records)) == (signal, count_records(line))


DIALECT = {
    "resourceSpans": [
        {
            "resource": {"attributes": [{"key": "r", "value": {"intValue": 5}}]},
            "scopeSpans": [
                {
                    "spans": [
                        {
                            "traceId": "W47/95gDgQPSabYzgT/GDA==",
                            "spanId": "EEE19B7EC3C1B174",
                            "parentSpanId": "",
                            "kind": "SPAN_KIND_CLIENT",
                            "name": None,
                            "startTimeUnixNano": 1544712660000000000,
                            "droppedEventsCount": "3",
                            "attributes": [{"key": "b", "value": {"bytesValue": "-_8"}}],
                            "status": {"code": "STATUS_CODE_ERROR"},
                            "unknown": {"a": 1},
                        }
                    ],
                }
            ],
        }
    ]
}


def spans_line(**fields: Any) -> str:
    """Return a line with one span."""
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [fields]}]}]})


def value_of(value: Any) -> Any:
    """Return an attribute's value after ``normalize_line``."""
    line = normalize_line(spans_line(attributes=[{"key": "k", "value": value}]))
    (attribute,) = json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["attributes"]
    return attribute["value"]


def test_the_dialect_becomes_strict():
    """Strict JSON has hex ids, numbers for enumerations, strings for 64-bit integers, no spaces or nulls."""
    assert normalize_line(json.dumps(DIALECT, indent=2)) == (
        b'{"resourceSpans":[{"resource":{"attributes":[{"key":"r","value":{"intValue":"5"}}]},'
        b'"scopeSpans":[{"spans":[{"traceId":"5b8efff798038103d269b633813fc60c",'
        b'"spanId":"eee19b7ec3c1b174","kind":3,"startTimeUnixNano":"1544712660000000000",'
        b'"attributes":[{"key":"b","value":{"bytesValue":"+/8="}}],"droppedEventsCount":3,'
        b'"status":{"code":2}}]}]}]}'
    )


def test_metrics_become_strict():
    """Counts and non-finite numbers become strings, and explicit zeros stay."""
    points = [
        {
            "count": 2,
            "sum": 0,
            "bucketCounts": [1, "1"],
            "explicitBounds": ["Infinity"],
            "max": "NaN",
            "min": "-Infinity",
        }
    ]
    metric = {
        "name": "h",
        "histogram": {
            "dataPoints": points,
            "aggregationTemporality": "AGGREGATION_TEMPORALITY_DELTA",
        },
    }
    line = json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]})
    assert normalize_line(line) == (
        b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"h","histogram":{"dataPoints":'
        b'[{"count":"2","sum":0.0,"bucketCounts":["1","1"],"explicitBounds":["Infinity"],'
        b'"min":"-Infinity","max":"NaN"}],"aggregationTemporality":1}}]}]}]}'
    )


def test_logs_become_strict():
    """A severity's name becomes its number; a body without a value stays."""
    record = {"severityNumber": "SEVERITY_NUMBER_FATAL4", "body": {}, "traceId": None}
    line = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]})
    assert normalize_line(line) == (
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"severityNumber":24,"body":{}}]}]}]}'
    )


def test_entities_of_a_resource_are_kept():
    """Entities, which only other tools read, are kept."""
    entity = b'{"type":"host","idKeys":["host.id"]}'
    line = b'{"resourceLogs":[{"resource":{"entityRefs":[' + entity + b"]}}]}"
    assert normalize_line(line) == line


def test_a_line_without_records_is_an_empty_list():
    """A null list of resources becomes an empty one."""
    assert normalize_line('{ "resourceMetrics": null }') == b'{"resourceMetrics":[]}'


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ({"stringValue": "s", "intValue": 1}, {"stringValue": "s"}),
        ({"boolValue": "x", "intValue": 1}, {"intValue": "1"}),
        ({"boolValue": False}, {"boolValue": False}),
        ({"doubleValue": 1}, {"doubleValue": 1.0}),
        (
            {"arrayValue": {"values": [{}, {"intValue": 0}]}},
            {"arrayValue": {"values": [{}, {"intValue": "0"}]}},
        ),
        ({}, {}),
    ],
)
def test_a_value_keeps_the_one_field_that_counts(value, kept):
    """Of two fields of a value the one stays that is decoded."""
    assert value_of(value) == kept


@pytest.mark.parametrize(
    "fields",
    [
        {"traceId": "zzz"},
        {"spanId": "W47/95gDgQPSabYzgT/GDA=="},
        {"kind": "ODD"},
        {"endTimeUnixNano": 2**64},
        {"attributes": [{"key": "k", "value": {"bytesValue": "*"}}]},
        {"attributes": [{"key": "k", "value": {"boolValue": 1}}]},
        {"status": {"code": 3}},
    ],
)
def test_what_is_not_otlp_is_refused(fields):
    """A line is refused if decoding refuses it."""
    line = spans_line(**fields)
    with pytest.raises(DecodeError) as decoding:
        decode_line(line)
    with pytest.raises(DecodeError) as normalizing:
        normalize_line(line)
    assert normalizing.value.reason == decoding.value.reason


def test_a_value_nested_too_deeply_is_refused():
    """A value that is nested too deeply raises DecodeError, at whatever depth."""
    for depth in (1_000, 20_000):
        value = '{"arrayValue":{"values":[' * depth + "]}}" * depth
        with pytest.raises(DecodeError, match="nested too deeply"):
            normalize_line(
                f'{{"resourceLogs":[{{"resource":{{"attributes":[{{"value":{value}}}]}}}}]}}'
            )


def outcome(read: Any, text: bytes) -> str:
    """Return ``read``, or why a function refuses a text."""
    try:
        read(text)
    except DecodeError:
        return "refused"
    return "read"


@given(st.integers(0, 700), st.integers(0, 30), st.binary(max_size=6))
def test_it_refuses_what_decoding_refuses(start, length, inserted):
    """Damaged lines are refused as by decoding, and strict ones stay as they are."""
    line = json.dumps(DIALECT).encode()
    damaged = line[:start] + inserted + line[start + length :]
    assert outcome(normalize_line, damaged) == outcome(decode_line, damaged)
    if outcome(normalize_line, damaged) == "read":
        strict = normalize_line(damaged)
        assert normalize_line(strict) == strict
