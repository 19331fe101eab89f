"""The tests of significance, against scipy's results."""

from __future__ import annotations

import pytest

from rimp_otel.analysis.diff import adjusted, mann_whitney, more_often


def test_mann_whitney() -> None:
    """As scipy.stats.mannwhitneyu(…, method="asymptotic") has it, with ties."""
    left, right = list(range(1, 11)), list(range(3, 22, 2))
    assert mann_whitney(left, right) == pytest.approx(0.017090034750, rel=1e-9)
    assert mann_whitney(right, left) == mann_whitney(left, right)


def test_mann_whitney_of_nothing() -> None:
    """Where nothing can be told, all is chance."""
    assert mann_whitney([], [1]) == 1
    assert mann_whitney([2, 2], [2, 2, 2]) == 1


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
def test_more_often(counts: tuple[int, int, int, int], p: float) -> None:
    """As scipy.stats.fisher_exact(…, alternative="greater") has it."""
    assert more_often(*counts) == pytest.approx(p, abs=1e-9)


def test_adjusted() -> None:
    """As scipy.stats.false_discovery_control has it."""
    found = adjusted([0.01, 0.04, 0.03, 0.5, 0.001])
    assert found == pytest.approx([0.025, 0.05, 0.05, 0.5, 0.005])
    assert adjusted([]) == []
