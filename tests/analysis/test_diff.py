"""Differences between two activities: real ones are found, noise is not."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from rimp_otel.analysis.activity import Activity, Operation
from rimp_otel.analysis.diff import (
    benjamini_hochberg,
    diff_operations,
    fisher_exact_test,
    mann_whitney_test,
)
from tests.cli.records import span


def test_mann_whitney() -> None:
    """The result is that of scipy.stats.mannwhitneyu(…, method="asymptotic"), with ties."""
    left, right = list(range(1, 11)), list(range(3, 22, 2))
    assert mann_whitney_test(left, right) == pytest.approx(0.017090034750, rel=1e-9)
    assert mann_whitney_test(right, left) == mann_whitney_test(left, right)


def test_mann_whitney_of_nothing() -> None:
    """Samples that say nothing differ by chance."""
    assert mann_whitney_test([], [1]) == 1
    assert mann_whitney_test([2, 2], [2, 2, 2]) == 1


@pytest.mark.parametrize(
    ("counts", "p"),
    [
        ((1, 10, 5, 10), 0.0704334365),
        ((0, 100, 3, 80), 0.0859540100),
        ((50, 1000, 80, 1000), 0.0041542242),
        ((0, 5, 0, 5), 1.0),
        ((5, 5, 5, 5), 1.0),
        ((0, 0, 0, 0), 1.0),
        ((0, 10**6, 50_000, 10**6), 0.0),
    ],
)
def test_fisher_exact_test(counts: tuple[int, int, int, int], p: float) -> None:
    """The result is that of scipy.stats.fisher_exact(…, alternative="greater")."""
    assert fisher_exact_test(*counts) == pytest.approx(p, abs=1e-9)


def test_benjamini_hochberg() -> None:
    """The result is that of scipy.stats.false_discovery_control."""
    found = benjamini_hochberg([0.01, 0.04, 0.03, 0.5, 0.001])
    assert found == pytest.approx([0.025, 0.05, 0.05, 0.5, 0.005])
    assert benjamini_hochberg([]) == []


Draw = Callable[[random.Random, int], float]


def usual(draw: random.Random, _: int) -> float:
    """Milliseconds, distributed like the durations of requests."""
    return draw.lognormvariate(4, 0.6)


def activity(
    seed: int, draw: Draw = usual, number: int = 300, fail: float = 0.02, name: str = "op"
) -> Activity:
    """Spans of one operation, one per second."""
    found, luck = Activity(), random.Random(seed)
    for i in range(number):
        end = i * 1_000 + max(1, round(draw(luck, i)))
        error = "boom" if luck.random() < fail else None
        found.add_span(span(name, i + 1, 0, i * 1_000, end, error=error, trace_id=i + 1))
    return found


def test_slower() -> None:
    """A third more is told from chance with 300 spans, in both directions."""
    before, after = activity(1), activity(2, lambda draw, i: usual(draw, i) * 1.33)
    (change,) = diff_operations(before, after).slower
    assert change.operation == Operation("shop", "op")
    assert change.counts == (300, 300)
    assert change.p50[1] > 1.15 * change.p50[0]
    assert change.p_value < 0.001
    assert diff_operations(after, before).faster[0].p50 == change.p50[::-1]


def test_a_slower_tail() -> None:
    """If one span in eight takes long, the tail changes and the median does not."""

    def some(draw: random.Random, i: int) -> float:
        return usual(draw, i) * (8 if draw.random() < 0.12 else 1)

    (change,) = diff_operations(activity(1), activity(2, some)).slower
    assert change.moved == "tail"
    assert change.p95[1] > 2 * change.p95[0]


def test_noise_is_not_reported() -> None:
    """Of a hundred pairs that differ by chance alone, one at most is reported."""
    reported = 0
    for seed in range(0, 200, 2):
        found = diff_operations(activity(seed, number=120), activity(seed + 1, number=120))
        reported += bool(found.slower or found.faster or found.failing or found.recovered)
    assert reported <= 1


def test_one_slow_minute_is_seldom_reported() -> None:
    """Its spans are alike: a test that treats them as independent is sure in 24 of these 25."""

    def slow(draw: random.Random, i: int) -> float:
        return usual(draw, i) * (3 if 30 <= i < 90 else 1)

    pairs = [diff_operations(activity(seed, slow), activity(seed + 1)) for seed in range(0, 50, 2)]
    assert sum(bool(found.slower or found.faster) for found in pairs) <= 8


def test_small_changes_are_not_reported() -> None:
    """However certain a change is, the caller says how large it must be."""
    before, after = (
        activity(seed, lambda draw, i, by=by: 1_000 * by + draw.random() * 5, number=900)  # type: ignore[misc]
        for seed, by in ((1, 1.0), (2, 1.05))
    )
    assert not diff_operations(before, after).slower
    assert diff_operations(before, after, min_change=0.02).slower


def test_too_few() -> None:
    """Nine spans are not compared."""
    found = diff_operations(activity(1, number=9), activity(2, lambda draw, i: 9_000, number=900))
    assert (found.compared, found.too_few, found.slower) == (0, 1, [])


def test_failing() -> None:
    """An operation can fail more often, or less often."""
    before, after = activity(1), activity(2, fail=0.2)
    (change,) = diff_operations(before, after).failing
    assert change.errors[0] < 15 < 40 < change.errors[1]
    assert diff_operations(after, before).recovered[0].errors == change.errors[::-1]


def calls(seed: int, *share: float, number: int = 300) -> Activity:
    """Traces whose root calls each child with its probability."""
    found, luck = Activity(), random.Random(seed)
    for i in range(number):
        found.add_span(span("root", 1, 0, 0, 5, trace_id=i + 1))
        for child, probability in enumerate(share):
            if luck.random() < probability:
                found.add_span(span(f"child {child}", child + 2, 1, 1, 2, trace_id=i + 1))
    return found


def test_calls() -> None:
    """New and removed calls are reported, unless they are too rare for their absence to count."""
    found = diff_operations(calls(1, 1, 0, 0.5, 0.004), calls(2, 1, 1, 0, 0))
    assert [(change.called.name, change.times, change.caller_counts) for change in found.added] == [
        ("child 1", 300, (300, 300))
    ]
    (gone,) = found.removed
    assert (gone.caller, gone.called) == (Operation("shop", "root"), Operation("shop", "child 2"))


def test_a_new_root() -> None:
    """Roots of traces are called by nobody."""
    found = diff_operations(activity(1), activity(2, name="new"))
    (added,) = found.added
    assert (added.caller, added.called.name, added.caller_counts) == (None, "new", (300, 300))
    assert [change.called.name for change in found.removed] == ["op"]


def test_new_failures() -> None:
    """Kinds of error that did not happen before are reported, the most frequent first."""
    before, after = Activity(), Activity()
    before.add_span(span("a", 1, error="timeout after 12 s"))
    for text in ("timeout after 99 s", "refused", "refused", "reset"):
        after.add_span(span("a", 1, error=text))
    found = diff_operations(before, after).new_failures
    assert [(one.failure.text, one.times) for one in found] == [("refused", 2), ("reset", 1)]


def test_no_differences() -> None:
    """Equal activities do not differ."""
    assert not diff_operations(activity(1), activity(1))
    assert diff_operations(calls(1, 1), calls(1, 0))
