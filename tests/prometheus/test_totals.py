"""Sums are exact where they can be, and never less for rounding."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from rimp_otel.prometheus.totals import (
    HistogramTotal,
    SummaryTotal,
    add_values,
    never_back,
    subtract_value,
)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=5))
def test_the_order_does_not_matter(numbers):
    """A sum of floats that changes with the order would go back."""
    assert len({add_values(order) for order in itertools.permutations(numbers)}) == 1


def test_whole_numbers_stay_exact():
    """Beyond what a float can hold."""
    assert add_values([2**60, 1]) == 2**60 + 1


def test_histograms_with_other_bounds():
    """The newest bounds count; what was counted up to a bound of both stays."""
    old = HistogramTotal((1.0, 2.0, 5.0), (1, 2, 3, 4), 10, 30.0)
    new = HistogramTotal((2.0, 3.0), (1, 1, 1), 3, 7.0)
    assert add_values([old, new]) == HistogramTotal((2.0, 3.0), (4, 1, 8), 13, 37.0)


def test_never_back():
    """A value that is less by rounding alone is the one before."""
    assert never_back(0.1 + 0.2, 0.3) == 0.1 + 0.2
    assert never_back(0.3, 0.1 + 0.2) == 0.1 + 0.2
    assert never_back(0.2, 0.3) == 0.2
    assert never_back(SummaryTotal(4, 0.3, ()), SummaryTotal(3, 0.1 + 0.2, ())) == SummaryTotal(
        4, 0.1 + 0.2, ()
    )
    assert never_back(None, 5.0) is None


def test_subtract_value():
    """What a value has to be added to for the total."""
    one, two = HistogramTotal((1.0,), (1, 2), 3, 4.0), HistogramTotal((1.0,), (5, 0), 5, 2.0)
    assert add_values([subtract_value(one, two), two]) == one
    assert subtract_value(None, 5) == -5
