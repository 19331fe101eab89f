"""Tables of lines: what is accepted and refused, and the order of rows."""

from __future__ import annotations

import pytest

from rimp_otel.errors import DecodeError
from rimp_otel.sql.extras import duckdb
from rimp_otel.sql.logs import LogBuilder
from rimp_otel.sql.metrics import MetricBuilder
from rimp_otel.sql.spans import SpanBuilder

TRACE, SPAN = "5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174"


def rows(builder, columns, is_sorted=False):
    """Some columns of the table that a builder makes."""
    table = builder.take_table(is_sorted)  # found by DuckDB
    table.validate(full=True)
    with duckdb.connect() as connection:
        connection.register("built", table)
        return connection.execute(f"SELECT {columns} FROM built").fetchall()


def spans_line(*spans, service="shop"):
    """A line of spans that are given as JSON."""
    resource = f'{{"attributes":[{{"key":"service.name","value":{{"stringValue":"{service}"}}}}]}}'
    scoped = f'{{"scope":{{"name":"s"}},"spans":[{",".join(spans)}]}}'
    return f'{{"resourceSpans":[{{"resource":{resource},"scopeSpans":[{scoped}]}}]}}'.encode()


def named(name, at=0):
    """The JSON of a span."""
    return f'{{"name":"{name}","startTimeUnixNano":"{at}"}}'


def test_empty_tables():
    """A table without rows has all columns."""
    for builder in (SpanBuilder(), LogBuilder(), MetricBuilder()):
        table = builder.take_table(True)
        assert (table.num_rows, table.schema.names) == (0, builder.schema.names)


def test_unsorted_rows():
    """Rows are in the order of lines; a second table begins anew."""
    builder = SpanBuilder()
    builder.add_line(spans_line(named("b", 2), named("a", 1)))
    builder.add_line(spans_line(named("c", 3), service="mail"))
    assert builder.rows == 3
    assert rows(builder, "ServiceName, SpanName") == [("shop", "b"), ("shop", "a"), ("mail", "c")]
    assert builder.rows == 0
    builder.add_line(spans_line(named("d")))
    assert rows(builder, "ServiceName, SpanName") == [("shop", "d")]


def test_sorted_rows():
    """Rows are sorted by service, name and time, whatever was added first."""
    builder = SpanBuilder()
    builder.add_line(spans_line(named("b", 2), named("b", 1), named("a", 9)))
    builder.add_line(spans_line(named("z", 5), service="mail"))
    assert rows(builder, "ServiceName, SpanName, epoch_ns(Timestamp)", is_sorted=True) == [
        ("mail", "z", 5),
        ("shop", "a", 9),
        ("shop", "b", 1),
        ("shop", "b", 2),
    ]


def test_many_chunks():
    """A table is put together from chunks of any size."""
    builder = SpanBuilder(chunk_size=300)
    for number in range(50):
        attributes = f'[{{"key":"k{number}","value":{{"intValue":"{number}"}}}}]'
        builder.add_line(spans_line(f'{{"name":"n{number % 3}","attributes":{attributes}}}'))
    found = rows(builder, "SpanName, SpanAttributes, SpanAttributeTypes", is_sorted=True)
    assert sorted(
        (name, int(next(iter(values)).removeprefix("k"))) for name, values, _ in found
    ) == (sorted((f"n{number % 3}", number) for number in range(50)))
    assert all(list(values) == list(types) for _, values, types in found)
    assert {kind for _, _, types in found for kind in types.values()} == {"int"}


def test_protobuf_json_is_converted():
    """Ids in base64 or upper-case hex, and enumerations by name, are accepted."""
    builder = SpanBuilder()
    builder.add_line(
        spans_line(
            '{"traceId":"W47/95gDgQPSabYzgT/GDA==","spanId":"7uGbfsPBsXQ=","kind":"SPAN_KIND_SERVER",'
            '"status":{"code":"STATUS_CODE_ERROR"}}',
            f'{{"traceId":"{TRACE.upper()}","spanId":"{SPAN}","kind":3,'
            f'"links":[{{"traceId":"{TRACE.upper()}","spanId":"{SPAN}"}}]}}',
        )
    )
    assert rows(builder, "TraceId, SpanId, SpanKind, StatusCode, Links.TraceId") == [
        (TRACE, SPAN, "Server", "Error", []),
        (TRACE, SPAN, "Client", "Unset", [TRACE]),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "truncated"),
        (b"{}", "none of the keys"),
        (spans_line('{"traceId":"abc"}'), "traceId='abc' is neither 32 hex digits nor base64"),
        (spans_line('{"kind":"SERVER"}'), "kind='SERVER' is not a name that OTLP defines"),
        (spans_line('{"startTimeUnixNano":-1}'), "startTimeUnixNano"),
    ],
)
def test_refused_lines(line, reason):
    """A wrong line is refused with the reason, and none of its records is added."""
    builder = SpanBuilder()
    with pytest.raises(DecodeError, match=reason):
        builder.add_line(line)
    assert builder.rows == 0
    builder.add_line(spans_line(named("a")))
    assert rows(builder, "SpanName") == [("a",)]


def test_other_signals():
    """Lines of other signals add nothing."""
    builder = LogBuilder()
    builder.add_line(spans_line(named("a")))
    assert builder.rows == 0


def test_duplicate_keys():
    """The last value counts, as in a dictionary."""
    pair = '{{"key":"{}","value":{{"stringValue":"{}"}}}}'
    twice = ",".join([pair.format("k", 1), pair.format("other", 2), pair.format("k", 3)])
    builder = SpanBuilder()
    builder.add_line(spans_line(f'{{"attributes":[{twice}]}}', f'{{"attributes":[{twice}]}}'))
    assert rows(builder, "SpanAttributes") == [({"k": "3", "other": "2"},)] * 2


def test_numbers_beyond_64_bits():
    """Times and counts become the largest that fits."""
    builder = SpanBuilder()
    builder.add_line(spans_line(f'{{"startTimeUnixNano":"{2**64 - 1}","endTimeUnixNano":"0"}}'))
    assert rows(builder, "epoch_ns(Timestamp), Duration") == [(2**63 - 2, 0)]
    metrics = MetricBuilder()
    metrics.add_line(
        b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"h","histogram":{"dataPoints":'
        b'[{"count":"18446744073709551615","bucketCounts":["18446744073709551615"]}]}}]}]}]}'
    )
    assert rows(metrics, "Count, BucketCounts") == [(2**63 - 1, [2**63 - 1])]


def test_ids_of_zeros():
    """Ids of zeros stand for none, as in the exporter."""
    builder = SpanBuilder()
    builder.add_line(spans_line(f'{{"traceId":"{"0" * 32}","parentSpanId":"{"0" * 16}"}}'))
    assert rows(builder, "TraceId, SpanId, ParentSpanId") == [("", "", "")]


def test_a_million_distinct_keys():
    """Keys make a map, not columns."""
    builder = SpanBuilder()
    for start in range(0, 1_000_000, 50_000):
        pairs = ",".join(
            f'{{"key":"k{number}","value":{{"stringValue":"v"}}}}'
            for number in range(start, start + 50_000)
        )
        builder.add_line(spans_line(f'{{"name":"{start}","attributes":[{pairs}]}}'))
    found = rows(builder, "SpanName, len(map_keys(SpanAttributes)), SpanAttributes['k950001']")
    assert found[0] == ("0", 50_000, None)
    assert found[-1] == ("950000", 50_000, "v")


def test_large_values_and_control_characters():
    """They are kept unchanged."""
    builder = SpanBuilder()
    value = "x" * 10_000_000
    pair = '{{"key":"{}","value":{{"stringValue":"{}"}}}}'
    pairs = ",".join([pair.format("large", value), pair.format("\\u0000", "\\u001b[2J\\r\\n")])
    builder.add_line(spans_line(f'{{"attributes":[{pairs}]}}'))
    assert rows(builder, "SpanAttributes") == [({"large": value, "\0": "\x1b[2J\r\n"},)]
