"""The points of one metric with one set of attributes, and what they say over time."""

from __future__ import annotations

import bisect
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from rimp_otel.cli.distributions import Distribution, between, of_point, together
from rimp_otel.models import (
    ExponentialHistogramPoint,
    HistogramPoint,
    MetricKind,
    SummaryPoint,
    TelemetryMetric,
    Temporality,
)
from rimp_otel.records import service_of

__all__ = ["Series", "series_of"]

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
