"""Values of series, and their sums over processes.

A value is a number, or what a histogram, an exponential histogram or a summary has counted.
"""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
from msgspec import Struct

from rimp_otel.analysis.metrics import Distribution

__all__ = [
    "HistogramTotal",
    "SummaryTotal",
    "Value",
    "add_values",
    "count_in",
    "never_back",
    "subtract_value",
]

Value = Any
"""An int, a float, HistogramTotal, Distribution (of an exponential histogram) or SummaryTotal."""

# Two sums that differ by no more than this are one, added up in another order.
_ROUNDING = 1e-12


class HistogramTotal(Struct, frozen=True, gc=False):
    """A histogram with explicit bounds."""

    bounds: tuple[float, ...]
    #: By bucket; one more than bounds.
    counts: tuple[int, ...]
    count: int
    #: None if a process does not say.
    sum: float | None

    def with_bounds(self, bounds: tuple[float, ...]) -> HistogramTotal:
        """Return the histogram with other bounds; what was counted up to one of both stays exact.

        A bucket that is cut by a new bound is counted above it, where its upper bound lies.
        """
        counts = [0] * (len(bounds) + 1)
        for bound, count in zip((*self.bounds, math.inf), self.counts, strict=True):
            counts[bisect.bisect_left(bounds, bound)] += count
        return HistogramTotal(bounds, tuple(counts), self.count, self.sum)


class SummaryTotal(Struct, frozen=True, gc=False):
    """A summary. Quantiles of several processes cannot be put together: there are none then."""

    count: int
    sum: float
    quantiles: tuple[tuple[float, float], ...]


def count_in(value: Value) -> Any:
    """Return how much was counted: the number itself, or the number of values."""
    return value if isinstance(value, (int, float)) else value.count


def add_values(values: Sequence[Value]) -> Value:
    """Return the sum of values of one kind; at least one.

    Sums of floats do not depend on the order. Histograms get the bounds of the last one, exponential
    ones the coarsest scale.
    """
    last = values[-1]
    if len(values) == 1:
        return last
    if isinstance(last, HistogramTotal):
        return _add_histograms(values)
    if isinstance(last, Distribution):
        return _add_exponentials(values)
    if isinstance(last, SummaryTotal):
        count = sum(value.count for value in values)
        return SummaryTotal(count, _add_floats([value.sum for value in values]), ())
    total = sum(values)
    return total if isinstance(total, int) else _add_floats(values)


def _add_floats(values: Sequence[float]) -> float:
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):  # infinities
        return float(sum(values))


def _add_optional(sums: Sequence[float | None]) -> float | None:
    known = [one for one in sums if one is not None]
    return _add_floats(known) if len(known) == len(sums) else None


def _add_histograms(values: Sequence[HistogramTotal]) -> HistogramTotal:
    bounds = values[-1].bounds
    counts = [
        one.counts
        if one.bounds is bounds or one.bounds == bounds
        else one.with_bounds(bounds).counts
        for one in values
    ]
    return HistogramTotal(
        bounds,
        tuple(map(sum, zip(*counts, strict=True))),
        sum(one.count for one in values),
        _add_optional([one.sum for one in values]),
    )


def _add_exponentials(values: Sequence[Distribution]) -> Distribution:
    scale = min(scale_of(one) for one in values)
    counts: Counter[int] = Counter()
    negative: Counter[int] = Counter()
    for one in values:
        found = one.at_scale(scale)
        for total, added in ((counts, found.counts), (negative, found.negative)):
            for index, count in added.items():
                total[index] += count
    return Distribution(
        scale,
        sum(one.count for one in values),
        _add_optional([one.sum for one in values]),
        counts,
        negative,
        sum(one.zeros for one in values),
        max(one.zero_threshold for one in values),
    )


def scale_of(value: Distribution) -> int:
    """Return the scale of an exponential histogram."""
    assert isinstance(value.layout, int)
    return value.layout


def subtract_value(total: Value, value: Value) -> Value:
    """Return what has to be added to ``value`` for ``total``; counts of it may be negative."""
    if isinstance(value, HistogramTotal):
        negated: Value = HistogramTotal(
            value.bounds,
            tuple(-count for count in value.counts),
            -value.count,
            None if value.sum is None else -value.sum,
        )
    elif isinstance(value, Distribution):
        negated = replace(
            value,
            count=-value.count,
            sum=None if value.sum is None else -value.sum,
            counts=Counter({index: -count for index, count in value.counts.items()}),
            negative=Counter({index: -count for index, count in value.negative.items()}),
            zeros=-value.zeros,
        )
    elif isinstance(value, SummaryTotal):
        negated = SummaryTotal(-value.count, -value.sum, ())
    else:
        negated = -value
    return negated if total is None else add_values([total, negated])


def never_back(value: Value, before: Value) -> Value:
    """Return a value, or the one before where it is less by nothing but rounding.

    Else Prometheus would take it for a counter that has begun anew.
    """
    if isinstance(value, float) and isinstance(before, (int, float)):
        return before if _is_rounded_down(value, before) else value
    if value is None or isinstance(value, int) or not isinstance(before, type(value)):
        return value
    if not _is_rounded_down(value.sum, before.sum):
        return value
    change: Any = replace if isinstance(value, Distribution) else msgspec.structs.replace
    return change(value, sum=before.sum)


def _is_rounded_down(value: float | None, before: float | None) -> bool:
    if value is None or before is None or not value < before:
        return False
    return math.isclose(value, before, rel_tol=_ROUNDING)
