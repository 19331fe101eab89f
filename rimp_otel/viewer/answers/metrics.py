"""Metrics for the page: which there are, and one over time, as lines, percentiles and a heat map."""

from __future__ import annotations

import bisect
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rimp_otel.analysis.metrics import Distribution, MetricSeries, metric_series
from rimp_otel.errors import ConfigurationError
from rimp_otel.models.accessors import service_of
from rimp_otel.models.filters import Filter
from rimp_otel.models.records import MetricKind, Signal, TelemetryMetric
from rimp_otel.models.times import Window
from rimp_otel.storage.base import Recording, Selection
from rimp_otel.storage.reading import Decode
from rimp_otel.viewer.answers.attribute_tests import make_record_matcher
from rimp_otel.viewer.answers.line_sieve import sieve_lines
from rimp_otel.viewer.answers.time_steps import NewestParts, TimeSteps, bounded_window
from rimp_otel.viewer.parameters import AttributeTest
from rimp_otel.viewer.questions import NotFoundError, check_time, open_watched

__all__ = ["MetricQuery", "list_metrics", "read_metric"]

_METRICS = frozenset({Signal.METRICS})
_STEPS = 120
_BUDGET = 1.0
_MAX_LINES = 200
_MAX_BUCKETS = 60
_MAX_EXEMPLARS = 500
_PLAIN_NAME = re.compile("[A-Za-z0-9_. :-]+")
_ESCAPED = re.compile(rb"\\u00[2-7]")
_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
# Nanoseconds before a window in which the point lies that its first increase is counted from.
_LONGEST_INTERVAL = 300 * 10**9


class MetricQuery(NamedTuple):
    """Which points of a metric are asked for, and how they are shown."""

    name: str
    window: Window = Window()
    service: str | None = None
    #: Attributes of points or of their resources that make lines; none for one line of all.
    by: tuple[str, ...] = ()
    tests: tuple[AttributeTest, ...] = ()
    #: In nanoseconds; None for one that suits the window.
    step: int | None = None


def list_metrics(
    path: Path,
    window: Window,
    clock: Callable[[], int] = time.time_ns,
    budget: float = _BUDGET,
) -> dict[str, Any]:
    """Return the metrics that have points in a window, by name.

    Args:
        path: of the recording, which need not exist yet.
        window: the window.
        clock: returns nanoseconds since the epoch.
        budget: seconds after which the answer is of the newest part of the window alone.

    Raises:
        StorageError: the recording cannot be read.
    """
    found: dict[tuple[str, str, str], _MetricOverview] = {}
    recording = open_watched(path)
    parts = NewestParts(bounded_window(recording, _METRICS, window, clock), budget)
    for part in parts:
        for data in recording.batches(Selection(part, None, Filter(_METRICS)), check_time):
            for point in data.metrics:
                if part.contains(point.time_unix_nano):
                    key = (point.name, point.kind.value, point.unit)
                    found.setdefault(key, _MetricOverview(point)).add(point)
    metrics = [found[key].as_json() for key in sorted(found)]
    return {"metrics": metrics, "is_complete": parts.is_complete}


def read_metric(
    path: Path, wanted: MetricQuery, clock: Callable[[], int] = time.time_ns
) -> dict[str, Any]:
    """Return a metric over time: rates of what counts, values of what is measured.

    Args:
        path: of the recording, which need not exist yet.
        wanted: which points, and how.
        clock: returns nanoseconds since the epoch.

    Raises:
        NotFoundError: it has no point.
        ConfigurationError: a condition is impossible, or the step too short.
        StorageError: the recording cannot be read.
    """
    window = bounded_window(open_watched(path), _METRICS, wanted.window, clock)
    grid = TimeSteps.of(window, _STEPS, wanted.step)
    start = grid.start - max(_LONGEST_INTERVAL, grid.step)
    recording = open_watched(path, _decoder_of_metric(wanted.name))
    points = _read_points(recording, wanted, Window(start, window.end), grid)
    if not points:
        raise NotFoundError(f"no points of a metric {wanted.name!r}: give another name or time")
    # Of a name that was recorded in several ways, the newest.
    kind = max(points, key=lambda point: point.time_unix_nano).kind
    points = [point for point in points if point.kind is kind]
    series = metric_series(points, start - 1)
    newest = points[-1]
    heatmap = _make_heatmap(series, grid) if series[0].is_distribution else None
    return {
        "name": newest.name,
        "unit": newest.unit,
        "description": newest.description,
        "type": kind.value,
        "from": str(grid.start),
        "step": grid.step,
        "series": _make_lines(series, wanted.by, grid),
        "quantiles": heatmap and heatmap.quantiles(),
        "heatmap": heatmap and {"bounds": heatmap.bounds, "counts": heatmap.counts},
        "exemplars": _exemplars_of(points, grid),
    }


class _MetricOverview:
    """A metric in a few words."""

    def __init__(self, point: TelemetryMetric) -> None:
        self._newest = point
        self._points = 0
        self._services: set[str] = set()
        self._series: set[int] = set()

    def add(self, point: TelemetryMetric) -> None:
        self._points += 1
        if point.time_unix_nano >= self._newest.time_unix_nano:
            self._newest = point
        self._services.add(service_of(point))
        resource = point.resource.attributes if point.resource else {}
        self._series.add(hash((repr(sorted(point.tags.items())), repr(resource))))

    def as_json(self) -> dict[str, Any]:
        newest = self._newest
        return {
            "name": newest.name,
            "unit": newest.unit,
            "description": newest.description,
            "type": newest.kind.value,
            "is_monotonic": newest.is_monotonic,
            "temporality": newest.temporality.name.lower(),
            "services": sorted(self._services),
            "series": len(self._series),
            "points": self._points,
        }


def _read_points(
    recording: Recording, wanted: MetricQuery, window: Window, grid: TimeSteps
) -> list[TelemetryMetric]:
    """Return the points in the window, if there is any in the steps."""
    matches = make_record_matcher(wanted.tests)
    filter = Filter(_METRICS, name=wanted.name, service=wanted.service)
    found = [
        point
        for data in recording.batches(Selection(window, None, filter), check_time)
        for point in data.metrics
        if window.contains(point.time_unix_nano) and filter.matches(point) and matches(point)
    ]
    if not any(point.time_unix_nano >= grid.start for point in found):
        return []
    return sorted(found, key=lambda point: point.time_unix_nano)


def _decoder_of_metric(name: str) -> Decode | None:
    """Return what decodes metrics that may have a name; None to decode all."""
    needle = f'"{name}"'.encode()
    if not _PLAIN_NAME.fullmatch(name):
        return None
    return sieve_lines(lambda text: needle in text or _ESCAPED.search(text) is not None)


# Lines.


def _make_lines(
    series: Sequence[MetricSeries], by: Sequence[str], grid: TimeSteps
) -> list[dict[str, Any]]:
    groups: dict[tuple[str, ...], list[MetricSeries]] = {}
    for one in series:
        groups.setdefault(tuple(_label_of(one.last, key) for key in by), []).append(one)
    if len(groups) > _MAX_LINES:
        raise ConfigurationError(
            f"{len(groups)} lines are too many to show: give conditions, or fewer 'by' than "
            f"{', '.join(by)}"
        )
    return [
        {
            "labels": dict(zip(by, labels, strict=True)),
            "values": _rates(members, grid) if members[0].adds_up else _levels(members, grid),
        }
        for labels, members in sorted(groups.items())
    ]


def _label_of(point: TelemetryMetric, key: str) -> str:
    resource: Mapping[str, Any] = point.resource.attributes if point.resource else {}
    value = point.tags.get(key, resource.get(key, ""))
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _rates(members: Iterable[MetricSeries], grid: TimeSteps) -> list[float | None]:
    """Return the increase of all members together, each second; None where nothing is known."""
    sums: list[float | None] = [None] * grid.count
    for one in members:
        increases: dict[int, float] = {}
        covered: dict[int, float] = {}
        for step in one.added_steps():
            number = step.added.count if isinstance(step.added, Distribution) else step.added
            for at, share in grid.spread(step.start, step.end):
                increases[at] = increases.get(at, 0.0) + number * share
                covered[at] = covered.get(at, 0.0) + share * (step.end - step.start)
        for at, increase in increases.items():
            # Where a series begins or ends, the rest of the step says nothing.
            nanos = min(covered[at], grid.step) or grid.step
            sums[at] = (sums[at] or 0.0) + increase * 1e9 / nanos
    return sums


def _levels(members: Iterable[MetricSeries], grid: TimeSteps) -> list[float | None]:
    """Return the sum, or of gauges the mean, of what each member had last in each step."""
    sums = [0.0] * grid.count
    counts = [0] * grid.count
    is_mean = False
    for one in members:
        is_mean = one.last.kind is MetricKind.GAUGE
        last: dict[int, float] = {}
        for point in one.points:
            at = grid.index(point.time_unix_nano)
            if at is not None and point.has_value:
                last[at] = point.value
        for at, value in last.items():
            sums[at] += value
            counts[at] += 1
    return [
        None if not count else total / count if is_mean else total
        for total, count in zip(sums, counts, strict=True)
    ]


# Histograms.


class _Heatmap(NamedTuple):
    """Numbers of values by step of time and bucket: the first is below all bounds."""

    bounds: list[float]
    counts: list[list[float]]

    def quantiles(self) -> dict[str, list[float | None]]:
        """Return percentiles of each step."""
        return {
            name: [_quantile(self.bounds, counts, share) for counts in self.counts]
            for name, share in _QUANTILES.items()
        }


def _make_heatmap(series: Iterable[MetricSeries], grid: TimeSteps) -> _Heatmap:
    added = [
        (step.start, step.end, step.added)
        for one in series
        for step in one.added_steps()
        if isinstance(step.added, Distribution) and step.added.count and step.end > grid.start
    ]
    bounds = _bounds_of([found for _, _, found in added])
    counts = [[0.0] * (len(bounds) + 1) for _ in range(grid.count)]
    for start, end, found in added:
        buckets = [
            (bisect.bisect_left(bounds, upper * (1 - 1e-9)), values)
            for _, upper, values in found.ranges()
        ]
        for at, share in grid.spread(start, end):
            for bucket, values in buckets:
                counts[at][bucket] += values * share
    return _Heatmap(bounds, counts)


def _bounds_of(found: list[Distribution]) -> list[float]:
    """Return bounds that all distributions can be shown with, few enough to be seen."""
    explicit = {bound for one in found if isinstance(one.layout, tuple) for bound in one.layout}
    scales = [one.layout for one in found if isinstance(one.layout, int)]
    if not scales:
        return sorted(explicit)
    uppers = [upper for one in found for _, upper, _ in one.ranges() if 0 < upper < math.inf]
    if not uppers:
        return [0.0]
    scale = min(scales)
    low, high = math.log2(min(uppers)), math.log2(max(uppers))
    while (high - low) * 2.0**scale > _MAX_BUCKETS:
        scale -= 1
    first = math.floor(low * 2.0**scale + 1e-6) - 1
    last = math.ceil(high * 2.0**scale - 1e-6)
    return [2.0 ** (at / 2.0**scale) for at in range(first, last + 1)]


def _quantile(bounds: Sequence[float], counts: Sequence[float], share: float) -> float | None:
    """Return an estimate of a percentile: values are spread evenly within their bucket."""
    total = sum(counts)
    if not total or not bounds:
        return None
    rank, below = share * total, 0.0
    for at, count in enumerate(counts):
        if count and below + count >= rank:
            if at == len(bounds):
                return bounds[-1]
            lower = bounds[at - 1] if at else min(0.0, bounds[0])
            return lower + (bounds[at] - lower) * (rank - below) / count
        below += count
    return bounds[-1]


def _exemplars_of(points: Iterable[TelemetryMetric], grid: TimeSteps) -> list[dict[str, Any]]:
    """Return the newest exemplars, each once: cumulative points repeat those of the one before."""
    found = {
        (one.time_unix_nano, one.trace_id, one.span_id, one.value): one
        for point in points
        for one in point.exemplars
        if grid.index(one.time_unix_nano) is not None
    }
    return [
        {
            "time": str(one.time_unix_nano),
            "value": one.value,
            "trace_id": f"{one.trace_id:032x}" if one.trace_id else None,
            "span_id": f"{one.span_id:016x}" if one.span_id else None,
            "attributes": dict(one.filtered_attributes),
        }
        for _, one in sorted(found.items(), key=lambda item: item[0][0])[-_MAX_EXEMPLARS:]
    ]
