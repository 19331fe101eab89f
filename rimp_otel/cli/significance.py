"""Whether a difference between two samples is more than chance, without assuming a distribution."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

__all__ = ["adjusted", "mann_whitney", "more_often"]


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
