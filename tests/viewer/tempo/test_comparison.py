"""Comparisons of spans: SQL says what reading says."""

from __future__ import annotations

import pytest

pytest.importorskip("starlette")
pytest.importorskip("duckdb")

from rimp_otel.models.times import Window
from rimp_otel.viewer.search.conditions import Comparison, Scope
from rimp_otel.viewer.tempo.comparison import ComparedSpans, SpanComparison
from tests.viewer.jaeger.test_v1 import START, S
from tests.viewer.tempo.test_span_numbers import recording, sql  # noqa: F401 (fixtures)

LONG = Comparison(Scope.INTRINSIC, "duration", ">", 1_000_000)
ROOTS = Comparison(Scope.INTRINSIC, "nestedSetParent", "<", 0)


def impatient():
    """A clock by which the first reading takes too long."""
    times = iter([0.0, 1.0])
    return lambda: next(times)


def series_of(found):
    """Return the values of series by their labels, in any order."""
    return {repr(one.labels): one.values for one in found}


@pytest.mark.parametrize("base", [None, ROOTS])
@pytest.mark.parametrize("selected", [Window(), Window(START + 12 * S, START + 16 * S)])
@pytest.mark.parametrize("step", [60 * S, 7 * S])
def test_sql_says_what_reading_says(recording, sql, base, selected, step):  # noqa: F811
    """Of intrinsics, of attributes of all parts of a span, with their types, their totals and the rest."""
    wanted = ComparedSpans(Window(START, START + 60 * S), step, base, LONG, selected, 10)
    read = SpanComparison(recording).compare(wanted)
    asked = SpanComparison(recording, sql, impatient()).compare(wanted)
    odd = ("nan", "inf")  # which SQL's views have as NaN and Infinity, in the order of their texts
    assert {k: v for k, v in series_of(asked).items() if not any(o in k for o in odd)} == {
        k: v for k, v in series_of(read).items() if not any(o in k for o in odd)
    }
    if base is None and step == 60 * S and selected == Window():
        values = series_of(read)
        assert values["(('__meta_type', 'selection'), ('name', 'GET /cart'))"] == [2.0]
        assert values["(('__meta_type', 'selection'), ('span.yes', True))"] == [1.0]
        assert values["(('__meta_type', 'selection'), ('event.exception.type', 'KeyError'))"] == [1]
        assert values["(('__meta_type', 'baseline'), ('resource.service.name', 'db'))"] == [10.0]
        assert values["(('__meta_type', 'baseline_total'), ('span.plain', None))"] == [30.0]


def test_too_much_to_read(recording):  # noqa: F811
    """Without SQL there is no answer then."""
    wanted = ComparedSpans(Window(START, START + 60 * S), S, None, LONG, Window(), 10)
    times = iter([0.0, 100.0])
    assert SpanComparison(recording, None, lambda: next(times)).compare(wanted) is None


def test_the_most_frequent_values(recording, sql):  # noqa: F811
    """Of an attribute with more, the most frequent are there, and a mark."""
    wanted = ComparedSpans(Window(START, START + 60 * S), 60 * S, ROOTS, LONG, Window(), 2)
    for comparison in (SpanComparison(recording), SpanComparison(recording, sql, impatient())):
        found = series_of(comparison.compare(wanted))
        names = [labels for labels in found if "'baseline'), ('name'" in labels]
        assert len(names) == 2
        assert found["(('__meta_type', 'baseline_total'), ('name', None))"] == [30.0]
        assert found["(('__meta_error', '__too_many_values__'), ('name', None))"] == []
