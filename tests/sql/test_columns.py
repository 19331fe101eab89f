"""Columns hold what the Collector's exporter would write, in its form."""

from __future__ import annotations

import msgspec
import pytest

from rimp_otel.otlp.messages import AnyValue
from rimp_otel.sql.columns import TYPES, format_double, text_and_type
from tests.sql.conftest import ask

TRACE, SPAN = "80000000000000000000000000000001", "8000000000000001"


def row(connection, sql):
    """The one row of a query, by column."""
    (found,) = ask(connection, sql)
    return dict(zip([column[0] for column in connection.description], found, strict=True))


def test_span(connection, everything_stored):
    """Every field of a span has a column."""
    found = row(
        connection,
        "SELECT * REPLACE (CAST(Timestamp AS VARCHAR) AS Timestamp) FROM otel_traces"
        " WHERE SpanName = 'checkout'",
    )
    events, links = found.pop("Events"), found.pop("Links")
    assert found == {
        "Timestamp": "2026-11-24 12:00:00",
        "TraceId": TRACE,
        "SpanId": SPAN,
        "ParentSpanId": "0000000000000003",
        "TraceState": "v=1,w=2",
        "SpanName": "checkout",
        "SpanKind": "Server",
        "ServiceName": "shop",
        "ResourceAttributes": {"pid": "7", "service.name": "shop"},
        "ScopeName": "shop",
        "ScopeVersion": "2.0",
        "SpanAttributes": {"http.method": "GET", "ok": "true", "ratio": "0.5", "sizes": "[1,2]"},
        "Duration": 250,
        "StatusCode": "Error",
        "StatusMessage": "broken",
        "TraceFlags": 769,
        "SpanAttributeTypes": {"ok": "bool", "ratio": "double", "sizes": "array"},
        "DroppedAttrCount": 0,
        "DroppedEventsCount": 0,
        "DroppedLinksCount": 0,
        "ResourceSchemaUrl": "https://resource/1",
        "ResourceAttributeTypes": {"pid": "int"},
        "ResourceDroppedAttrCount": 0,
        "ScopeSchemaUrl": "https://scope/2",
        "ScopeAttributes": {"b": "1"},
        "ScopeAttributeTypes": {"b": "int"},
        "ScopeDroppedAttrCount": 0,
    }
    assert (events["Name"], events["Attributes"]) == (["cache.miss", "bare"], [{"key": "k"}, {}])
    assert links == {
        "TraceId": ["00000000000000000000000000000005"],
        "SpanId": ["0000000000000006"],
        "TraceState": ["l=3"],
        "Attributes": [{"why": "retry"}],
        "AttributeTypes": [{}],
        "DroppedAttrCount": [0],
        "TraceFlags": [769],
    }


def test_times_are_exact(connection, everything_stored):
    """Times are exact to the nanosecond, also within events."""
    sql = "SELECT epoch_ns(Events.Timestamp[1]) FROM otel_traces WHERE SpanName = 'checkout'"
    assert ask(connection, sql) == [(1_795_521_600_000_000_005,)]


def test_bare_span(connection, everything_stored):
    """Missing texts are empty; an open span has no duration."""
    sql = "SELECT SpanKind, Duration, StatusCode, ParentSpanId, ServiceName, SpanAttributes"
    found = ask(connection, f"{sql} FROM otel_traces WHERE SpanName = 'bare'")
    assert found == [("Internal", 0, "Unset", "", "unnamed", {})]


def test_times_of_traces(connection, everything_stored):
    """There is the exporter's materialized view."""
    sql = 'SELECT epoch_ns("Start"), epoch_ns("End") FROM otel_traces_trace_id_ts WHERE TraceId = ?'
    assert ask(connection, sql, TRACE) == [(1_795_521_600_000_000_000,) * 2]


def test_log_record(connection, everything_stored):
    """Every field of a log record has a column."""
    found = row(
        connection,
        "SELECT * EXCLUDE (ObservedTimestamp) REPLACE (CAST(Timestamp AS VARCHAR) AS Timestamp,"
        " CAST(TimestampTime AS VARCHAR) AS TimestampTime)"
        " FROM otel_logs WHERE EventName = 'login.failed'",
    )
    attributes, types = found.pop("LogAttributes"), found.pop("LogAttributeTypes")
    assert found == {
        "Timestamp": "2026-11-24 12:00:02",
        "TimestampTime": "2026-11-24 12:00:02",
        "TraceId": "8" + "0" * 31,
        "SpanId": "8" + "0" * 15,
        "TraceFlags": 1,
        "SeverityText": "warn2",
        "SeverityNumber": 14,
        "ServiceName": "shop",
        "Body": "login",
        "ResourceSchemaUrl": "https://resource/1",
        "ResourceAttributes": {"service.name": "shop", "pid": "7"},
        "ScopeSchemaUrl": "https://scope/1",
        "ScopeName": "auth",
        "ScopeVersion": "1.2",
        "ScopeAttributes": {"a": "true"},
        "EventName": "login.failed",
        "BodyType": "string",
        "DroppedAttrCount": 3,
        "ResourceAttributeTypes": {"pid": "int"},
        "ResourceDroppedAttrCount": 0,
        "ScopeAttributeTypes": {"a": "bool"},
        "ScopeDroppedAttrCount": 0,
    }
    assert attributes == {
        "text": "grüße \U0001f600",
        "flag": "true",
        "int": "-9223372036854775808",
        "float": "0.1",
        "bytes": "AP8=",
        "none": "",
        "list": '["a",1,null,[2.5]]',
        "map": '{"x":{"y":[]}}',
    }
    assert types == {
        "flag": "bool",
        "int": "int",
        "float": "double",
        "bytes": "bytes",
        "none": "empty",
        "list": "array",
        "map": "kvlist",
    }


def test_bodies(connection, everything_stored):
    """A body can have every type."""
    found = ask(connection, "SELECT BodyType, Body FROM otel_logs ORDER BY Timestamp OFFSET 1")
    assert found[:-2] == [
        ("empty", ""),
        ("string", ""),
        ("bytes", "AQ=="),
        ("int", "7"),
        ("double", "2.5"),
        ("bool", "false"),
        ("array", '[1,{"a":null}]'),
    ]
    assert found[-2][0] == "kvlist"


def test_observed_only(connection, everything_stored):
    """A record without a time has the time of its observation."""
    sql = "SELECT CAST(Timestamp AS VARCHAR), Timestamp = ObservedTimestamp FROM otel_logs"
    assert ask(connection, f"{sql} WHERE Body = 'x'") == [("2026-11-24 12:00:11", True)]


def test_gauges(connection, everything_stored):
    """Values are doubles; integers are exact, too."""
    sql = "SELECT MetricName, Value, IntValue, Flags, MetricUnit FROM otel_metrics_gauge"
    assert ask(connection, f"{sql} ORDER BY TimeUnix") == [
        ("gauge", 1.0, 1, 0, "By"),
        ("gauge", 0.5, None, 0, "By"),
        ("novalue", 0.0, 0, 1, ""),
    ]


def test_sum(connection, everything_stored):
    """A sum has its exemplars."""
    sql = "SELECT * EXCLUDE (StartTimeUnix, TimeUnix) FROM otel_metrics_sum"
    found = row(connection, sql)
    exemplars = found.pop("Exemplars")
    assert exemplars.pop("TimeUnix")
    assert exemplars == {
        "FilteredAttributes": [{"e": "1"}, {}],
        "Value": [1.0, 2.5],
        "SpanId": ["0000000000000008", ""],
        "TraceId": ["00000000000000000000000000000009", ""],
        "FilteredAttributeTypes": [{"e": "int"}, {}],
    }
    assert found == {
        "ResourceAttributes": {"service.name": "shop", "pid": "7"},
        "ResourceSchemaUrl": "https://resource/1",
        "ScopeName": "auth",
        "ScopeVersion": "1.2",
        "ScopeAttributes": {"a": "true"},
        "ScopeDroppedAttrCount": 0,
        "ScopeSchemaUrl": "https://scope/1",
        "ServiceName": "shop",
        "MetricName": "sum",
        "MetricDescription": "",
        "MetricUnit": "",
        "Attributes": {},
        "Value": float(2**40),
        "Flags": 0,
        "AggregationTemporality": 2,
        "IsMonotonic": True,
        "IntValue": 2**40,
        "AttributeTypes": {},
        "MetricMetadata": {"meta": "data"},
        "ResourceAttributeTypes": {"pid": "int"},
        "ResourceDroppedAttrCount": 0,
        "ScopeAttributeTypes": {"a": "bool"},
    }


def test_histogram(connection, everything_stored):
    """A histogram has its buckets."""
    sql = "SELECT Count, Sum, BucketCounts, ExplicitBounds, Min, Max, AggregationTemporality"
    found = ask(connection, f"{sql} FROM otel_metrics_histogram")
    assert found == [(3, 6.5, [1, 2], [2.0], 0.5, 4.0, 2)]


def test_exponential_histogram(connection, everything_stored):
    """An exponential histogram has both halves."""
    sql = (
        "SELECT Count, Sum, Scale, ZeroCount, ZeroThreshold, PositiveOffset, PositiveBucketCounts,"
        " NegativeOffset, NegativeBucketCounts, Min, Max FROM otel_metrics_exponential_histogram"
    )
    assert ask(connection, sql) == [(4, 6.5, 3, 1, 0.25, -2, [1, 0], 0, [2], -1.0, 4.0)]


def test_summary(connection, everything_stored):
    """A summary has its quantiles."""
    sql = "SELECT Count, Sum, ValueAtQuantiles FROM otel_metrics_summary"
    assert ask(connection, sql) == [(2, 6.5, {"Quantile": [0.5, 1.0], "Value": [1.0, 5.5]})]


DOUBLES = [
    (2.0, "2"),
    (0.0, "0"),
    (-0.0, "-0"),
    (0.1, "0.1"),
    (-12.5, "-12.5"),
    (1e16, "10000000000000000"),
    (1.5e16, "15000000000000000"),
    (1.2345678901234568e17, "123456789012345680"),
    (1e-5, "0.00001"),
    (1.25e-6, "0.00000125"),
    (1e-7, "1e-7"),
    (-1.5e-7, "-1.5e-7"),
    (1e21, "1e+21"),
    (1.5e300, "1.5e+300"),
    (float("nan"), "NaN"),
    (float("inf"), "Infinity"),
    (float("-inf"), "-Infinity"),
]


@pytest.mark.parametrize(("value", "text"), DOUBLES)
def test_doubles(value, text):
    """Doubles are written as in ECMAScript, to the digit."""
    assert format_double(value) == text


@pytest.mark.parametrize(
    ("json", "text", "kind"),
    [
        ('{"stringValue":""}', "", "string"),
        ('{"stringValue":"\\u0000 \\n"}', "\0 \n", "string"),
        ('{"intValue":"-9223372036854775808"}', "-9223372036854775808", "int"),
        ('{"intValue":7}', "7", "int"),
        ('{"doubleValue":2}', "2", "double"),
        ('{"doubleValue":"NaN"}', "NaN", "double"),
        ('{"boolValue":true}', "true", "bool"),
        ('{"boolValue":false}', "false", "bool"),
        ('{"bytesValue":"AP8="}', "AP8=", "bytes"),
        ('{"arrayValue":{}}', "[]", "array"),
        (
            '{"arrayValue":{"values":[{"intValue":"1"},{"stringValue":"a"},{},{"doubleValue":"NaN"}]}}',
            '[1,"a",null,"NaN"]',
            "array",
        ),
        (
            '{"kvlistValue":{"values":[{"key":"x","value":{"boolValue":true}}]}}',
            '{"x":true}',
            "kvlist",
        ),
        ("{}", "", "empty"),
    ],
)
def test_attribute_values(json, text, kind):
    """Each type has its text and its name."""
    value = msgspec.json.decode(json, type=AnyValue, strict=False)
    assert text_and_type(value) == (text, TYPES.index(kind))


def test_a_missing_value():
    """It is an empty text."""
    assert text_and_type(None) == ("", TYPES.index("empty"))


@pytest.mark.parametrize(
    ("start", "end", "duration"),
    [
        (2**64 - 1, 1, -(2**63) + 2),
        (1, 2**64 - 1, 2**63 - 2),
        (10**30, 0, 0),
        (0, 10**30, 2**63 - 2),
    ],
)
def test_times_beyond_the_column(path, connection, start, end, duration):
    """A time or duration beyond 63 bits is the nearest that fits."""
    path.mkdir()
    line = (
        '{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"n",'
        f'"startTimeUnixNano":"{start}","endTimeUnixNano":"{end}"}}]}}]}}]}}\n'
    )
    (path / "traces.jsonl").write_text(line)
    sql = "SELECT Duration, epoch_ns(Timestamp) FROM otel_traces"
    assert ask(connection, sql) == [(duration, min(start, 2**63 - 2))]
