"""Series of metric points: rates and values over time, and the distributions that histograms hold."""

from __future__ import annotations

import bisect
import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
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

__all__ = [
    "INSTANCE",
    "AddedStep",
    "CombinedSeries",
    "Distribution",
    "MetricSeries",
    "ValueRange",
    "combine_series",
    "distribution_between",
    "distribution_of",
    "merge_distributions",
    "metric_series",
]


# Distributions.


class ValueRange(NamedTuple):
    """The number of values in ``lower < value <= upper``; either bound may be infinite."""

    lower: float
    upper: float
    values: int


@dataclass
class Distribution:
    """Values counted in buckets: those of a histogram, or of several together.

    ``layout`` says which buckets there are: the bounds of an explicit histogram, or the scale of an
    exponential one. ``counts`` is by bucket: from 0 in an explicit histogram, by index in an
    exponential one.
    """

    layout: tuple[float, ...] | int
    count: int = 0
    #: None if one of the points has none.
    sum: float | None = 0.0
    counts: Counter[int] = field(default_factory=Counter)
    #: Of an exponential histogram: values below zero, by index.
    negative: Counter[int] = field(default_factory=Counter)
    zeros: int = 0
    zero_threshold: float = 0.0
    #: Bounds of all values; None if they are not known.
    min: float | None = None
    max: float | None = None

    @property
    def mean(self) -> float | None:
        """The mean of the values; None if there are none, or if their sum is not known."""
        return self.sum / self.count if self.count and self.sum is not None else None

    def quantile(self, share: float) -> float | None:
        """Return an estimate of the value that a share (0 to 1) of the values do not exceed.

        Values are taken to be spread evenly within a bucket (evenly on the scale of an exponential
        histogram). None if there are no values, or no buckets.
        """
        ranges = list(self.ranges())
        total = sum(one.values for one in ranges)
        rank, below = share * total, 0
        for one in ranges:
            if one.values and below + one.values >= rank:
                return self._interpolate(one, (rank - below) / one.values)
            below += one.values
        return None

    def ranges(self) -> Iterator[ValueRange]:
        """Yield the buckets that have values, from the smallest values to the greatest."""
        if isinstance(self.layout, tuple):
            bounds = (-math.inf, *self.layout, math.inf)
            for index, count in sorted(self.counts.items()):
                yield ValueRange(bounds[index], bounds[index + 1], count)
            return
        scale = self.layout
        for index, count in sorted(self.negative.items(), reverse=True):
            yield ValueRange(-_lower_bound(index + 1, scale), -_lower_bound(index, scale), count)
        if self.zeros:
            yield ValueRange(-self.zero_threshold, self.zero_threshold, self.zeros)
        for index, count in sorted(self.counts.items()):
            yield ValueRange(_lower_bound(index, scale), _lower_bound(index + 1, scale), count)

    def at_scale(self, scale: int) -> Distribution:
        """Return an exponential histogram at a coarser scale: buckets are merged."""
        assert isinstance(self.layout, int)
        by = self.layout - scale
        if not by:
            return self
        counts, negative = _merge_buckets(self.counts, by), _merge_buckets(self.negative, by)
        return replace(self, layout=scale, counts=counts, negative=negative)

    def _interpolate(self, within: ValueRange, share: float) -> float:
        lower, upper = within.lower, within.upper
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


def distribution_of(point: HistogramPoint | ExponentialHistogramPoint) -> Distribution:
    """Return the distribution that a data point holds."""
    if isinstance(point, HistogramPoint):
        layout, counts = point.explicit_bounds, point.bucket_counts
        # A point without buckets still has a count, a sum, and perhaps extremes.
        by_bucket = Counter({i: n for i, n in enumerate(counts[: len(layout) + 1]) if n})
        return Distribution(layout, point.count, point.sum, by_bucket, min=point.min, max=point.max)
    return Distribution(
        point.scale,
        point.count,
        point.sum,
        _counts_by_index(point.positive),
        _counts_by_index(point.negative),
        point.zero_count,
        point.zero_threshold,
        point.min,
        point.max,
    )


def distribution_between(before: Distribution, after: Distribution) -> Distribution | None:
    """Return what was counted between two cumulative points; None if the second does not continue
    the first."""
    before, after = _at_common_scale(before, after)
    if before.layout != after.layout or before.count > after.count:
        return None
    counts, negative = Counter(after.counts), Counter(after.negative)
    counts.subtract(before.counts)
    negative.subtract(before.negative)
    zeros = after.zeros - before.zeros
    if zeros < 0 or min((*counts.values(), *negative.values()), default=0) < 0:
        return None
    return replace(
        after,  # whose extremes are bounds of a part of its values, too
        count=after.count - before.count,
        sum=None if after.sum is None or before.sum is None else after.sum - before.sum,
        counts=+counts,
        negative=+negative,
        zeros=zeros,
    )


def merge_distributions(distributions: Iterable[Distribution]) -> Distribution | None:
    """Return all of them as one; None if there are none.

    Those whose bounds differ from the last one's are left out: their values cannot be told apart
    finely enough.
    """
    total: Distribution | None = None
    for one in reversed(list(distributions)):
        if total is None:
            total = one
            continue
        total, one = _at_common_scale(total, one)
        if one.layout == total.layout:
            total = _add_distributions(total, one)
    return total


def _add_distributions(left: Distribution, right: Distribution) -> Distribution:
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


def _at_common_scale(left: Distribution, right: Distribution) -> tuple[Distribution, Distribution]:
    """Return both; two exponential histograms at the coarser scale."""
    if isinstance(left.layout, tuple) or isinstance(right.layout, tuple):
        return left, right
    scale = min(left.layout, right.layout)
    return left.at_scale(scale), right.at_scale(scale)


def _merge_buckets(counts: Counter[int], by: int) -> Counter[int]:
    merged: Counter[int] = Counter()
    for index, count in counts.items():
        merged[index >> by] += count
    return merged


def _counts_by_index(buckets: Buckets | None) -> Counter[int]:
    if buckets is None:
        return Counter()
    return Counter({buckets.offset + i: n for i, n in enumerate(buckets.bucket_counts) if n})


def _lower_bound(index: int, scale: int) -> float:
    """Return the lower bound of a bucket, 2 ** (index / 2**scale), or the nearest float."""
    try:
        return float(2.0 ** math.ldexp(index, -scale))
    except OverflowError:
        return math.inf if index > 0 else 0.0


# Series.

_NANOS_PER_SECOND = 10**9

Amount = int | float | Distribution
"""A value, a number of values, or the values that a histogram counted."""


class AddedStep(NamedTuple):
    """The amount that was added from ``start`` to ``end``, in nanoseconds since the epoch."""

    start: int
    end: int
    added: Amount


@dataclass
class MetricSeries:
    """Points of one metric, resource, scope and set of attributes, in the order of time."""

    points: list[TelemetryMetric] = field(default_factory=list)
    #: What cumulative points counted before this time is left out, as far as that is known.
    since: int = 0
    _steps: list[AddedStep] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def last(self) -> TelemetryMetric:
        """The newest point."""
        return self.points[-1]

    @property
    def is_distribution(self) -> bool:
        """True if the points count values in buckets."""
        return self.last.kind in (MetricKind.HISTOGRAM, MetricKind.EXPONENTIAL_HISTOGRAM)

    @property
    def adds_up(self) -> bool:
        """True if the series has a rate: a monotonic sum, or anything that counts values."""
        is_counter = self.last.kind is MetricKind.SUM and self.last.is_monotonic
        return is_counter or self.is_distribution or self.last.kind is MetricKind.SUMMARY

    def total(self) -> float:
        """Return what was added over all points: to a sum, or the number of values."""
        return sum(_number_of(step.added) for step in self.added_steps())

    def rate(self) -> float | None:
        """Return what was added per second; None if the points cover no time."""
        return _rate_of_steps(self.added_steps())

    def value(self) -> float | None:
        """Return the newest value, of a counter with what it had counted before it started anew.

        Of points that count what was added since the one before (delta), their sum. None without a
        value.
        """
        points = [point for point in self.points if point.has_value]
        if not points or not self.adds_up:
            return points[-1].value if points else None
        if self.last.temporality is Temporality.DELTA:
            return sum(point.value for point in points)
        before = (left.value for left, right in pairwise(points) if _starts_anew(left, right))
        return sum(before) + points[-1].value

    def distribution(self) -> Distribution | None:
        """Return the values that were counted over all points; None if there are no buckets."""
        return _merge_steps(self.added_steps())

    def history(self, first: int, last: int, parts: int) -> list[float | None]:
        """Return a number for each of ``parts`` equal parts of the time from ``first`` to ``last``.

        For a series that adds up, that is the rate per second; for a histogram, the 95th percentile;
        otherwise the newest value. None for a part without points.
        """
        edges = [first + (last - first) * i // parts for i in range(1, parts)]
        if not self.adds_up:
            values: list[float | None] = [None] * parts
            for point in self.points:
                if point.has_value:
                    values[bisect.bisect_left(edges, point.time_unix_nano)] = float(point.value)
            return values
        return _history_of_steps(self.added_steps(), edges)

    def added_steps(self) -> list[AddedStep]:
        """Return what was added from when to when.

        Of cumulative points that is the difference to the one before; after a restart, all that the
        point holds. So it is for the first point if it began to count after ``since``, or if it is
        the only one.
        """
        if self._steps is None:
            is_delta = self.last.temporality is Temporality.DELTA
            points = [point for point in self.points if point.has_value or point.point]
            self._steps = list(_delta_steps(points) if is_delta else self._cumulative_steps(points))
        return self._steps

    def _cumulative_steps(self, points: list[TelemetryMetric]) -> Iterator[AddedStep]:
        if len(points) == 1 or (points and points[0].start_time_unix_nano > self.since):
            yield _step_since_start(points[0])
        for left, right in pairwise(points):
            added = None
            if left.start_time_unix_nano == right.start_time_unix_nano:
                added = _amount_between(_amount_of(left), _amount_of(right))
            if added is None:
                yield _step_since_start(right, left.time_unix_nano)
            else:
                yield AddedStep(left.time_unix_nano, right.time_unix_nano, added)


def _starts_anew(left: TelemetryMetric, right: TelemetryMetric) -> bool:
    """Return True if the second of two cumulative points does not continue the first."""
    if left.start_time_unix_nano != right.start_time_unix_nano:
        return True
    return _amount_between(_amount_of(left), _amount_of(right)) is None


def _delta_steps(points: Iterable[TelemetryMetric]) -> Iterator[AddedStep]:
    before = 0
    for point in points:
        start = point.start_time_unix_nano or before or point.time_unix_nano
        yield AddedStep(start, point.time_unix_nano, _amount_of(point))
        before = point.time_unix_nano


def _step_since_start(point: TelemetryMetric, before: int = 0) -> AddedStep:
    start = max(point.start_time_unix_nano, before) or point.time_unix_nano
    return AddedStep(min(start, point.time_unix_nano), point.time_unix_nano, _amount_of(point))


def _amount_of(point: TelemetryMetric) -> Amount:
    if isinstance(point.point, (HistogramPoint, ExponentialHistogramPoint)):
        return distribution_of(point.point)
    return point.point.count if isinstance(point.point, SummaryPoint) else point.value


def _amount_between(before: Amount, after: Amount) -> Amount | None:
    """Return the difference; None if the second does not continue the first."""
    if isinstance(before, Distribution) or isinstance(after, Distribution):
        if isinstance(before, Distribution) and isinstance(after, Distribution):
            return distribution_between(before, after)
        return None
    return after - before if after >= before else None


def _number_of(amount: Amount) -> float:
    return amount.count if isinstance(amount, Distribution) else amount


def _merge_steps(steps: Iterable[AddedStep]) -> Distribution | None:
    return merge_distributions(step.added for step in steps if isinstance(step.added, Distribution))


def _rate_of_steps(steps: Sequence[AddedStep]) -> float | None:
    if not steps:
        return None
    nanos = max(step.end for step in steps) - min(step.start for step in steps)
    added = sum(_number_of(step.added) for step in steps)
    return added * _NANOS_PER_SECOND / nanos if nanos > 0 else None


def _history_of_steps(steps: Iterable[AddedStep], edges: Sequence[int]) -> list[float | None]:
    """Return a number for each of the parts of time between the edges."""
    parts: list[list[AddedStep]] = [[] for _ in range(len(edges) + 1)]
    for step in steps:
        parts[bisect.bisect_left(edges, step.end)].append(step)
    return [_history_value(part) for part in parts]


def _covered_nanos(steps: Iterable[AddedStep]) -> int:
    """Return how long at least one of the steps lasts: those of several processes overlap."""
    total, until = 0, 0
    for step in sorted(steps, key=lambda step: step.start):
        total += max(step.end - max(step.start, until), 0)
        until = max(until, step.end)
    return total


def _history_value(steps: list[AddedStep]) -> float | None:
    total = _merge_steps(steps)
    if total is not None and (percentile := total.quantile(0.95)) is not None:
        return percentile
    nanos = _covered_nanos(steps)
    added = sum(_number_of(step.added) for step in steps)
    return added * _NANOS_PER_SECOND / nanos if nanos > 0 else None


def metric_series(points: Iterable[TelemetryMetric], since: int = 0) -> list[MetricSeries]:
    """Return the points as series, in the order of names, services and attributes.

    Args:
        points: in any order; one that is recorded twice counts once.
        since: see `MetricSeries`.
    """
    found: dict[tuple[str, ...], MetricSeries] = {}
    for point in sorted(points, key=lambda point: point.time_unix_nano):
        series = found.setdefault(_identity_of(point), MetricSeries(since=since))
        if not (series.points and series.last == point):
            series.points.append(point)
    return [found[identity] for identity in sorted(found)]


# Series of several processes as one.

_PATIENCE = 5
_DEFAULT_INTERVAL = 60 * _NANOS_PER_SECOND


@dataclass
class CombinedSeries:
    """Series of one metric that are read as one: those of all instances of a service, or more.

    Counters and histograms are added up, also those of processes that have ended. A value that goes
    up and down (an UpDownCounter) is the sum, and a gauge the mean, of the series that were still
    measured at that time. A series is no longer measured when it has missed five points.
    """

    #: In the order of resources; at least one.
    members: list[MetricSeries]
    #: The attributes of points that all members share.
    attributes: dict[str, Any]
    #: The attributes of the resource that all members share.
    resource: dict[str, Any]

    @property
    def last(self) -> TelemetryMetric:
        """The newest point."""
        return max((one.last for one in self.members), key=lambda point: point.time_unix_nano)

    @property
    def points(self) -> int:
        """The number of points."""
        return sum(len(one.points) for one in self.members)

    @property
    def instances(self) -> int:
        """The number of resources that the members come from."""
        return len({_attributes_key(_resource_attributes(one.last)) for one in self.members})

    @property
    def is_distribution(self) -> bool:
        """True if the points count values in buckets."""
        return self.members[0].is_distribution

    @property
    def adds_up(self) -> bool:
        """True if the series has a rate; see `MetricSeries.adds_up`."""
        return self.members[0].adds_up

    @property
    def is_mean(self) -> bool:
        """True if the value is the mean of several."""
        return len(self.members) > 1 and self.last.kind is MetricKind.GAUGE

    def value(self) -> float | None:
        """Return the newest value; see the class. None without a value."""
        measured = self.members
        if not self.adds_up:
            end, patience = self.last.time_unix_nano, self._patience()
            measured = [one for one in measured if one.last.time_unix_nano >= end - patience]
        return self._combine([one.value() for one in measured])

    def total(self) -> float:
        """Return what was added over all points: to a sum, or the number of values."""
        return sum(one.total() for one in self.members)

    def rate(self) -> float | None:
        """Return what was added per second; None if the points cover no time."""
        return _rate_of_steps(self.added_steps())

    def distribution(self) -> Distribution | None:
        """Return the values that were counted over all points; None if there are no buckets."""
        return _merge_steps(self.added_steps())

    def history(self, first: int, last: int, parts: int) -> list[float | None]:
        """Return a number for each of ``parts`` equal parts of a time; see `MetricSeries.history`."""
        if self.adds_up:
            edges = [first + (last - first) * i // parts for i in range(1, parts)]
            return _history_of_steps(self.added_steps(), edges)
        histories = [one.history(first, last, parts) for one in self.members]
        if len(histories) > 1:
            carried = self._patience() * parts // max(last - first, 1)
            histories = [_carry_forward(values, carried) for values in histories]
        return [self._combine(list(values)) for values in zip(*histories, strict=True)]

    def extremes(self) -> tuple[float, float] | None:
        """Return the smallest and the greatest value of a point; None without a value."""
        values = [point.value for one in self.members for point in one.points if point.has_value]
        return (min(values), max(values)) if values else None

    def added_steps(self) -> list[AddedStep]:
        """Return what was added from when to when, by all members."""
        steps = [step for one in self.members for step in one.added_steps()]
        return sorted(steps, key=lambda step: step.end)

    def _combine(self, values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        if not known:
            return None
        return sum(known) / len(known) if self.is_mean else sum(known)

    def _patience(self) -> int:
        """Return for how many nanoseconds a point of a member holds."""
        gaps = sorted(
            right.time_unix_nano - left.time_unix_nano
            for one in self.members
            for left, right in pairwise(one.points)
        )
        return _PATIENCE * (gaps[len(gaps) // 2] if gaps else _DEFAULT_INTERVAL)


def _carry_forward(values: Sequence[float | None], parts: int) -> list[float | None]:
    """Return the values with each repeated in up to so many parts without one after it."""
    carried: list[float | None] = []
    before, age = None, 0
    for value in values:
        before, age = (before, age + 1) if value is None else (value, 0)
        carried.append(before if age <= parts else None)
    return carried


INSTANCE = "instance"
"""The name by which `combine_series` keeps the resources apart."""


def combine_series(
    series: Iterable[MetricSeries], by: Collection[str] | None = None
) -> list[CombinedSeries]:
    """Return the series with those that are alike as one, in the order of the first of each.

    Args:
        series: of any metrics; those of different metrics, services or scopes stay apart.
        by: attributes of points or of their resource whose values keep series apart, and
            "instance", which keeps resources apart. None for all attributes of points. With
            "instance" alone, all attributes of points count too.
    """
    groups: dict[tuple[str, ...], list[MetricSeries]] = {}
    for one in series:
        groups.setdefault(_group_of(one.last, by), []).append(one)
    return [
        CombinedSeries(
            members,
            _shared(one.last.tags for one in members),
            _shared(_resource_attributes(one.last) for one in members),
        )
        for members in groups.values()
    ]


def _group_of(point: TelemetryMetric, by: Collection[str] | None) -> tuple[str, ...]:
    resource, attributes = _resource_attributes(point), point.tags
    names = set(by or ()) - {INSTANCE}
    if names:
        attributes = {
            name: attributes.get(name, resource.get(name))
            for name in names
            if name in attributes or name in resource
        }
    instance = _attributes_key(resource) if by and INSTANCE in by else ""
    scope = point.scope.name if point.scope else ""
    kind = (point.unit, point.kind.value, point.temporality.name, str(point.is_monotonic))
    return point.name, service_of(point), _attributes_key(attributes), scope, *kind, instance


def _shared(attributes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the attributes that are in all of them."""
    first, *others = attributes
    return {
        key: value
        for key, value in first.items()
        if all(key in other and other[key] == value for other in others)
    }


def _resource_attributes(point: TelemetryMetric) -> Mapping[str, Any]:
    return point.resource.attributes if point.resource else {}


def _identity_of(point: TelemetryMetric) -> tuple[str, ...]:
    resource = point.resource.attributes if point.resource else {}
    scope = point.scope.name if point.scope else ""
    attributes = _attributes_key(point.tags), _attributes_key(resource)
    return (point.name, service_of(point), *attributes, scope, point.unit, point.kind.value)


def _attributes_key(attributes: Any) -> str:
    return json.dumps(attributes, sort_keys=True, default=repr)
