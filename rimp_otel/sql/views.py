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

_IS_WHOLE = "regexp_full_match({0}, '[+-]?[0-9]+')"
_IS_NUMBER = "typeof({0}) SIMILAR TO 'U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|DOUBLE|FLOAT|DECIMAL.*'"
_SECONDS = (
    f"WHEN {_IS_NUMBER.format('t')}"
    " THEN make_timestamp(CAST(trunc(TRY_CAST(t AS DOUBLE)) AS BIGINT) * 1000000)"
)


def _conversions(name: str, kind: str) -> tuple[str, ...]:
    """Return the macros that convert to an integer type: they cut off fractions, where DuckDB rounds,
    and read texts that are whole numbers only."""
    # A decimal has up to 38 digits, of which a double would lose some.
    of_number = (
        "CASE WHEN typeof(x) IN ('DOUBLE', 'FLOAT')"
        f" THEN {{0}}(trunc(TRY_CAST(x AS DOUBLE)) AS {kind})"
        " WHEN typeof(x) LIKE 'DECIMAL%'"
        f" THEN {{0}}(trunc(TRY_CAST(x AS DECIMAL(38, 9))) AS {kind})"
    )
    strict = of_number.format("CAST")
    lenient = of_number.format("TRY_CAST")
    is_text = f"typeof(x) = 'VARCHAR' AND NOT {_IS_WHOLE.format('CAST(x AS VARCHAR)')}"
    return (
        f"{name}(x) AS {strict} WHEN {is_text}"
        f" THEN error('{name}: ' || CAST(x AS VARCHAR) || ' is no whole number')"
        f" ELSE CAST(x AS {kind}) END",
        f"{name}OrNull(x) AS {lenient} WHEN {is_text} THEN NULL ELSE TRY_CAST(x AS {kind}) END",
        f"{name}OrZero(x) AS coalesce({name}OrNull(x), 0)",
    )


MACROS = (
    # DuckDB's own has a time zone, and is not compared with a time that has none.
    "now() AS CAST(current_timestamp AT TIME ZONE 'UTC' AS TIMESTAMP_NS)",
    "now64(digits := 3) AS CAST(current_timestamp AT TIME ZONE 'UTC' AS TIMESTAMP_NS)",
    # Weeks begin on Mondays, and several hours with the day; all else is counted from 1970 on.
    "toStartOfInterval(t, i) AS time_bucket(i, CAST(t AS TIMESTAMP), CASE"
    " WHEN datepart('day', i) > 0 AND datepart('day', i) % 7 = 0 THEN TIMESTAMP '1970-01-05'"
    " WHEN datepart('day', i) = 0 AND datepart('month', i) = 0 AND datepart('year', i) = 0"
    " AND epoch(i) > 0 AND epoch(i) % 3600 = 0 THEN date_trunc('day', CAST(t AS TIMESTAMP))"
    " ELSE TIMESTAMP '1970-01-01' END)",
    "toStartOfSecond(t) AS date_trunc('second', t)",
    "toStartOfMinute(t) AS date_trunc('minute', t)",
    "toStartOfFiveMinutes(t) AS toStartOfInterval(t, INTERVAL 5 MINUTE)",
    "toStartOfTenMinutes(t) AS toStartOfInterval(t, INTERVAL 10 MINUTE)",
    "toStartOfFifteenMinutes(t) AS toStartOfInterval(t, INTERVAL 15 MINUTE)",
    "toStartOfHour(t) AS date_trunc('hour', t)",
    "toStartOfDay(t) AS date_trunc('day', t)",
    "toStartOfWeek(t) AS date_trunc('week', t + INTERVAL 1 DAY) - INTERVAL 1 DAY",
    "toMonday(t) AS date_trunc('week', t)",
    "toStartOfMonth(t) AS date_trunc('month', t)",
    "toStartOfQuarter(t) AS date_trunc('quarter', t)",
    "toStartOfYear(t) AS date_trunc('year', t)",
    "toIntervalSecond(n) AS to_seconds(n)",
    "toIntervalMinute(n) AS to_minutes(CAST(n AS INTEGER))",
    "toIntervalHour(n) AS to_hours(CAST(n AS INTEGER))",
    "toIntervalDay(n) AS to_days(CAST(n AS INTEGER))",
    "toIntervalWeek(n) AS to_weeks(CAST(n AS INTEGER))",
    "toIntervalMonth(n) AS to_months(CAST(n AS INTEGER))",
    # Of seconds since the epoch, a time, or a text.
    f"toDateTime(t) AS date_trunc('second', CASE {_SECONDS}"
    " WHEN typeof(t) SIMILAR TO 'TIMESTAMP.*|DATE' THEN TRY_CAST(t AS TIMESTAMP)"
    f" WHEN {_IS_WHOLE.format('CAST(t AS VARCHAR)')}"
    " THEN make_timestamp(CAST(CAST(t AS VARCHAR) AS BIGINT) * 1000000)"
    " ELSE CAST(CAST(t AS VARCHAR) AS TIMESTAMP) END)",
    "toDateTime64(t, digits) AS make_timestamp_ns(CASE"
    f" WHEN {_IS_NUMBER.format('t')}"
    " THEN CAST(trunc(TRY_CAST(t AS DOUBLE) * 10 ** digits) AS BIGINT)"
    " ELSE epoch_ns(CAST(CASE WHEN typeof(t) SIMILAR TO 'TIMESTAMP.*|DATE'"
    " THEN TRY_CAST(t AS TIMESTAMP_NS) ELSE CAST(CAST(t AS VARCHAR) AS TIMESTAMP_NS) END"
    " AS TIMESTAMP_NS)) // CAST(10 ** (9 - digits) AS BIGINT) END"
    " * CAST(10 ** (9 - digits) AS BIGINT))",
    "fromUnixTimestamp(n) AS make_timestamp(CAST(n AS BIGINT) * 1000000)",
    "fromUnixTimestamp64Milli(n) AS CAST(epoch_ms(CAST(n AS BIGINT)) AS TIMESTAMP_NS)",
    "fromUnixTimestamp64Micro(n) AS CAST(make_timestamp(CAST(n AS BIGINT)) AS TIMESTAMP_NS)",
    "fromUnixTimestamp64Nano(n) AS make_timestamp_ns(CAST(n AS BIGINT))",
    "toUnixTimestamp(t) AS CAST(epoch(toDateTime(t)) AS BIGINT)",
    "toUnixTimestamp64Milli(t) AS epoch_ns(CAST(t AS TIMESTAMP_NS)) // 1000000",
    "toUnixTimestamp64Micro(t) AS epoch_ns(CAST(t AS TIMESTAMP_NS)) // 1000",
    "toUnixTimestamp64Nano(t) AS epoch_ns(CAST(t AS TIMESTAMP_NS))",
    # Of days, or seconds if they are more than fit in 16 bits.
    f"toDate(t) AS CASE WHEN {_IS_NUMBER.format('t')} THEN"
    " CAST(make_timestamp(CASE WHEN TRY_CAST(t AS BIGINT) > 65535 THEN TRY_CAST(t AS BIGINT)"
    " ELSE TRY_CAST(t AS BIGINT) * 86400 END * 1000000) AS DATE)"
    " WHEN typeof(t) SIMILAR TO 'TIMESTAMP.*|DATE' THEN TRY_CAST(t AS DATE)"
    " ELSE CAST(CAST(t AS VARCHAR) AS DATE) END",
    # DuckDB writes 1.0, 1e+30 and 1e-05.
    "_exponent(s) AS CAST(split_part(s, 'e', 2) AS INTEGER)",
    "_digits(s) AS replace(replace(split_part(s, 'e', 1), '.', ''), '-', '')",
    "_double_text(s) AS CASE WHEN NOT contains(s, 'e') THEN regexp_replace(s, '\\.0$', '')"
    " WHEN _exponent(s) BETWEEN 0 AND 20 THEN repeat('-', CAST(starts_with(s, '-') AS INTEGER))"
    " || rpad(_digits(s), _exponent(s) + 1, '0')"
    " WHEN _exponent(s) BETWEEN -6 AND -1 THEN repeat('-', CAST(starts_with(s, '-') AS INTEGER))"
    " || '0.' || repeat('0', -1 - _exponent(s)) || _digits(s)"
    " ELSE split_part(s, 'e', 1) || 'e' || _exponent(s) END",
    "toString(x) AS CASE WHEN typeof(x) IN ('DOUBLE', 'FLOAT')"
    " THEN _double_text(CAST(x AS VARCHAR)) WHEN typeof(x) LIKE 'DECIMAL%'"
    " THEN _double_text(CAST(TRY_CAST(x AS DOUBLE) AS VARCHAR)) ELSE CAST(x AS VARCHAR) END",
    "toFloat64(x) AS CAST(x AS DOUBLE)",
    # DuckDB would take blanks and underscores, too.
    "toFloat64OrNull(x) AS CASE WHEN typeof(x) = 'VARCHAR'"
    " AND regexp_matches(CAST(x AS VARCHAR), '[_\\s]') THEN NULL ELSE TRY_CAST(x AS DOUBLE) END",
    "toFloat64OrZero(x) AS coalesce(toFloat64OrNull(x), 0)",
    *_conversions("toInt64", "BIGINT"),
    *_conversions("toUInt64", "UBIGINT"),
    "mapKeys(m) AS map_keys(m)",
    "mapValues(m) AS map_values(m)",
    "mapContains(m, k) AS map_contains(m, k)",
    "mapContainsKey(m, k) AS map_contains(m, k)",
    # ClickHouse takes every byte beyond ASCII for a part of a token.
    "hasToken(s, token) AS regexp_matches(s, '(^|[^0-9A-Za-z\\x{80}-\\x{10FFFF}])'"
    " || regexp_escape(token) || '($|[^0-9A-Za-z\\x{80}-\\x{10FFFF}])')",
    "match(s, pattern) AS regexp_matches(s, pattern, 's')",
    "positionCaseInsensitive(s, part) AS strpos(lower(s), lower(part))",
    "startsWith(s, part) AS starts_with(s, part)",
    "endsWith(s, part) AS ends_with(s, part)",
    # Of a text, a list, or a map.
    "empty(x) AS CASE WHEN typeof(x) = 'VARCHAR' THEN CAST(x AS VARCHAR) = ''"
    " ELSE CAST(x AS VARCHAR) IN ('[]', '{}') END",
    "notEmpty(x) AS NOT empty(x)",
    "has(l, x) AS list_contains(l, x)",
    "hasAny(l, m) AS list_has_any(l, m)",
    "hasAll(l, m) AS list_has_all(l, m)",
    "arrayJoin(l) AS unnest(l)",
    "arrayElement(l, n) AS l[n]",
    "groupArray(x) AS coalesce(list(x) FILTER (WHERE x IS NOT NULL), [])",
    "groupArrayIf(x, c) AS coalesce(list(x) FILTER (WHERE x IS NOT NULL AND c), [])",
    "groupUniqArray(x) AS coalesce(list(DISTINCT x) FILTER (WHERE x IS NOT NULL), [])",
    "uniq(x) AS count(DISTINCT x), (x, y) AS count(DISTINCT row(x, y))",
    "uniqIf(x, c) AS count(DISTINCT CASE WHEN c THEN x END)",
    "uniqExact(x) AS count(DISTINCT x), (x, y) AS count(DISTINCT row(x, y))",
    "uniqExactIf(x, c) AS count(DISTINCT CASE WHEN c THEN x END)",
    "countIf(c) AS count_if(c)",
    "sumIf(x, c) AS coalesce(sum(CASE WHEN c THEN x END), 0)",
    "avgIf(x, c) AS avg(CASE WHEN c THEN x END)",
    "minIf(x, c) AS min(CASE WHEN c THEN x END)",
    "maxIf(x, c) AS max(CASE WHEN c THEN x END)",
    "anyIf(x, c) AS any_value(CASE WHEN c THEN x END)",
    "anyLast(x) AS last(x) FILTER (WHERE x IS NOT NULL)",
    "anyLastIf(x, c) AS last(x) FILTER (WHERE x IS NOT NULL AND c)",
    "argMin(x, y) AS arg_min(x, y)",
    "argMax(x, y) AS arg_max(x, y)",
    "multiIf(c, x, z) AS CASE WHEN c THEN x ELSE z END,"
    " (c, x, d, y, z) AS CASE WHEN c THEN x WHEN d THEN y ELSE z END,"
    " (c, x, d, y, e, v, z) AS CASE WHEN c THEN x WHEN d THEN y WHEN e THEN v ELSE z END,"
    " (c, x, d, y, e, v, f, w, z) AS"
    " CASE WHEN c THEN x WHEN d THEN y WHEN e THEN v WHEN f THEN w ELSE z END",
    "intDiv(a, b) AS CAST(trunc(a // b) AS BIGINT)",
    # By a JSON pointer, which any key can be written in. What is no JSON has no keys.
    "_json(s, k) AS CASE WHEN json_valid(s)"
    " THEN json_extract(s, '/' || replace(replace(k, '~', '~0'), '/', '~1')) END",
    "_json_text(s, k) AS json_extract_string(_json(s, k), '$')",
    "JSONExtractString(s, k) AS coalesce(_json_text(s, k), ''),"
    " (s, k, l) AS coalesce(_json_text(_json(s, k), l), '')",
    "JSONExtractFloat(s, k) AS coalesce(toFloat64OrNull(_json_text(s, k)), 0)",
    "JSONExtractInt(s, k) AS coalesce(CASE"
    f" WHEN {_IS_WHOLE.format('_json_text(s, k)')} THEN TRY_CAST(_json_text(s, k) AS BIGINT)"
    " ELSE TRY_CAST(trunc(toFloat64OrNull(_json_text(s, k))) AS BIGINT) END, 0)",
    "JSONExtractBool(s, k) AS coalesce(CAST(_json(s, k) AS VARCHAR) = 'true'"
    " OR TRY_CAST(CAST(_json(s, k) AS VARCHAR) AS BIGINT) <> 0, false)",
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
