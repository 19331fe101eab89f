"""What histograms say about the values that they counted: differences, sums, percentiles."""

from __future__ import annotations

import bisect
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from rimp_otel.models.accessors import service_of
from rimp_otel.models.records import (
    Buckets,
    ExponentialHistogramPoint,
    HistogramPoint,
    MetricKind,
    SummaryPoint,
    TelemetryMetric,
    Temporality,
)

__all__ = ["Bucket", "Distribution", "Series", "between", "of_point", "series_of", "together"]


# --- What histograms say about the values that they counted: differences, sums, percentiles.


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


# --- The points of one metric with one set of attributes, and what they say over time.

_S = 10**9


@dataclass
class Series:
    """Points of one metric, resource, scope and set of attributes, in the order of time."""

    points: list[TelemetryMetric] = field(default_factory=list)
    #: What cumulative points counted before this time is left out, as far as they tell.
    since: int = 0
    _steps: list[tuple[int, int, Any]] | None = None

    @property
    def last(self) -> TelemetryMetric:
        """The newest point."""
        return self.points[-1]

    @property
    def is_distribution(self) -> bool:
        """Whether the points count values in buckets."""
        return self.last.kind in (MetricKind.HISTOGRAM, MetricKind.EXPONENTIAL_HISTOGRAM)

    @property
    def adds_up(self) -> bool:
        """Whether a rate makes sense: of a monotonic sum, or of anything that counts values."""
        is_counter = self.last.kind is MetricKind.SUM and self.last.is_monotonic
        return is_counter or self.is_distribution or self.last.kind is MetricKind.SUMMARY

    def total(self) -> float:
        """How much was added over all points: the value of a sum, or the number of values."""
        return sum(_size(step) for _, _, step in self.steps())

    def rate(self) -> float | None:
        """What was added in a second, over all points; None where that took no time."""
        steps = self.steps()
        nanos = max((end for _, end, _ in steps), default=0) - min(
            (start for start, _, _ in steps), default=0
        )
        return self.total() * _S / nanos if steps and nanos > 0 else None

    def distribution(self) -> Distribution | None:
        """What was counted over all points; None of what counts no values."""
        return together(step for _, _, step in self.steps() if isinstance(step, Distribution))

    def steps(self) -> list[tuple[int, int, Any]]:
        """From when to when how much was added: numbers, or distributions.

        Of cumulative points that is the difference to the one before; after a restart all that it
        holds, and so of the first point, if it began to count after ``since`` or is the only one.
        """
        if self._steps is None:
            is_delta = self.last.temporality is Temporality.DELTA
            self._steps = list(self._deltas() if is_delta else self._differences())
        return self._steps

    def _deltas(self) -> Iterator[tuple[int, int, Any]]:
        before = 0
        for point in self.points:
            if point.has_value or point.point:
                start = point.start_time_unix_nano or before or point.time_unix_nano
                yield start, point.time_unix_nano, _content(point)
                before = point.time_unix_nano

    def _differences(self) -> Iterator[tuple[int, int, Any]]:
        points = [point for point in self.points if point.has_value or point.point]
        if len(points) == 1 or (points and points[0].start_time_unix_nano > self.since):
            yield _since_start(points[0])
        for left, right in pairwise(points):
            added = None
            if left.start_time_unix_nano == right.start_time_unix_nano:
                added = _difference(_content(left), _content(right))
            if added is None:
                yield _since_start(right, left.time_unix_nano)
            else:
                yield left.time_unix_nano, right.time_unix_nano, added

    def history(self, first: int, last: int, buckets: int) -> list[float | None]:
        """One number for each of ``buckets`` equal parts of the time from ``first`` to ``last``.

        Of what adds up, the rate in a second; of histograms, the 95th percentile; of all others,
        the newest value. None where there is no point.
        """
        edges = [first + (last - first) * i // buckets for i in range(1, buckets)]
        if not self.adds_up:
            found: list[float | None] = [None] * buckets
            for point in self.points:
                if point.has_value:
                    found[bisect.bisect_left(edges, point.time_unix_nano)] = float(point.value)
            return found
        parts: list[list[tuple[int, int, Any]]] = [[] for _ in range(buckets)]
        for step in self.steps():
            parts[bisect.bisect_left(edges, step[1])].append(step)
        return [_told(part) for part in parts]


def _told(steps: list[tuple[int, int, Any]]) -> float | None:
    total = together(step for _, _, step in steps if isinstance(step, Distribution))
    if total is not None and (quantile := total.quantile(0.95)) is not None:
        return quantile
    nanos = sum(end - start for start, end, _ in steps)
    return sum(_size(step) for _, _, step in steps) * _S / nanos if nanos > 0 else None


def _content(point: TelemetryMetric) -> Any:
    if isinstance(point.point, (HistogramPoint, ExponentialHistogramPoint)):
        return of_point(point.point)
    return point.point.count if isinstance(point.point, SummaryPoint) else point.value


def _difference(before: Any, after: Any) -> Any:
    if isinstance(after, Distribution):
        return between(before, after) if isinstance(before, Distribution) else None
    return after - before if after >= before else None


def _since_start(point: TelemetryMetric, before: int = 0) -> tuple[int, int, Any]:
    start = max(point.start_time_unix_nano, before) or point.time_unix_nano
    return min(start, point.time_unix_nano), point.time_unix_nano, _content(point)


def _size(step: Any) -> float:
    return step.count if isinstance(step, Distribution) else step


def series_of(points: Iterable[TelemetryMetric], since: int = 0) -> list[Series]:
    """The points by what they belong to, each series in the order of time; series in the order of
    names, services and attributes. What was recorded twice counts once."""
    found: dict[tuple[Any, ...], Series] = {}
    for point in sorted(points, key=lambda point: point.time_unix_nano):
        series = found.setdefault(_identity(point), Series(since=since))
        if not (series.points and series.last == point):
            series.points.append(point)
    return [found[identity] for identity in sorted(found)]


def _identity(point: TelemetryMetric) -> tuple[str, ...]:
    resource = point.resource.attributes if point.resource else {}
    scope = point.scope.name if point.scope else ""
    texts = (service_of(point), _text(point.tags), _text(resource), scope, point.unit)
    return (point.name, *texts, point.kind.value)


def _text(attributes: Any) -> str:
    return json.dumps(attributes, sort_keys=True, default=repr)
