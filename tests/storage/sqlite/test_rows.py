"""Lines to rows, without decoding what is not asked for."""

from __future__ import annotations

import pytest

from rimp_otel import DecodeError, TelemetryData
from rimp_otel.models.records import Signal
from rimp_otel.otlp.lines import EncodedRecord, join_lines
from rimp_otel.storage.sqlite.rows import line_to_rows
from tests.contract.samples import NOON, everything


@pytest.mark.parametrize("signal", list(Signal))
def test_put_together_again(signal):
    """The rows of our own lines are the records that they were made of."""
    data = everything()
    for line in data.otlp_json(signal):
        rows = list(line_to_rows(line))
        assert [row.signal for row in rows] == [signal] * data.count_of(signal)
        encoded_records = [
            EncodedRecord(
                row.columns.time,
                row.resource.envelope,
                row.scope.envelope,
                row.metric and row.metric.envelope,
                row.text,
            )
            for row in rows
        ]
        assert list(join_lines(signal, encoded_records)) == [line]
        assert encoded_records == data.encoded_records(signal)


def test_columns():
    """The columns hold what filters ask for."""
    (line,) = everything().otlp_json(Signal.TRACES)
    first, bare = (row.columns for row in line_to_rows(line))
    assert first == (
        NOON,
        (2**127 + 1).to_bytes(16, "big"),
        (2**63 + 1).to_bytes(8, "big"),
        "checkout",
        None,
        2,
        250,
        None,
    )
    assert (bare.duration, bare.status) == (None, 0)


def span(fields):
    """Return a line with one span."""
    return b'{"resourceSpans":[{"scopeSpans":[{"spans":[{%s}]}]}]}' % fields


def test_protobufs_own_json():
    """Ids in base64, enumerations by name and numbers as numbers are read."""
    line = span(
        b'"traceId":"CvdlGRbNQ92ESOshHIAxnA==","spanId":"t61rcWkgMzE=","startTimeUnixNano":5,'
        b'"endTimeUnixNano":"9","status":{"code":"STATUS_CODE_ERROR"},"name":null'
    )
    (row,) = line_to_rows(line)
    assert row.columns.trace_id == bytes.fromhex("0af7651916cd43dd8448eb211c80319c")
    assert (row.columns.duration, row.columns.status, row.columns.name) == (4, 2, "")
    assert row.resource.envelope == ('{"resource":{},', "}")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[1]",
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[7]}]}]}',
        span(b'"traceId":"xyz"'),
        span(b'"startTimeUnixNano":"-1"'),
        span(b'"startTimeUnixNano":"18446744073709551616"'),
        b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"gauge":{},"sum":{}}]}]}]}',
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":%s}]}]}]}'
        % (b'{"arrayValue":{"values":[' * 5_000),
    ],
)
def test_what_is_no_otlp_json(line):
    """A line that is not OTLP JSON is refused, and nothing of its batch is kept."""
    with pytest.raises(DecodeError):
        list(line_to_rows(line))


def test_nothing_in_it():
    """A line without records makes no rows."""
    for line in (
        b'{"resourceSpans":null}',
        b'{"resourceSpans":[{}]}',
        b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"x"}]}]}]}',
    ):
        assert list(line_to_rows(line)) == []
    assert not TelemetryData.from_otlp_json([b'{"resourceSpans":null}']).spans
