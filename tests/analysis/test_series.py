"""What points say over time: rates over restarts, both temporalities, histories."""

from __future__ import annotations

from typing import Any

import pytest

from rimp_otel.analysis.metrics import Series, series_of
from rimp_otel.models.records import (
    HistogramPoint,
    MetricKind,
    ResourceInfo,
    SummaryPoint,
    TelemetryMetric,
    Temporality,
)
from tests.cli.records import T0

S = 10**9


def point(value: float, at: int, start: int | None = 0, **more: Any) -> TelemetryMetric:
    """A point of a monotonic cumulative sum, seconds after T0."""
    since = 0 if start is None else T0 + start * S
    fields: dict[str, Any] = {
        "kind": MetricKind.SUM,
        "temporality": Temporality.CUMULATIVE,
        "is_monotonic": True,
        **more,
    }
    return TelemetryMetric("m", value, "", {}, T0 + at * S, since, **fields)


def counted(counts: tuple[int, ...], at: int, start: int = 0, **more: Any) -> TelemetryMetric:
    """A point of a histogram with the bounds 1 and 2."""
    histogram = HistogramPoint(sum(counts), None, counts, (1, 2))
    kind = {"kind": MetricKind.HISTOGRAM, "point": histogram, "is_monotonic": False}
    return point(0.0, at, start, **{**kind, **more})


def one(*points: TelemetryMetric, since: int = 0) -> Series:
    """The one series that the points make."""
    (series,) = series_of(points, since)
    return series


def test_cumulative() -> None:
    """The rate is what was added since the counting began."""
    series = one(point(10, 10), point(30, 20), point(50, 40))
    assert (series.total(), series.rate()) == (50, 50 / 40)


def test_restart() -> None:
    """A new start or a smaller value: the counter began again, at 0."""
    assert one(point(10, 10), point(4, 20, 15)).total() == 14
    assert one(point(10, 10, None), point(4, 20, None), point(5, 30, None)).total() == 5


def test_restart_with_a_greater_value() -> None:
    """The start says it, where the value does not."""
    assert one(point(10, 10), point(12, 20, 15)).total() == 22


def test_what_was_counted_before() -> None:
    """Is left out, unless there is nothing to subtract it from."""
    assert one(point(1_000, 10), point(1_030, 20), since=T0 + 5 * S).rate() == 3
    assert one(point(1_000, 10), since=T0 + 5 * S).rate() == 100


def test_delta() -> None:
    """Each point holds what was added since the one before."""
    delta = {"temporality": Temporality.DELTA}
    series = one(point(10, 10, 0, **delta), point(20, 20, 10, **delta))
    assert (series.total(), series.rate()) == (30, 1.5)
    assert one(point(10, 10, None, **delta), point(20, 20, None, **delta)).rate() == 3


def test_no_rate() -> None:
    """Of a gauge, and of a single moment, there is none."""
    gauge = {
        "kind": MetricKind.GAUGE,
        "temporality": Temporality.UNSPECIFIED,
        "is_monotonic": False,
    }
    assert not one(point(10, 10, None, **gauge)).adds_up
    assert one(point(10, 10, None)).rate() is None
    assert one(point(0, 10, flags=1)).rate() is None


def test_distribution() -> None:
    """Cumulative: the last one less the first, over restarts; delta: all together."""
    points = [counted((1, 0, 0), 10), counted((1, 3, 0), 20), counted((0, 0, 2), 30, 25)]
    total = one(*points, since=T0 + S).distribution()
    assert total
    assert (total.count, dict(total.counts)) == (5, {1: 3, 2: 2})
    delta = {"temporality": Temporality.DELTA}
    total = one(counted((1, 0, 0), 10, **delta), counted((0, 2, 0), 20, 10, **delta)).distribution()
    assert total
    assert dict(total.counts) == {0: 1, 1: 2}
    assert one(point(1, 1)).distribution() is None


def test_history() -> None:
    """Rates of what adds up, percentiles of histograms, newest values of the rest."""
    counters = one(point(10, 10), point(30, 20), point(50, 40))
    assert counters.history(T0, T0 + 40 * S, 4) == [1, 2, None, 1]
    histogram = one(counted((10, 0, 0), 10), counted((10, 10, 0), 20))
    assert histogram.history(T0, T0 + 20 * S, 2) == [pytest.approx(0.95), pytest.approx(1.95)]
    gauge = {
        "kind": MetricKind.GAUGE,
        "temporality": Temporality.UNSPECIFIED,
        "is_monotonic": False,
    }
    values = one(*(point(at, at, None, **gauge) for at in (1, 2, 9)))
    assert values.history(T0, T0 + 10 * S, 2) == [2, 9]
    assert values.history(T0, T0, 1) == [9]


def test_summary() -> None:
    """Counts values, too."""
    summary = [
        point(1.0, at, kind=MetricKind.SUMMARY, point=SummaryPoint(n), is_monotonic=False)
        for at, n in ((10, 5), (20, 25))
    ]
    assert one(*summary).rate() == 25 / 20


def test_series() -> None:
    """By attributes and resources; in the order of time; what is there twice counts once."""
    here, there = (ResourceInfo({"service.name": "a", "process.pid": pid}) for pid in (1, 2))
    points = [point(2, 2, resource=here), point(1, 1, resource=here), point(1, 1, resource=there)]
    found = series_of([*points, point(1, 1, resource=here)])
    assert [[p.value for p in series.points] for series in found] == [[1, 2], [1]]
