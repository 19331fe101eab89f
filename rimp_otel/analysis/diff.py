"""What is different between two activities, without what may be chance."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from rimp_otel.analysis.activity import Activity, Failure, Operation, Work, quantile

__all__ = [
    "CallChange",
    "Change",
    "Differences",
    "FailureChange",
    "NewFailure",
    "adjusted",
    "compare",
    "mann_whitney",
    "more_often",
]


# --- Whether a difference between two samples is more than chance, without assuming a distribution.


def mann_whitney(left: Sequence[float], right: Sequence[float]) -> float:
    """The two-sided p-value of the Mann-Whitney U test: how probable it is that samples of one
    distribution differ at least so much in their ranks. From about ten values each; with ties."""
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
    """The rank of each value (of equal ones, their mean), and the correction for ties."""
    before, rank_of, ties = 0, {}, 0.0
    for value, count in sorted(Counter(values).items()):
        rank_of[value] = before + (count + 1) / 2
        before += count
        ties += count**3 - count
    return [rank_of[value] for value in values], ties


def more_often(hits: int, of: int, other_hits: int, of_others: int) -> float:
    """The p-value of Fisher's exact test, one-sided: how probable it is that ``other_hits`` or more
    of ``of_others`` are hits, if they are as frequent there as among the first."""
    all_hits, total = hits + other_hits, of + of_others
    most = min(all_hits, of_others)
    if not total or other_hits > most:
        return 1.0
    whole = _choose(total, of_others)
    found, mean = 0.0, all_hits * of_others / total
    for k in range(max(other_hits, of_others - (total - all_hits)), most + 1):
        term = math.exp(_choose(all_hits, k) + _choose(total - all_hits, of_others - k) - whole)
        found += term
        if k > mean and term < found * 1e-16:
            break  # what follows is smaller still
    return min(found, 1.0)


def _choose(n: int, k: int) -> float:
    """The logarithm of n over k."""
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def adjusted(p_values: Sequence[float]) -> list[float]:
    """The p-values after Benjamini and Hochberg: of those below a bound, the share that is chance
    is below that bound too, however many comparisons there were."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__, reverse=True)
    found, least = [1.0] * len(p_values), 1.0
    for place, index in enumerate(order):
        least = min(least, p_values[index] * len(p_values) / (len(p_values) - place))
        found[index] = least
    return found


# --- What is different between two activities, without what may be chance.

_P = 0.01
_FEWEST = 10
_SLICES = 5
_APART = 0.92


class Change(NamedTuple):
    """An operation that takes another time. Durations in nanoseconds."""

    operation: Operation
    counts: tuple[int, int]
    p50: tuple[int, int]
    p95: tuple[int, int]
    #: "median", "tail", or both: what has moved.
    moved: str
    p_value: float


class FailureChange(NamedTuple):
    """An operation that fails more often, or less."""

    operation: Operation
    counts: tuple[int, int]
    errors: tuple[int, int]
    p_value: float


class CallChange(NamedTuple):
    """A call that is there in one of the two only; the caller of what begins a trace is None."""

    caller: Operation | None
    called: Operation
    number: int
    #: How often the caller ran in that one, and in the other.
    callers: tuple[int, int]


class NewFailure(NamedTuple):
    """A kind of error that was not there before."""

    failure: Failure
    number: int
    #: Where it happened once; 0 outside of a trace.
    trace_id: int


@dataclass
class Differences:
    """All that is different, the most important first."""

    slower: list[Change] = field(default_factory=list)
    faster: list[Change] = field(default_factory=list)
    failing: list[FailureChange] = field(default_factory=list)
    recovered: list[FailureChange] = field(default_factory=list)
    added: list[CallChange] = field(default_factory=list)
    removed: list[CallChange] = field(default_factory=list)
    new_failures: list[NewFailure] = field(default_factory=list)
    #: Operations whose times were compared, and those that have too few spans for that.
    compared: int = 0
    too_few: int = 0

    def __bool__(self) -> bool:
        times, errors = (self.slower, self.faster), (self.failing, self.recovered)
        return any((*times, *errors, self.added, self.removed, self.new_failures))


def compare(before: Activity, after: Activity, least: float = 0.1) -> Differences:
    """What is different after, as against before.

    Args:
        before, after: what went on.
        least: the share by which a median, or a 95th percentile, must differ to be worth a word.
    """
    found = Differences()
    _compare_times(before, after, least, found)
    _compare_errors(before, after, found)
    found.added = list(_calls_only_in(after, before))
    found.removed = list(_calls_only_in(before, after))
    new = [
        NewFailure(failure, seen.number, seen.trace_id)
        for failure, seen in after.failures.items()
        if failure not in before.failures
    ]
    found.new_failures = sorted(new, key=lambda one: (-one.number, one.failure))
    return found


def _compare_times(before: Activity, after: Activity, least: float, found: Differences) -> None:
    both = sorted(before.operations.keys() & after.operations.keys())
    pairs = {one: (before.operations[one], after.operations[one]) for one in both}
    enough = {
        one: pair for one, pair in pairs.items() if min(len(w.sample) for w in pair) >= _FEWEST
    }
    found.compared, found.too_few = len(enough), len(pairs) - len(enough)
    tests = [_tests(left.durations, right.durations) for left, right in enough.values()]
    corrected = adjusted([p for pair in tests for p in pair])
    for i, (operation, (left, right)) in enumerate(enough.items()):
        change = _change(operation, left, right, corrected[2 * i : 2 * i + 2], least)
        if change is not None:
            is_slower = _growth(change) > 0
            (found.slower if is_slower else found.faster).append(change)
    found.slower.sort(key=lambda change: -_growth(change) * change.counts[1])
    found.faster.sort(key=lambda change: _growth(change) * change.counts[1])


def _tests(left: Sequence[int], right: Sequence[int]) -> tuple[float, float]:
    """The p-values of a median that has moved, and of a tail that has."""
    bound, other = quantile(left, 0.95), quantile(right, 0.95)
    over, over_too = (sum(value > bound for value in values) for values in (left, right))
    under, under_too = (sum(value > other for value in values) for values in (left, right))
    grown = more_often(over, len(left), over_too, len(right))
    shrunk = more_often(under_too, len(right), under, len(left))
    return mann_whitney(left, right), min(2 * min(grown, shrunk), 1.0)


def _change(
    operation: Operation, left: Work, right: Work, p_values: Sequence[float], least: float
) -> Change | None:
    a, b = left.durations, right.durations
    p50 = quantile(a, 0.5), quantile(b, 0.5)
    p95 = quantile(a, 0.95), quantile(b, 0.95)
    is_median = p_values[0] < _P and _differ(p50, least) and _is_beyond(a, b, 0.5)
    is_tail = p_values[1] < _P and _differ(p95, least) and _is_beyond(a, b, 0.95)
    if not is_median and not is_tail:
        return None
    moved = "median and tail" if is_median and is_tail else "median" if is_median else "tail"
    p_value = min(p for p, counts in zip(p_values, (is_median, is_tail), strict=True) if counts)
    return Change(operation, (left.count, right.count), p50, p95, moved, p_value)


def _differ(pair: tuple[int, int], least: float) -> bool:
    return abs(pair[1] - pair[0]) > least * min(pair)


def _is_beyond(a: Sequence[int], b: Sequence[int], share: float) -> bool:
    """Whether the two lie apart by more than they vary within themselves.

    Spans that follow one another are alike: tests that take them for independent see news in each
    slow minute. So each is cut into slices along its time, and nearly all slices of the one must lie
    above nearly all of the other.
    """
    ours, theirs = _slices(a, share), _slices(b, share)
    higher = sum((right > left) + (right == left) / 2 for left in ours for right in theirs)
    most = len(ours) * len(theirs)
    return max(higher, most - higher) >= _APART * most


def _slices(values: Sequence[int], share: float) -> list[int]:
    number = (
        min(_SLICES, len(values) // _FEWEST) if share == 0.5 else min(_SLICES, len(values) // 40)
    )
    if number < 2:
        return [quantile(values, share)]
    edges = [len(values) * i // number for i in range(number + 1)]
    return [quantile(values[i:j], share) for i, j in pairwise(edges)]


def _growth(change: Change) -> int:
    """In nanoseconds, of what has moved."""
    before, after = change.p95 if change.moved == "tail" else change.p50
    return after - before


def _compare_errors(before: Activity, after: Activity, found: Differences) -> None:
    both = sorted(before.operations.keys() & after.operations.keys())
    pairs = [(before.operations[one], after.operations[one]) for one in both]
    tests = [
        min(
            2 * more_often(left.errors, left.count, right.errors, right.count),
            2 * more_often(right.errors, right.count, left.errors, left.count),
            1.0,
        )
        for left, right in pairs
    ]
    for operation, (left, right), p in zip(both, pairs, adjusted(tests), strict=True):
        if p < _P:
            change = FailureChange(
                operation, (left.count, right.count), (left.errors, right.errors), p
            )
            is_worse = right.errors / right.count > left.errors / left.count
            (found.failing if is_worse else found.recovered).append(change)


def _calls_only_in(here: Activity, there: Activity) -> Iterator[CallChange]:
    """Those whose absence there is no chance: the caller ran so often that they were due."""
    total_here, total_there = _begun(here), _begun(there)
    for (caller, called), count in here.calls.most_common():
        if (caller, called) in there.calls:
            continue
        ran = total_here if caller is None else here.operations[caller].count
        ran_there = total_there
        if caller is not None:
            ran_there = there.operations[caller].count if caller in there.operations else 0
        due = min(count / ran, 1.0)
        if (1 - due) ** ran_there < _P:
            yield CallChange(caller, called, count, (ran, ran_there))


def _begun(activity: Activity) -> int:
    return sum(count for (caller, _), count in activity.calls.items() if caller is None)
