"""Numbers of many spans: SQL says what reading says."""

from __future__ import annotations

import pytest

pytest.importorskip("starlette")
pytest.importorskip("duckdb")

from rimp_otel import TelemetryData
from rimp_otel.errors import MissingExtraError, QueryError
from rimp_otel.models.times import Window
from rimp_otel.storage.recording import open_storage
from rimp_otel.viewer.answers.sql import SqlAnswers
from rimp_otel.viewer.questions import PreparingError
from rimp_otel.viewer.search.conditions import Comparison, Scope
from rimp_otel.viewer.search.trace_search import Aggregation, SpanField, TraceSearch
from rimp_otel.viewer.tempo.span_numbers import SpanNumbers
from tests.viewer.jaeger.test_v1 import DETAILED, START, S, attribute, line, span


class Impatient(TraceSearch):
    """A search that never has the time to read all."""

    def aggregate(self, wanted, with_buckets=False):
        """Return nothing that is complete."""
        return [], False


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """A recording, of which some is sealed: spans of all durations, values of all types."""
    path = tmp_path_factory.mktemp("numbers") / "recording"
    plain = [{"intValue": "7"}, {"doubleValue": 7.0}, {"stringValue": "7"}, {"boolValue": True}]
    odd = [
        *plain,
        {"arrayValue": {"values": [{"intValue": "7"}]}},
        {"doubleValue": "NaN"},
        {"doubleValue": "Infinity"},
    ]
    spans = [
        span(
            n,
            f"poll {n % 3}",
            trace=n,
            start=n,
            seconds=2.0**-n,
            attributes=[
                attribute("plain", **plain[n % len(plain)]),
                attribute("odd", **odd[n % len(odd)]),
            ],
        )
        for n in range(10, 40)
    ]
    with open_storage(path) as storage:
        storage.store(TelemetryData.from_otlp_json([line("shop", DETAILED, *spans[:20])]))
        storage.rotate()
        storage.store(TelemetryData.from_otlp_json([line("db", *spans[20:], span(50, parent=49))]))
    return path


@pytest.fixture(scope="module")
def sql(recording):
    """DuckDB over the recording."""
    answers = SqlAnswers(recording, patience=60.0)
    yield answers
    answers.close()


FIELDS = [
    (Scope.INTRINSIC, "name"),
    (Scope.INTRINSIC, "status"),
    (Scope.INTRINSIC, "kind"),
    (Scope.INTRINSIC, "event:name"),
    (Scope.RESOURCE, "service.name"),
    (Scope.RESOURCE, "zone"),
    (Scope.SPAN, "plain"),
    (Scope.SPAN, "nope"),
    (Scope.ANY, "zone"),
    (Scope.ANY, "plain"),
    (Scope.INSTRUMENTATION, "nope"),
]


def rounded(cells):
    """Return cells so that they can be compared, whatever their order."""
    return sorted(
        (c.step, repr(c.group), c.count, round(c.sum, 6), c.min, c.max, sorted(c.buckets.items()))
        for c in cells
    )


@pytest.mark.parametrize("field", FIELDS, ids=str)
@pytest.mark.parametrize(
    "value", [None, (Scope.INTRINSIC, "duration"), (Scope.SPAN, "odd")], ids=str
)
@pytest.mark.parametrize("with_buckets", [False, True])
def test_sql_says_what_reading_says(recording, sql, field, value, with_buckets):
    """By field, of a number or of spans, with types and powers of two."""
    wanted = Aggregation(
        Window(START, START + 60 * S),
        7 * S,
        Comparison(Scope.INTRINSIC, "nestedSetParent", "<", 0),
        (SpanField(*field),),
        None if value is None else SpanField(*value),
    )
    read, is_complete = TraceSearch(recording).aggregate(wanted, with_buckets)
    assert is_complete
    asked, is_complete = SpanNumbers(Impatient(recording), sql).aggregate(wanted, with_buckets)
    assert is_complete
    if not with_buckets:
        asked = [type(c)(c.step, c.group, c.count, c.sum, c.min, c.max, {}) for c in asked]
    assert rounded(asked) == rounded(read)


def test_without_sql_and_without_time(recording):
    """What could not be read in time is not complete."""
    wanted = Aggregation(Window(START, START + 60 * S), 60 * S)
    assert SpanNumbers(Impatient(recording)).aggregate(wanted) == ([], False)


@pytest.mark.parametrize(
    "error", [MissingExtraError("DuckDB", "sql"), QueryError("too much memory")]
)
def test_without_the_extra(recording, error):
    """All is read, as far as there is time."""

    class Failing(SqlAnswers):
        def fetch(self, sql, parameters, limit):
            raise error

    class Slow(TraceSearch):
        def aggregate(self, wanted, with_buckets=False):
            cells, is_complete = super().aggregate(wanted, with_buckets)
            return cells, is_complete and wanted.deadline > 1

    wanted = Aggregation(Window(START, START + 60 * S), 60 * S)
    cells, is_complete = SpanNumbers(Slow(recording), Failing(recording)).aggregate(wanted)
    assert ([cell.count for cell in cells], is_complete) == ([32], True)


def test_while_copies_are_made(recording):
    """It is said that they are being made, where reading takes too long."""

    class Preparing(SqlAnswers):
        def fetch(self, sql, parameters, limit):
            raise PreparingError(1, 2, "Parquet copies")

    wanted = Aggregation(Window(START, START + 60 * S), 60 * S)
    with pytest.raises(PreparingError, match="making Parquet copies: 1 of 2"):
        SpanNumbers(Impatient(recording), Preparing(recording)).aggregate(wanted)
    cells, is_complete = SpanNumbers(TraceSearch(recording), Preparing(recording)).aggregate(wanted)
    assert ([cell.count for cell in cells], is_complete) == ([32], True)
