"""Differences between two activities, without those that may be due to chance."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from rimp_otel.analysis.activity import Activity, Failure, Operation, OperationStats, quantile

__all__ = [
    "CallChange",
    "Differences",
    "DurationChange",
    "ErrorRateChange",
    "NewFailure",
    "benjamini_hochberg",
    "diff_operations",
    "fisher_exact_test",
    "mann_whitney_test",
]


# Tests of significance, which assume no distribution.


def mann_whitney_test(left: Sequence[float], right: Sequence[float]) -> float:
    """Return the two-sided p-value of the Mann-Whitney U test, with the correction for ties: how
    probable it is that samples of one distribution differ at least so much in their ranks. From
    about ten values each it is accurate."""
    n, m = len(left), len(right)
    if not n or not m:
        return 1.0
    ranks, ties = _ranks([*left, *right])
    u = sum(ranks[:n]) - n * (n + 1) / 2
    total = n + m
    variance = n * m / 12 * ((total + 1) - ties / (total * (total - 1)))
    if variance <= 0:
        return 1.0
    z = max(abs(u - n * m / 2) - 0.5, 0) / math.sqrt(variance)
    return math.erfc(z / math.sqrt(2))


def _ranks(values: Sequence[float]) -> tuple[list[float], float]:
    """Return the rank of each value (the mean rank of equal ones), and the correction for ties."""
    before, rank_of, ties = 0, {}, 0.0
    for value, count in sorted(Counter(values).items()):
        rank_of[value] = before + (count + 1) / 2
        before += count
        ties += count**3 - count
    return [rank_of[value] for value in values], ties


def fisher_exact_test(hits: int, total: int, other_hits: int, other_total: int) -> float:
    """Return the one-sided p-value of Fisher's exact test: how probable it is that ``other_hits`` or
    more of ``other_total`` are hits, if hits are as frequent there as among the first ``total``."""
    all_hits, whole = hits + other_hits, total + other_total
    most = min(all_hits, other_total)
    if not whole or other_hits > most:
        return 1.0
    log_all = _log_binomial(whole, other_total)
    found, mean = 0.0, all_hits * other_total / whole
    for k in range(max(other_hits, other_total - (whole - all_hits)), most + 1):
        log_ways = _log_binomial(all_hits, k) + _log_binomial(whole - all_hits, other_total - k)
        term = math.exp(log_ways - log_all)
        found += term
        if k > mean and term < found * 1e-16:
            break  # the terms to come are smaller still
    return min(found, 1.0)


def _log_binomial(n: int, k: int) -> float:
    """Return the logarithm of "n choose k"."""
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted by Benjamini and Hochberg: among those below a bound, the
    expected share of chance findings is below that bound too, however many tests there were."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__, reverse=True)
    adjusted, least = [1.0] * len(p_values), 1.0
    for place, index in enumerate(order):
        least = min(least, p_values[index] * len(p_values) / (len(p_values) - place))
        adjusted[index] = least
    return adjusted


# Differences between two activities.

_MAX_P_VALUE = 0.01
_MIN_SPANS = 10
_MIN_SPANS_OF_TAIL = 40
_MAX_SLICES = 5
_MIN_SHARE_BEYOND = 0.92


class DurationChange(NamedTuple):
    """An operation that became slower or faster. Pairs are before and after, in nanoseconds."""

    operation: Operation
    counts: tuple[int, int]
    p50: tuple[int, int]
    p95: tuple[int, int]
    #: What has changed: "median", "tail" or "median and tail".
    moved: str
    p_value: float


class ErrorRateChange(NamedTuple):
    """An operation that fails more often, or less often. Pairs are before and after."""

    operation: Operation
    counts: tuple[int, int]
    errors: tuple[int, int]
    p_value: float


class CallChange(NamedTuple):
    """A call that only one of the two activities has; the caller is None for roots of traces."""

    caller: Operation | None
    called: Operation
    times: int
    #: How often the caller ran in that activity, and in the other.
    caller_counts: tuple[int, int]


class NewFailure(NamedTuple):
    """A kind of error that did not happen before."""

    failure: Failure
    times: int
    #: A trace in which it happened; 0 if it happened outside of any.
    trace_id: int


@dataclass
class Differences:
    """The differences that are not due to chance, the most important first; false if none."""

    slower: list[DurationChange] = field(default_factory=list)
    faster: list[DurationChange] = field(default_factory=list)
    failing: list[ErrorRateChange] = field(default_factory=list)
    recovered: list[ErrorRateChange] = field(default_factory=list)
    added: list[CallChange] = field(default_factory=list)
    removed: list[CallChange] = field(default_factory=list)
    new_failures: list[NewFailure] = field(default_factory=list)
    #: Operations whose durations were compared.
    compared: int = 0
    #: Operations that have too few spans for that.
    too_few: int = 0

    def __bool__(self) -> bool:
        times, errors = (self.slower, self.faster), (self.failing, self.recovered)
        return any((*times, *errors, self.added, self.removed, self.new_failures))


def diff_operations(before: Activity, after: Activity, min_change: float = 0.1) -> Differences:
    """Return how the operations differ, without differences that may be due to chance.

    Args:
        before, after: the activities to compare.
        min_change: the smallest relative change of a median, or of a 95th percentile, to report.
    """
    found = Differences()
    _compare_durations(before, after, min_change, found)
    _compare_errors(before, after, found)
    found.added = list(_calls_only_in(after, before))
    found.removed = list(_calls_only_in(before, after))
    new = [
        NewFailure(failure, *count)
        for failure, count in after.failures.items()
        if failure not in before.failures
    ]
    found.new_failures = sorted(new, key=lambda one: (-one.times, one.failure))
    return found


def _compare_durations(
    before: Activity, after: Activity, min_change: float, found: Differences
) -> None:
    both = sorted(before.operations.keys() & after.operations.keys())
    pairs = {one: (before.operations[one], after.operations[one]) for one in both}
    enough = {
        one: pair
        for one, pair in pairs.items()
        if min(len(stats.sample) for stats in pair) >= _MIN_SPANS
    }
    found.compared, found.too_few = len(enough), len(pairs) - len(enough)
    tests = [_test_durations(left.durations, right.durations) for left, right in enough.values()]
    p_values = benjamini_hochberg([p for pair in tests for p in pair])
    for i, (operation, (left, right)) in enumerate(enough.items()):
        change = _change_of(operation, left, right, p_values[2 * i : 2 * i + 2], min_change)
        if change is not None:
            is_slower = _growth(change) > 0
            (found.slower if is_slower else found.faster).append(change)
    found.slower.sort(key=lambda change: -_growth(change) * change.counts[1])
    found.faster.sort(key=lambda change: _growth(change) * change.counts[1])


def _test_durations(left: Sequence[int], right: Sequence[int]) -> tuple[float, float]:
    """Return the p-values of a median that has changed, and of a tail that has."""
    bound, other = quantile(left, 0.95), quantile(right, 0.95)
    over, over_too = (sum(value > bound for value in values) for values in (left, right))
    under, under_too = (sum(value > other for value in values) for values in (left, right))
    grown = fisher_exact_test(over, len(left), over_too, len(right))
    shrunk = fisher_exact_test(under_too, len(right), under, len(left))
    return mann_whitney_test(left, right), min(2 * min(grown, shrunk), 1.0)


def _change_of(
    operation: Operation,
    left: OperationStats,
    right: OperationStats,
    p_values: Sequence[float],
    min_change: float,
) -> DurationChange | None:
    a, b = left.durations, right.durations
    p50 = quantile(a, 0.5), quantile(b, 0.5)
    p95 = quantile(a, 0.95), quantile(b, 0.95)
    is_median = p_values[0] < _MAX_P_VALUE and _differ(p50, min_change) and _is_beyond(a, b, 0.5)
    is_tail = p_values[1] < _MAX_P_VALUE and _differ(p95, min_change) and _is_beyond(a, b, 0.95)
    if not is_median and not is_tail:
        return None
    moved = "median and tail" if is_median and is_tail else "median" if is_median else "tail"
    p_value = min(p for p, counts in zip(p_values, (is_median, is_tail), strict=True) if counts)
    return DurationChange(operation, (left.count, right.count), p50, p95, moved, p_value)


def _differ(pair: tuple[int, int], min_change: float) -> bool:
    return abs(pair[1] - pair[0]) > min_change * min(pair)


def _is_beyond(a: Sequence[int], b: Sequence[int], share: float) -> bool:
    """Return True if the two differ by more than they vary within themselves.

    Spans that follow one another are alike: tests that treat them as independent find a difference
    in each slow minute. So each is cut into slices along its time, and nearly all slices of the one
    must lie above nearly all of the other.
    """
    ours, theirs = _slices(a, share), _slices(b, share)
    higher = sum((right > left) + (right == left) / 2 for left in ours for right in theirs)
    most = len(ours) * len(theirs)
    return max(higher, most - higher) >= _MIN_SHARE_BEYOND * most


def _slices(values: Sequence[int], share: float) -> list[int]:
    """Return the quantile of each of up to five slices."""
    per_slice = _MIN_SPANS if share == 0.5 else _MIN_SPANS_OF_TAIL
    count = min(_MAX_SLICES, len(values) // per_slice)
    if count < 2:
        return [quantile(values, share)]
    edges = [len(values) * i // count for i in range(count + 1)]
    return [quantile(values[i:j], share) for i, j in pairwise(edges)]


def _growth(change: DurationChange) -> int:
    """Return the change of the median, or of the tail alone, in nanoseconds."""
    before, after = change.p95 if change.moved == "tail" else change.p50
    return after - before


def _compare_errors(before: Activity, after: Activity, found: Differences) -> None:
    both = sorted(before.operations.keys() & after.operations.keys())
    pairs = [(before.operations[one], after.operations[one]) for one in both]
    tests = [
        min(
            2 * fisher_exact_test(left.errors, left.count, right.errors, right.count),
            2 * fisher_exact_test(right.errors, right.count, left.errors, left.count),
            1.0,
        )
        for left, right in pairs
    ]
    p_values = benjamini_hochberg(tests)
    for operation, (left, right), p in zip(both, pairs, p_values, strict=True):
        if p < _MAX_P_VALUE:
            change = ErrorRateChange(
                operation, (left.count, right.count), (left.errors, right.errors), p
            )
            is_worse = right.errors / right.count > left.errors / left.count
            (found.failing if is_worse else found.recovered).append(change)


def _calls_only_in(here: Activity, there: Activity) -> Iterator[CallChange]:
    """Yield the calls whose absence from ``there`` is not chance: the caller ran often enough."""
    total_here, total_there = _count_traces(here), _count_traces(there)
    for (caller, called), count in here.calls.most_common():
        if (caller, called) in there.calls:
            continue
        ran = total_here if caller is None else here.operations[caller].count
        ran_there = total_there
        if caller is not None:
            ran_there = there.operations[caller].count if caller in there.operations else 0
        due = min(count / ran, 1.0)
        if (1 - due) ** ran_there < _MAX_P_VALUE:
            yield CallChange(caller, called, count, (ran, ran_there))


def _count_traces(activity: Activity) -> int:
    return sum(count for (caller, _), count in activity.calls.items() if caller is None)
