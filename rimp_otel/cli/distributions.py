"""What histograms say about the values that they counted: differences, sums, percentiles."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from rimp_otel.models import Buckets, ExponentialHistogramPoint, HistogramPoint

__all__ = ["Bucket", "Distribution", "between", "of_point", "together"]


class Bucket(NamedTuple):
    """Values counted within ``lower < value <= upper``; either may be infinite."""

    lower: float
    upper: float
    values: int


@dataclass
class Distribution:
    """How often which values were counted.

    ``layout`` says which buckets there are: the bounds of an explicit histogram, or the scale of an
    exponential one. Their counts are by number: of an explicit histogram from 0 on, of an
    exponential one by index.
    """

    layout: tuple[float, ...] | int
    count: int = 0
    #: None where one of the points had none.
    sum: float | None = 0.0
    counts: Counter[int] = field(default_factory=Counter)
    #: Of an exponential histogram: values below zero, by index.
    negative: Counter[int] = field(default_factory=Counter)
    zeros: int = 0
    zero_threshold: float = 0.0
    #: What all values are known to lie between, where that is known.
    min: float | None = None
    max: float | None = None

    @property
    def mean(self) -> float | None:
        """The mean of the values; None where there are none, or their sum is not known."""
        return self.sum / self.count if self.count and self.sum is not None else None

    def quantile(self, share: float) -> float | None:
        """The value that a share (0 to 1) of the values do not exceed, as far as buckets tell.

        Within a bucket values are taken to be spread evenly (of an exponential histogram: evenly on
        its scale). None where nothing was counted, or the point has no buckets.
        """
        buckets = list(self.buckets())
        total = sum(bucket.values for bucket in buckets)
        rank, seen = share * total, 0
        for bucket in buckets:
            if bucket.values and seen + bucket.values >= rank:
                return self._within(bucket, (rank - seen) / bucket.values)
            seen += bucket.values
        return None

    def buckets(self) -> Iterator[Bucket]:
        """Those with values in them, from the smallest values to the greatest."""
        if isinstance(self.layout, tuple):
            bounds = (-math.inf, *self.layout, math.inf)
            for index, count in sorted(self.counts.items()):
                yield Bucket(bounds[index], bounds[index + 1], count)
            return
        for index, count in sorted(self.negative.items(), reverse=True):
            yield Bucket(-_bound(index + 1, self.layout), -_bound(index, self.layout), count)
        if self.zeros:
            yield Bucket(-self.zero_threshold, self.zero_threshold, self.zeros)
        for index, count in sorted(self.counts.items()):
            yield Bucket(_bound(index, self.layout), _bound(index + 1, self.layout), count)

    def _within(self, bucket: Bucket, share: float) -> float:
        lower, upper = bucket.lower, bucket.upper
        if self.min is not None:
            lower = max(lower, min(self.min, upper))
        if self.max is not None:
            upper = min(upper, max(self.max, lower))
        # Of an open end without a known extreme, its one bound is all there is to say; below the
        # first bound of values that are not negative, that is 0.
        if math.isinf(lower):
            lower = 0.0 if upper > 0 else upper
        if math.isinf(upper):
            upper = lower
        if isinstance(self.layout, int) and lower * upper > 0:
            return math.copysign(abs(lower) ** (1 - share) * abs(upper) ** share, lower)
        return lower + (upper - lower) * share


def of_point(point: HistogramPoint | ExponentialHistogramPoint) -> Distribution:
    """The distribution that a data point holds."""
    if isinstance(point, HistogramPoint):
        layout, counts = point.explicit_bounds, point.bucket_counts
        # A point without buckets still has a count, a sum, and perhaps extremes.
        counted = Counter({i: n for i, n in enumerate(counts[: len(layout) + 1]) if n})
        return Distribution(layout, point.count, point.sum, counted, min=point.min, max=point.max)
    return Distribution(
        point.scale,
        point.count,
        point.sum,
        _indexed(point.positive),
        _indexed(point.negative),
        point.zero_count,
        point.zero_threshold,
        point.min,
        point.max,
    )


def between(before: Distribution, after: Distribution) -> Distribution | None:
    """What was counted between two cumulative points; None if they do not go on from one another."""
    before, after = _alike(before, after)
    if before.layout != after.layout or before.count > after.count:
        return None
    counts, negative = Counter(after.counts), Counter(after.negative)
    counts.subtract(before.counts)
    negative.subtract(before.negative)
    zeros = after.zeros - before.zeros
    if zeros < 0 or min((*counts.values(), *negative.values()), default=0) < 0:
        return None
    return Distribution(
        after.layout,
        after.count - before.count,
        None if after.sum is None or before.sum is None else after.sum - before.sum,
        +counts,
        +negative,
        zeros,
        after.zero_threshold,
        # Of a part of what they are the extremes of, they are bounds at least.
        after.min,
        after.max,
    )


def together(distributions: Iterable[Distribution]) -> Distribution | None:
    """All of them in one; None of none. Those whose bounds are others than the last one's are left
    out, since their values cannot be told apart finely enough."""
    total: Distribution | None = None
    for one in reversed(list(distributions)):
        if total is None:
            total = _copy(one)
            continue
        total, one = _alike(total, one)
        if one.layout == total.layout:
            total = _sum(total, one)
    return total


def _sum(left: Distribution, right: Distribution) -> Distribution:
    return Distribution(
        left.layout,
        left.count + right.count,
        None if left.sum is None or right.sum is None else left.sum + right.sum,
        left.counts + right.counts,
        left.negative + right.negative,
        left.zeros + right.zeros,
        max(left.zero_threshold, right.zero_threshold),
        None if left.min is None or right.min is None else min(left.min, right.min),
        None if left.max is None or right.max is None else max(left.max, right.max),
    )


def _alike(left: Distribution, right: Distribution) -> tuple[Distribution, Distribution]:
    """Of two exponential histograms, both at the coarser one's scale."""
    if isinstance(left.layout, tuple) or isinstance(right.layout, tuple):
        return left, right
    scale = min(left.layout, right.layout)
    return _at_scale(left, scale), _at_scale(right, scale)


def _at_scale(one: Distribution, scale: int) -> Distribution:
    assert isinstance(one.layout, int)
    by = one.layout - scale
    if not by:
        return one
    coarse = _copy(one)
    coarse.layout = scale
    coarse.counts, coarse.negative = _coarser(one.counts, by), _coarser(one.negative, by)
    return coarse


def _coarser(counts: Counter[int], by: int) -> Counter[int]:
    found: Counter[int] = Counter()
    for index, count in counts.items():
        found[index >> by] += count
    return found


def _copy(one: Distribution) -> Distribution:
    return Distribution(
        **{**vars(one), "counts": Counter(one.counts), "negative": Counter(one.negative)}
    )


def _indexed(buckets: Buckets | None) -> Counter[int]:
    if buckets is None:
        return Counter()
    return Counter({buckets.offset + i: n for i, n in enumerate(buckets.bucket_counts) if n})


def _bound(index: int, scale: int) -> float:
    """The lower bound of a bucket: 2 ** (index / 2**scale), or what a float can hold of it."""
    try:
        return float(2.0 ** math.ldexp(index, -scale))
    except OverflowError:
        return math.inf if index > 0 else 0.0
