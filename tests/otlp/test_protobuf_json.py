"""Strict OTLP JSON out of what is nearly so."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rimp_otel.errors import DecodeError
from rimp_otel.otlp.decode import decode_line
from rimp_otel.otlp.protobuf import normalize_line

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
    """A line with one span."""
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [fields]}]}]})


def value_of(value: Any) -> Any:
    """An attribute's value after it went through ``normalize_line``."""
    line = normalize_line(spans_line(attributes=[{"key": "k", "value": value}]))
    (attribute,) = json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["attributes"]
    return attribute["value"]


def test_the_dialect_becomes_strict():
    """Ids in hex, enumerations as numbers, 64-bit integers as strings, no spaces, no nulls."""
    assert normalize_line(json.dumps(DIALECT, indent=2)) == (
        b'{"resourceSpans":[{"resource":{"attributes":[{"key":"r","value":{"intValue":"5"}}]},'
        b'"scopeSpans":[{"spans":[{"traceId":"5b8efff798038103d269b633813fc60c",'
        b'"spanId":"eee19b7ec3c1b174","kind":3,"startTimeUnixNano":"1544712660000000000",'
        b'"attributes":[{"key":"b","value":{"bytesValue":"+/8="}}],"droppedEventsCount":3,'
        b'"status":{"code":2}}]}]}]}'
    )


def test_metrics_become_strict():
    """Counts are strings, what JSON has no number for is a string, and explicit zeros stay."""
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
    """The severity's name is a number; a body without a value stays one."""
    record = {"severityNumber": "SEVERITY_NUMBER_FATAL4", "body": {}, "traceId": None}
    line = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]})
    assert normalize_line(line) == (
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"severityNumber":24,"body":{}}]}]}]}'
    )


def test_entities_of_a_resource_are_kept():
    """Nothing reads them here, but OTLP defines them."""
    entity = b'{"type":"host","idKeys":["host.id"]}'
    line = b'{"resourceLogs":[{"resource":{"entityRefs":[' + entity + b"]}}]}"
    assert normalize_line(line) == line


def test_a_line_without_records_is_an_empty_list():
    """``null`` is the default, an empty list."""
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
    """Protobuf refuses a value with two fields; the one that is decoded is the one that stays."""
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
    """The same is refused as when it is decoded."""
    line = spans_line(**fields)
    with pytest.raises(DecodeError) as decoding:
        decode_line(line)
    with pytest.raises(DecodeError) as normalizing:
        normalize_line(line)
    assert normalizing.value.reason == decoding.value.reason


def test_a_value_nested_too_deeply_is_refused():
    """Whatever the depth is at which it ends, it ends with a DecodeError."""
    for depth in (1_000, 20_000):
        value = '{"arrayValue":{"values":[' * depth + "]}}" * depth
        with pytest.raises(DecodeError, match="nested too deeply"):
            normalize_line(
                f'{{"resourceLogs":[{{"resource":{{"attributes":[{{"value":{value}}}]}}}}]}}'
            )


def outcome(read: Any, text: bytes) -> str:
    """What a function says of a text: ``read``, or why not."""
    try:
        read(text)
    except DecodeError:
        return "refused"
    return "read"


@given(st.integers(0, 700), st.integers(0, 30), st.binary(max_size=6))
def test_it_refuses_what_decoding_refuses(start, length, inserted):
    """Of damaged lines too; and what is strict already stays as it is."""
    line = json.dumps(DIALECT).encode()
    damaged = line[:start] + inserted + line[start + length :]
    assert outcome(normalize_line, damaged) == outcome(decode_line, damaged)
    if outcome(normalize_line, damaged) == "read":
        strict = normalize_line(damaged)
        assert normalize_line(strict) == strict
