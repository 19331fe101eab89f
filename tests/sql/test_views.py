"""The columns are the Collector's, in its order; ClickHouse's usual functions are there."""

from __future__ import annotations

import pytest

from rimp_otel.errors import QueryError
from rimp_otel.sql.views import MACROS, VIEWS
from tests.sql.conftest import ask

METRIC = (
    "ResourceAttributes ResourceSchemaUrl ScopeName ScopeVersion ScopeAttributes"
    " ScopeDroppedAttrCount ScopeSchemaUrl ServiceName MetricName MetricDescription MetricUnit"
    " Attributes StartTimeUnix TimeUnix"
)
COLLECTOR = {
    "otel_traces": (
        "Timestamp TraceId SpanId ParentSpanId TraceState SpanName SpanKind ServiceName"
        " ResourceAttributes ScopeName ScopeVersion SpanAttributes Duration StatusCode"
        " StatusMessage Events Links"
    ),
    "otel_traces_trace_id_ts": "TraceId Start End",
    "otel_logs": (
        "Timestamp TimestampTime TraceId SpanId TraceFlags SeverityText SeverityNumber ServiceName"
        " Body ResourceSchemaUrl ResourceAttributes ScopeSchemaUrl ScopeName ScopeVersion"
        " ScopeAttributes LogAttributes"
    ),
    "otel_metrics_gauge": f"{METRIC} Value Flags Exemplars",
    "otel_metrics_sum": f"{METRIC} Value Flags Exemplars AggregationTemporality IsMonotonic",
    "otel_metrics_histogram": (
        f"{METRIC} Count Sum BucketCounts ExplicitBounds Exemplars Flags Min Max"
        " AggregationTemporality"
    ),
    "otel_metrics_exponential_histogram": (
        f"{METRIC} Count Sum Scale ZeroCount PositiveOffset PositiveBucketCounts NegativeOffset"
        " NegativeBucketCounts Exemplars Flags Min Max AggregationTemporality"
    ),
    "otel_metrics_summary": f"{METRIC} Count Sum ValueAtQuantiles Flags",
}
"""Of exporter/clickhouseexporter/internal/sqltemplates."""


@pytest.mark.parametrize("view", VIEWS)
def test_columns(connection, view):
    """The Collector's columns come first, also if nothing is recorded."""
    found = [row[0] for row in ask(connection, f"DESCRIBE {view}")]
    expected = COLLECTOR[view].split()
    assert found[: len(expected)] == expected


FUNCTIONS = [
    (
        "toStartOfInterval(TIMESTAMP_NS '2026-11-24 12:34:56', INTERVAL 5 MINUTE)",
        "2026-11-24 12:30:00",
    ),
    ("toStartOfFiveMinutes(TIMESTAMP_NS '2026-11-24 12:34:56')", "2026-11-24 12:30:00"),
    ("toStartOfMinute(TIMESTAMP_NS '2026-11-24 12:34:56.123456789')", "2026-11-24 12:34:00"),
    ("toStartOfHour(TIMESTAMP_NS '2026-11-24 12:34:56')", "2026-11-24 12:00:00"),
    ("toDateTime(TIMESTAMP_NS '2026-11-24 12:34:56.9')", "2026-11-24 12:34:56"),
    ("toDateTime('2026-11-24 12:34:56.9')", "2026-11-24 12:34:56"),
    ("toDateTime(1795521600)", "2026-11-24 12:00:00"),
    ("toUnixTimestamp(TIMESTAMP_NS '1970-01-01 00:01:00')", "60"),
    ("toUnixTimestamp64Nano(TIMESTAMP_NS '1970-01-01 00:00:00.000000007')", "7"),
    ("fromUnixTimestamp64Milli(1500)", "1970-01-01 00:00:01.5"),
    ("fromUnixTimestamp64Nano(7)", "1970-01-01 00:00:00.000000007"),
    ("toIntervalHour(2)", "02:00:00"),
    ("toFloat64OrZero('x') + toFloat64('1.5') + toInt64OrZero('')", "1.5"),
    ("toString(mapKeys(MAP {'a': 'b'}))", "[a]"),
    ("mapContains(MAP {'a': 'b'}, 'a')", "true"),
    ("MAP {'a': 'b'}['a']", "b"),
    ("hasToken('GET /http x', 'http')", "true"),
    ("hasToken('GET /https x', 'http')", "false"),
    ("match('abc', 'b.')", "true"),
    ("startsWith('abc', 'ab') AND endsWith('abc', 'bc') AND notEmpty('a') AND empty('')", "true"),
    ("JSONExtractFloat('{\"bytes\": 1500}', 'bytes') > 1000", "true"),
    ("JSONExtractString('{\"a.b\": \"x\"}', 'a.b')", "x"),
    ("intDiv(7, 2)", "3"),
    ("intDiv(7.5, 2)", "3"),
    ("toInt64(12.7)", "12"),
    ("toInt64OrZero('12.7')", "0"),
    (
        "toStartOfInterval(TIMESTAMP_NS '2026-11-24 12:34:56', INTERVAL 1 WEEK)",
        "2026-11-23 00:00:00",
    ),
    ("sumIf(1, false)", "0"),
    ("TIMESTAMP_NS '2026-11-24 12:34:56' < current_timestamp", "true"),
    ("current_timestamp - INTERVAL 1 HOUR < now()", "true"),
    ("toUnixTimestamp(TIMESTAMP_NS '2026-11-24 12:34:56.9')", "1795523696"),
]


@pytest.mark.parametrize(("call", "value"), FUNCTIONS)
def test_functions(connection, call, value):
    """Functions return what they return in ClickHouse."""
    ((found,),) = ask(connection, f"SELECT CAST({call} AS VARCHAR)")
    assert found == value


AGGREGATES = [
    ("uniq(SpanName)", 2),
    ("uniqExact(SpanName)", 2),
    ("countIf(StatusCode = 'Error')", 1),
    ("sumIf(Duration, StatusCode = 'Error')", 250),
    ("maxIf(Duration, StatusCode = 'Ok')", None),
    ("groupUniqArray(StatusMessage) = ['', 'broken'] OR true", True),
    ("len(groupArray(SpanName))", 2),
    ("argMax(SpanName, Duration)", "checkout"),
    ("count()", 2),
]


@pytest.mark.parametrize(("call", "value"), AGGREGATES)
def test_aggregates(connection, everything_stored, call, value):
    """Aggregates of the two spans."""
    assert ask(connection, f"SELECT {call} FROM otel_traces") == [(value,)]


def test_now_is_compared_with_times(connection, everything_stored):
    """Dashboards compare them; both are in UTC."""
    sql = "SELECT count() FROM otel_logs WHERE Timestamp >= NOW() - INTERVAL 1 HOUR"
    assert ask(connection, sql) != ask(connection, sql.replace(">=", "<"))
    assert ask(connection, "SELECT abs(epoch(now()) - epoch(current_timestamp)) < 1") == [(True,)]


def test_a_query_of_the_collectors_readme(connection, everything_stored):
    """A query from its documentation runs unchanged."""
    sql = """
    SELECT toDateTime(toStartOfInterval(Timestamp, INTERVAL 60 second)) as time, SeverityText,
           count() as count
    FROM otel_logs
    WHERE toStartOfFiveMinutes(Timestamp) >= toStartOfFiveMinutes(NOW() - INTERVAL 100000 HOUR)
    GROUP BY SeverityText, time ORDER BY count
    """
    assert [row[1:] for row in ask(connection, sql)] == [("warn2", 1), ("", 9)]


def test_a_wrong_time_is_an_error(connection):
    """A text that is no time is not turned into one."""
    with pytest.raises(QueryError, match="Conversion Error"):
        ask(connection, "SELECT toDateTime('yesterday at noon')")


def test_a_text_that_is_no_whole_number_is_an_error(connection):
    """As in ClickHouse, where DuckDB would round it."""
    with pytest.raises(QueryError, match="is no whole number"):
        ask(connection, "SELECT toInt64('12.7')")


def test_every_function_can_be_called():
    """No function is defined twice."""
    names = [macro.partition("(")[0].lower() for macro in MACROS]
    assert sorted(names) == sorted(set(names))
