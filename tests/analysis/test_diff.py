"""What is different, and that noise is not."""

from __future__ import annotations

import random
from collections.abc import Callable

from rimp_otel.analysis.activity import Activity, Operation
from rimp_otel.analysis.diff import compare
from tests.cli.records import span

Draw = Callable[[random.Random, int], float]


def usual(draw: random.Random, _: int) -> float:
    """Milliseconds, as requests take them."""
    return draw.lognormvariate(4, 0.6)


def activity(
    seed: int, draw: Draw = usual, number: int = 300, fail: float = 0.02, name: str = "op"
) -> Activity:
    """Spans of one operation, one a second."""
    found, luck = Activity(), random.Random(seed)
    for i in range(number):
        end = i * 1_000 + max(1, round(draw(luck, i)))
        error = "boom" if luck.random() < fail else None
        found.add_span(span(name, i + 1, 0, i * 1_000, end, error=error, trace_id=i + 1))
    return found


def test_slower() -> None:
    """A third is told from chance with 300 spans, in both directions."""
    before, after = activity(1), activity(2, lambda draw, i: usual(draw, i) * 1.33)
    (change,) = compare(before, after).slower
    assert change.operation == Operation("shop", "op")
    assert change.counts == (300, 300)
    assert change.p50[1] > 1.15 * change.p50[0]
    assert change.p_value < 0.001
    assert compare(after, before).faster[0].p50 == change.p50[::-1]


def test_a_slower_tail() -> None:
    """Where one in eight takes long, the median says nothing."""

    def some(draw: random.Random, i: int) -> float:
        return usual(draw, i) * (8 if draw.random() < 0.12 else 1)

    (change,) = compare(activity(1), activity(2, some)).slower
    assert change.moved == "tail"
    assert change.p95[1] > 2 * change.p95[0]


def test_noise_is_no_news() -> None:
    """Of a hundred pairs that are the same but for chance, one at most is said to differ."""
    said = 0
    for seed in range(0, 200, 2):
        found = compare(activity(seed, number=120), activity(seed + 1, number=120))
        said += bool(found.slower or found.faster or found.failing or found.recovered)
    assert said <= 1


def test_one_slow_minute_is_seldom_news() -> None:
    """Spans in it are alike: a test that takes them for independent is sure in 24 of these 25."""

    def slow(draw: random.Random, i: int) -> float:
        return usual(draw, i) * (3 if 30 <= i < 90 else 1)

    pairs = [compare(activity(seed, slow), activity(seed + 1)) for seed in range(0, 50, 2)]
    assert sum(bool(found.slower or found.faster) for found in pairs) <= 8


def test_little_is_not_worth_a_word() -> None:
    """However certain it is; how much is for the caller to say."""
    before, after = (
        activity(seed, lambda draw, i, by=by: 1_000 * by + draw.random() * 5, number=900)  # type: ignore[misc]
        for seed, by in ((1, 1.0), (2, 1.05))
    )
    assert not compare(before, after).slower
    assert compare(before, after, least=0.02).slower


def test_too_few() -> None:
    """Nine spans tell nothing."""
    found = compare(activity(1, number=9), activity(2, lambda draw, i: 9_000, number=900))
    assert (found.compared, found.too_few, found.slower) == (0, 1, [])


def test_failing() -> None:
    """More often, or less."""
    before, after = activity(1), activity(2, fail=0.2)
    (change,) = compare(before, after).failing
    assert change.errors[0] < 15 < 40 < change.errors[1]
    assert compare(after, before).recovered[0].errors == change.errors[::-1]


def calls(seed: int, *share: float, number: int = 300) -> Activity:
    """A root whose children are called with these probabilities."""
    found, luck = Activity(), random.Random(seed)
    for i in range(number):
        found.add_span(span("root", 1, 0, 0, 5, trace_id=i + 1))
        for child, probability in enumerate(share):
            if luck.random() < probability:
                found.add_span(span(f"child {child}", child + 2, 1, 1, 2, trace_id=i + 1))
    return found


def test_calls() -> None:
    """What is new or gone, unless it was so rare that its absence says nothing."""
    found = compare(calls(1, 1, 0, 0.5, 0.004), calls(2, 1, 1, 0, 0))
    assert [(change.called.name, change.number, change.callers) for change in found.added] == [
        ("child 1", 300, (300, 300))
    ]
    (gone,) = found.removed
    assert (gone.caller, gone.called) == (Operation("shop", "root"), Operation("shop", "child 2"))


def test_a_new_beginning() -> None:
    """A trace that begins with what never began one."""
    found = compare(activity(1), activity(2, name="new"))
    (added,) = found.added
    assert (added.caller, added.called.name, added.callers) == (None, "new", (300, 300))
    assert [change.called.name for change in found.removed] == ["op"]


def test_new_failures() -> None:
    """The most frequent first; those known before are no news."""
    before, after = Activity(), Activity()
    before.add_span(span("a", 1, error="timeout after 12 s"))
    for text in ("timeout after 99 s", "refused", "refused", "reset"):
        after.add_span(span("a", 1, error=text))
    found = compare(before, after).new_failures
    assert [(one.failure.text, one.number) for one in found] == [("refused", 2), ("reset", 1)]


def test_nothing() -> None:
    """What is the same is not different."""
    assert not compare(activity(1), activity(1))
    assert compare(calls(1, 1), calls(1, 0))
