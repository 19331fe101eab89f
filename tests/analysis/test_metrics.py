"""Series and distributions: rates over restarts, both temporalities, histories, percentiles."""

from __future__ import annotations

import math
import random
from itertools import chain
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View

from rimp_otel.analysis.metrics import (
    CombinedSeries,
    Distribution,
    MetricSeries,
    ValueRange,
    combine_series,
    distribution_between,
    distribution_of,
    merge_distributions,
    metric_series,
)
from rimp_otel.convert import metrics_from_sdk
from rimp_otel.models.records import (
    Buckets,
    ExponentialHistogramPoint,
    HistogramPoint,
    MetricKind,
    ResourceInfo,
    SummaryPoint,
    TelemetryMetric,
    Temporality,
)
from tests.cli.records import T0


def explicit(
    counts: tuple[int, ...], bounds: tuple[float, ...] = (1, 2, 4), **more: float
) -> Distribution:
    """The distribution of an explicit histogram."""
    return distribution_of(HistogramPoint(sum(counts), None, counts, bounds, **more))


def exponential(scale: int, offset: int, *counts: int, **more: int) -> Distribution:
    """The distribution of an exponential histogram of positive values."""
    return distribution_of(
        ExponentialHistogramPoint(
            sum(counts) + more.get("zero_count", 0),
            scale=scale,
            positive=Buckets(offset, counts),
            **more,
        )
    )


def test_quantiles_of_an_explicit_histogram() -> None:
    """Values are spread evenly within a bucket; an open bucket has one bound alone."""
    even = explicit((2, 4, 4, 0))
    assert [even.quantile(share) for share in (0, 0.1, 0.2, 0.4, 0.6, 0.8, 1)] == [
        0, 0.5, 1, 1.5, 2, 3, 4,
    ]  # fmt: skip
    assert explicit((0, 0, 0, 5)).quantile(0.5) == 4
    assert explicit((5, 0, 0, 0), (-2, 2, 4)).quantile(0.5) == -2


def test_extremes_narrow_the_buckets() -> None:
    """A histogram with extremes is more exact."""
    assert explicit((0, 0, 0, 5), max=6).quantile(0.5) == 5
    assert explicit((4, 0, 0, 0), min=0.5).quantile(0.5) == 0.75
    assert explicit((0, 1, 0, 0), min=1.5, max=1.5).quantile(0.99) == 1.5


def test_empty_distributions() -> None:
    """Without values, or without buckets, there is no quantile."""
    assert explicit((0, 0, 0, 0)).quantile(0.5) is None
    assert distribution_of(HistogramPoint(4, 0.8)).quantile(0.5) is None
    assert distribution_of(HistogramPoint(4, 0.8)).mean == 0.2
    assert distribution_of(HistogramPoint(4)).mean is None
    assert merge_distributions([]) is None


def test_buckets_of_an_exponential_histogram() -> None:
    """Buckets lie below zero, around it, and above it."""
    point = ExponentialHistogramPoint(
        6,
        scale=0,
        zero_count=1,
        zero_threshold=0.25,
        positive=Buckets(1, (2, 0, 1)),
        negative=Buckets(0, (2,)),
    )
    assert list(distribution_of(point).ranges()) == [
        ValueRange(-2, -1, 2),
        ValueRange(-0.25, 0.25, 1),
        ValueRange(2, 4, 2),
        ValueRange(8, 16, 1),
    ]
    assert distribution_of(point).quantile(0) == -2
    assert distribution_of(point).quantile(1) == 16
    assert distribution_of(point).quantile(0.5) == 0.25
    assert distribution_of(point).quantile(4 / 6) == pytest.approx(2 * math.sqrt(2))


def test_scales_that_a_float_cannot_hold() -> None:
    """Bounds beyond the floats are infinite or zero."""
    assert list(exponential(-10, 5, 1).ranges()) == [ValueRange(math.inf, math.inf, 1)]
    assert list(exponential(-10, -5, 1).ranges()) == [ValueRange(0, 0, 1)]


def test_distribution_between_cumulative_points() -> None:
    """The difference is what was counted in between; None after a restart."""
    before, after = explicit((1, 0, 2, 0)), explicit((1, 3, 2, 1))
    difference = distribution_between(before, after)
    assert difference
    assert (difference.count, dict(difference.counts)) == (4, {1: 3, 3: 1})
    assert distribution_between(after, before) is None
    assert distribution_between(explicit((3, 0, 0, 0)), explicit((1, 2, 2, 0))) is None
    assert distribution_between(before, explicit((1, 3, 2, 1), (1, 2, 5))) is None


def test_distribution_between_points_of_different_scales() -> None:
    """An exponential histogram becomes coarser as its range grows; its past still counts."""
    before = exponential(1, 0, 1, 1, 1)  # (1, 1.41] (1.41, 2] (2, 2.83]
    after = exponential(0, 0, 3, 1, 5)  # (1, 2] (2, 4] (4, 8]
    difference = distribution_between(before, after)
    assert difference
    assert (difference.layout, dict(difference.counts)) == (0, {0: 1, 2: 5})


def test_merge_distributions() -> None:
    """Counts add up; if bounds differ, those of the newest alone."""
    total = merge_distributions(
        [explicit((9,), ()), explicit((1, 0, 0, 0), max=1), explicit((1, 0, 2, 0), max=3)]
    )
    assert total
    assert (total.count, dict(total.counts), total.max, total.min) == (4, {0: 2, 2: 2}, 3, None)
    mixed = merge_distributions([exponential(1, 0, 1, 1), exponential(0, 1, 4, zero_count=2)])
    assert mixed
    assert (mixed.layout, dict(mixed.counts), mixed.zeros) == (0, {0: 2, 1: 4}, 2)


@pytest.mark.parametrize("kind", ["explicit", "exponential"])
def test_quantiles_of_the_sdks_histograms(kind: str) -> None:
    """They are close to those of the values themselves."""
    reader = InMemoryMetricReader()
    views = [View(instrument_name="*", aggregation=ExponentialBucketHistogramAggregation())]
    provider = MeterProvider([reader], views=views if kind == "exponential" else ())
    bounds = [2**i / 8 for i in range(16)]
    histogram = provider.get_meter("m").create_histogram(
        "h", explicit_bucket_boundaries_advisory=bounds
    )
    draw = random.Random(7)
    values = sorted(draw.lognormvariate(3, 1) for _ in range(2_000))
    for value in values:
        histogram.record(value)
    (metric,) = metrics_from_sdk(reader.get_metrics_data())  # type: ignore[arg-type]
    assert not isinstance(metric.point, type(None))
    found = distribution_of(metric.point)  # type: ignore[arg-type]
    tolerance = 0.02 if kind == "exponential" else 0.25
    for share in (0.05, 0.5, 0.95, 0.99):
        assert found.quantile(share) == pytest.approx(values[int(share * 2_000)], rel=tolerance)
    assert (found.quantile(0), found.quantile(1)) == (
        pytest.approx(values[0]),
        pytest.approx(values[-1]),
    )
    provider.shutdown()


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


def one(*points: TelemetryMetric, since: int = 0) -> MetricSeries:
    """The one series that the points make."""
    (series,) = metric_series(points, since)
    return series


def test_cumulative() -> None:
    """The rate counts what was added since the counter began."""
    series = one(point(10, 10), point(30, 20), point(50, 40))
    assert (series.total(), series.rate()) == (50, 50 / 40)


def test_restart() -> None:
    """After a new start or a smaller value, the counter began again at 0."""
    assert one(point(10, 10), point(4, 20, 15)).total() == 14
    assert one(point(10, 10, None), point(4, 20, None), point(5, 30, None)).total() == 5


def test_restart_with_a_greater_value() -> None:
    """The start tells of a restart if the value does not."""
    assert one(point(10, 10), point(12, 20, 15)).total() == 22


def test_counts_before_the_window() -> None:
    """They are left out, unless there is one point alone."""
    assert one(point(1_000, 10), point(1_030, 20), since=T0 + 5 * S).rate() == 3
    assert one(point(1_000, 10), since=T0 + 5 * S).rate() == 100


def test_delta() -> None:
    """A delta point holds what was added since the one before."""
    delta = {"temporality": Temporality.DELTA}
    series = one(point(10, 10, 0, **delta), point(20, 20, 10, **delta))
    assert (series.total(), series.rate()) == (30, 1.5)
    assert one(point(10, 10, None, **delta), point(20, 20, None, **delta)).rate() == 3


def test_no_rate() -> None:
    """A gauge has no rate, nor has a single moment."""
    gauge = {
        "kind": MetricKind.GAUGE,
        "temporality": Temporality.UNSPECIFIED,
        "is_monotonic": False,
    }
    assert not one(point(10, 10, None, **gauge)).adds_up
    assert one(point(10, 10, None)).rate() is None
    assert one(point(0, 10, flags=1)).rate() is None


def test_distribution_of_a_series() -> None:
    """Cumulative points are subtracted, over restarts; delta points are added."""
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
    """A counter has rates, a histogram percentiles, anything else its newest values."""
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


def test_rate_of_a_summary() -> None:
    """A summary counts values, too."""
    summary = [
        point(1.0, at, kind=MetricKind.SUMMARY, point=SummaryPoint(n), is_monotonic=False)
        for at, n in ((10, 5), (20, 25))
    ]
    assert one(*summary).rate() == 25 / 20


def test_metric_series() -> None:
    """Points are divided by attributes and resources; one that is there twice counts once."""
    here, there = (ResourceInfo({"service.name": "a", "process.pid": pid}) for pid in (1, 2))
    points = [point(2, 2, resource=here), point(1, 1, resource=here), point(1, 1, resource=there)]
    found = metric_series([*points, point(1, 1, resource=here)])
    assert [[p.value for p in series.points] for series in found] == [[1, 2], [1]]


def test_quantiles_of_an_open_bucket() -> None:
    """The first filled bucket begins at the minimum, the last one ends at the maximum."""
    bounds = (0.1, 0.2)
    latency = distribution_of(HistogramPoint(4, 0.5, (3, 0, 1), bounds, min=0.04, max=0.3))
    assert [latency.quantile(share) for share in (0, 0.75, 1)] == [0.04, 0.1, 0.3]
    without_maximum = distribution_of(HistogramPoint(1, None, (0, 0, 1), bounds))
    assert without_maximum.quantile(0.5) == 0.2


def measured(
    kind: MetricKind,
    *values: float,
    pid: int = 1,
    start: int = 0,
    first: int = 0,
    monotonic: bool = False,
    **tags: Any,
) -> list[TelemetryMetric]:
    """Return a point every second, from the second ``first``, of a process."""
    temporality = Temporality.CUMULATIVE if kind is MetricKind.SUM else Temporality.UNSPECIFIED
    resource = ResourceInfo({"service.name": "shop", "process.pid": pid})
    return [
        TelemetryMetric(
            *("m", value, "", tags, T0 + (first + i) * 10**9, start and T0 + start * 10**9, kind),
            temporality,
            monotonic,
            resource=resource,
        )
        for i, value in enumerate(values)
    ]


def combined(*points: list[TelemetryMetric], by: Any = None) -> CombinedSeries:
    """Return the one series of the points."""
    (found,) = combine_series(metric_series(list(chain.from_iterable(points))), by)
    return found


def count(*values: float, **more: Any) -> list[TelemetryMetric]:
    """Return the points of a counter."""
    return measured(MetricKind.SUM, *values, monotonic=True, **more)


def test_counters_of_instances_add_up() -> None:
    """Value, rate and course are those of all processes, also if one follows the other."""
    both = combined(count(10, 20, 30, start=-1, pid=1), count(1, 2, 3, start=-1, pid=2))
    assert (both.value(), both.instances, both.points) == (33, 2, 6)
    assert both.total() == 33
    assert both.rate() == 11
    assert both.history(T0, T0 + 2 * 10**9, 2) == [11, 11]
    after = combined(count(10, 20, start=-1, pid=1), count(10, 20, start=1, first=2, pid=2))
    assert (after.value(), after.rate()) == (40, 10)


def test_a_counter_that_starts_anew_in_one_resource() -> None:
    """What it counted before a restart is part of its value, told by its start or by its fall."""
    assert combined(count(10, 20, start=-1), count(5, 7, start=2, first=2)).value() == 27
    assert combined(count(10, 20), count(5, 7, first=2)).value() == 27
    assert combined(count(10, 20), count(20, 21, first=2)).value() == 21


def test_delta_counters_are_summed() -> None:
    """Points that hold what was added have no newest total, but a sum."""
    points = count(3, 4, pid=1) + count(5, pid=2)
    for point in points:
        point.temporality = Temporality.DELTA
    assert combined(points).value() == 12


def test_gauges_and_up_down_counters_of_instances() -> None:
    """Gauges have their mean, sums that go up and down their sum, of processes that still measure."""
    gauges = [measured(MetricKind.GAUGE, *[value] * 60, pid=value) for value in (2, 4)]
    gauges.append(measured(MetricKind.GAUGE, 100, 100, pid=9))
    assert combined(*gauges).value() == 3
    assert combined(*gauges).extremes() == (2, 100)
    assert combined(*gauges).is_mean
    sums = [measured(MetricKind.SUM, *[value] * 60, pid=value) for value in (2, 4)]
    sums.append(measured(MetricKind.SUM, 100, 100, pid=9))
    both = combined(*sums)
    assert (both.value(), both.is_mean, both.adds_up) == (6, False, False)
    assert both.history(T0, T0 + 60 * 10**9, 60)[::20] == [106, 6, 6]


def test_a_short_gap_does_not_lower_a_sum() -> None:
    """A process that misses two points still counts; one that misses ten does not."""
    steady = measured(MetricKind.SUM, *[1] * 30, pid=1)
    gap = measured(MetricKind.SUM, 1, 1, pid=2) + measured(MetricKind.SUM, 1, first=20, pid=2)
    history = combined(steady, gap).history(T0, T0 + 30 * 10**9, 30)
    assert (history[0], history[3], history[15], history[21]) == (2, 2, 1, 2)


def test_histograms_of_instances_add_up() -> None:
    """Percentiles are those of the values of all processes."""
    points = [
        TelemetryMetric(
            *("m", total, "s", {}, T0, T0 - 10**9, MetricKind.HISTOGRAM, Temporality.CUMULATIVE),
            point=HistogramPoint(sum(counts), total, counts, (1.0, 2.0)),
            resource=ResourceInfo({"service.name": "shop", "process.pid": pid}),
        )
        for pid, counts, total in ((1, (8, 0, 0), 4.0), (2, (0, 8, 0), 12.0))
    ]
    both = combined(points)
    total = both.distribution()
    assert total is not None
    assert (total.count, total.sum, total.quantile(0.5), total.quantile(1)) == (16, 16.0, 1, 2)
    assert both.value() == 16.0


def test_what_keeps_series_apart() -> None:
    """All attributes of points do by default; else those that are asked for, and instances."""
    points = [
        *count(1, pid=1, route="/a", code=200),
        *count(2, pid=1, route="/a", code=500),
        *count(4, pid=2, route="/b", code=200),
    ]

    def values(*by: str) -> list[tuple[float | None, dict[str, Any]]]:
        series = combine_series(metric_series(points), by or None)
        return sorted((one.value() or 0, one.attributes) for one in series)

    a, b = {"route": "/a"}, {"route": "/b", "code": 200}
    assert values() == [(1, {**a, "code": 200}), (2, {**a, "code": 500}), (4, b)]
    assert values("instance") == values()
    assert values("route") == [(3, a), (4, b)]
    assert values("code") == [(2, {**a, "code": 500}), (5, {"code": 200})]
    assert values("process.pid") == [(3, a), (4, b)]
    assert values("code", "instance") == values()
    assert values("unknown") == [(7, {})]
