"""The views: their names, their columns, and the functions of ClickHouse that dashboards use.

The columns are those of the OpenTelemetry Collector's ClickHouse exporter, in its order; after
them come columns that keep what its schema loses. ``Events``, ``Links`` and ``Exemplars``, which are
``NestedColumn`` there, are structs of lists here, so that ``Events.Name`` is the list of names in both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rimp_otel.models.records import Signal
from rimp_otel.sql.metrics import KINDS

__all__ = ["MACROS", "VIEWS", "metric_columns", "quote_literal", "view_statements"]

_COMMON_COLUMNS = (
    "ResourceAttributes ResourceSchemaUrl ScopeName ScopeVersion ScopeAttributes"
    " ScopeDroppedAttrCount ScopeSchemaUrl ServiceName MetricName MetricDescription MetricUnit"
    " Attributes StartTimeUnix TimeUnix"
)
_ADDED_COLUMNS = (
    "AttributeTypes MetricMetadata ResourceAttributeTypes ResourceDroppedAttrCount"
    " ScopeAttributeTypes"
)
_OWN_COLUMNS = {
    "gauge": ("Value Flags Exemplars", "IntValue"),
    "sum": ("Value Flags Exemplars AggregationTemporality IsMonotonic", "IntValue"),
    "histogram": (
        "Count Sum BucketCounts ExplicitBounds Exemplars Flags Min Max AggregationTemporality",
        "",
    ),
    "exponential_histogram": (
        "Count Sum Scale ZeroCount PositiveOffset PositiveBucketCounts NegativeOffset"
        " NegativeBucketCounts Exemplars Flags Min Max AggregationTemporality",
        "ZeroThreshold",
    ),
    "summary": ("Count Sum ValueAtQuantiles Flags", ""),
}
_LOG_TIMES = "Timestamp, date_trunc('second', Timestamp) AS TimestampTime"

VIEWS: dict[str, Signal] = {
    "otel_traces": Signal.TRACES,
    "otel_traces_trace_id_ts": Signal.TRACES,
    "otel_logs": Signal.LOGS,
    **{f"otel_metrics_{kind}": Signal.METRICS for kind in KINDS},
}
"""The views, each with the signal whose records it shows."""

MACROS = (
    # DuckDB's own has a time zone, and is not compared with a time that has none.
    "now() AS CAST(current_timestamp AT TIME ZONE 'UTC' AS TIMESTAMP_NS)",
    "now64(digits := 3) AS CAST(current_timestamp AT TIME ZONE 'UTC' AS TIMESTAMP_NS)",
    "toStartOfInterval(t, i) AS time_bucket(i, CAST(t AS TIMESTAMP), TIMESTAMP '1970-01-01')",
    "toStartOfSecond(t) AS date_trunc('second', t)",
    "toStartOfMinute(t) AS date_trunc('minute', t)",
    "toStartOfFiveMinutes(t) AS toStartOfInterval(t, INTERVAL 5 MINUTE)",
    "toStartOfTenMinutes(t) AS toStartOfInterval(t, INTERVAL 10 MINUTE)",
    "toStartOfFifteenMinutes(t) AS toStartOfInterval(t, INTERVAL 15 MINUTE)",
    "toStartOfHour(t) AS date_trunc('hour', t)",
    "toStartOfDay(t) AS date_trunc('day', t)",
    "toIntervalSecond(n) AS to_seconds(n)",
    "toIntervalMinute(n) AS to_minutes(CAST(n AS INTEGER))",
    "toIntervalHour(n) AS to_hours(CAST(n AS INTEGER))",
    "toIntervalDay(n) AS to_days(CAST(n AS INTEGER))",
    # Of seconds since the epoch, a time, or a text.
    "toDateTime(t) AS date_trunc('second', CASE"
    " WHEN typeof(t) IN ('INTEGER', 'BIGINT')"
    " THEN make_timestamp(TRY_CAST(t AS BIGINT) * 1000000)"
    " WHEN typeof(t) SIMILAR TO 'TIMESTAMP.*|DATE' THEN TRY_CAST(t AS TIMESTAMP)"
    " ELSE CAST(CAST(t AS VARCHAR) AS TIMESTAMP) END)",
    "toDateTime64(t, digits) AS CAST(t AS TIMESTAMP_NS)",
    "fromUnixTimestamp64Milli(n) AS CAST(epoch_ms(CAST(n AS BIGINT)) AS TIMESTAMP_NS)",
    "fromUnixTimestamp64Nano(n) AS make_timestamp_ns(CAST(n AS BIGINT))",
    "toUnixTimestamp(t) AS CAST(epoch(t) AS BIGINT)",
    "toUnixTimestamp64Milli(t) AS epoch_ms(t)",
    "toUnixTimestamp64Nano(t) AS epoch_ns(t)",
    "toDate(t) AS CAST(t AS DATE)",
    "toString(x) AS CAST(x AS VARCHAR)",
    "toFloat64(x) AS CAST(x AS DOUBLE)",
    "toFloat64OrZero(x) AS coalesce(TRY_CAST(x AS DOUBLE), 0)",
    "toFloat64OrNull(x) AS TRY_CAST(x AS DOUBLE)",
    "toInt64(x) AS CAST(x AS BIGINT)",
    "toInt64OrZero(x) AS coalesce(TRY_CAST(x AS BIGINT), 0)",
    "toInt64OrNull(x) AS TRY_CAST(x AS BIGINT)",
    "toUInt64(x) AS CAST(x AS UBIGINT)",
    "toUInt64OrZero(x) AS coalesce(TRY_CAST(x AS UBIGINT), 0)",
    "mapKeys(m) AS map_keys(m)",
    "mapValues(m) AS map_values(m)",
    "mapContains(m, k) AS map_contains(m, k)",
    "hasToken(s, token) AS regexp_matches(s, '(^|[^[:alnum:]])' || regexp_escape(token)"
    " || '($|[^[:alnum:]])')",
    "match(s, pattern) AS regexp_matches(s, pattern)",
    "positionCaseInsensitive(s, part) AS strpos(lower(s), lower(part))",
    "startsWith(s, part) AS starts_with(s, part)",
    "endsWith(s, part) AS ends_with(s, part)",
    "empty(x) AS length(x) = 0",
    "notEmpty(x) AS length(x) > 0",
    "has(l, x) AS list_contains(l, x)",
    "hasAny(l, m) AS list_has_any(l, m)",
    "arrayJoin(l) AS unnest(l)",
    "arrayElement(l, n) AS l[n]",
    "groupArray(x) AS list(x)",
    "groupUniqArray(x) AS list(DISTINCT x)",
    "uniq(x) AS count(DISTINCT x)",
    "uniqExact(x) AS count(DISTINCT x)",
    "countIf(c) AS count_if(c)",
    "sumIf(x, c) AS sum(CASE WHEN c THEN x END)",
    "avgIf(x, c) AS avg(CASE WHEN c THEN x END)",
    "minIf(x, c) AS min(CASE WHEN c THEN x END)",
    "maxIf(x, c) AS max(CASE WHEN c THEN x END)",
    "anyLast(x) AS last(x)",
    "argMin(x, y) AS arg_min(x, y)",
    "argMax(x, y) AS arg_max(x, y)",
    "multiIf(c, x, y) AS CASE WHEN c THEN x ELSE y END",
    "intDiv(a, b) AS a // b",
    "JSONExtractString(s, k) AS coalesce(json_extract_string(s, '$.\"' || k || '\"'), '')",
    "JSONExtractFloat(s, k) AS"
    " coalesce(TRY_CAST(json_extract_string(s, '$.\"' || k || '\"') AS DOUBLE), 0)",
    "JSONExtractInt(s, k) AS"
    " coalesce(TRY_CAST(json_extract_string(s, '$.\"' || k || '\"') AS BIGINT), 0)",
    "JSONExtractBool(s, k) AS"
    " coalesce(TRY_CAST(json_extract_string(s, '$.\"' || k || '\"') AS BOOLEAN), false)",
)
"""ClickHouse's functions in DuckDB's terms."""


def metric_columns(kind: str) -> list[str]:
    """Return the columns of the view of a kind of metrics."""
    own, extra = _OWN_COLUMNS[kind]
    return f"{_COMMON_COLUMNS} {own} {extra} {_ADDED_COLUMNS}".split()


def view_statements(signal: Signal, files: Sequence[str], live: str) -> Iterator[str]:
    """Yield the statements that create the views of a signal.

    Args:
        signal: whose records are shown.
        files: paths of Parquet copies.
        live: name of the table of the records that are in no Parquet copy.
    """
    source = f"SELECT * FROM {live}"
    if files:
        paths = ", ".join(quote_literal(path) for path in files)
        source = f"SELECT * FROM read_parquet([{paths}]) UNION ALL BY NAME {source}"
    if signal is Signal.TRACES:
        yield _create_view("otel_traces", source)
        yield _create_view(
            "otel_traces_trace_id_ts",
            'SELECT TraceId, min("Timestamp") AS "Start", max("Timestamp") AS "End"'
            " FROM otel_traces WHERE TraceId != '' GROUP BY TraceId",
        )
    elif signal is Signal.LOGS:
        yield _create_view(
            "otel_logs", f"SELECT {_LOG_TIMES}, * EXCLUDE (Timestamp) FROM ({source})"
        )
    else:
        for kind in KINDS:
            columns = ", ".join(metric_columns(kind))
            where = f"WHERE MetricType = '{kind}'"
            yield _create_view(f"otel_metrics_{kind}", f"SELECT {columns} FROM ({source}) {where}")


def _create_view(name: str, source: str) -> str:
    return f"CREATE OR REPLACE VIEW {name} AS {source}"


def quote_literal(text: str) -> str:
    """Return the text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"
