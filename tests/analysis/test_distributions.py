"""What histograms say about the values that they counted."""

from __future__ import annotations

import math
import random

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View

from rimp_otel.analysis.metrics import Bucket, Distribution, between, of_point, together
from rimp_otel.convert import metrics_from_sdk
from rimp_otel.models.records import Buckets, ExponentialHistogramPoint, HistogramPoint


def explicit(
    counts: tuple[int, ...], bounds: tuple[float, ...] = (1, 2, 4), **more: float
) -> Distribution:
    """An explicit histogram's."""
    return of_point(HistogramPoint(sum(counts), None, counts, bounds, **more))


def exponential(scale: int, offset: int, *counts: int, **more: int) -> Distribution:
    """An exponential histogram's, of positive values."""
    return of_point(
        ExponentialHistogramPoint(
            sum(counts) + more.get("zero_count", 0),
            scale=scale,
            positive=Buckets(offset, counts),
            **more,
        )
    )


def test_quantiles_of_an_explicit_histogram() -> None:
    """Spread evenly within a bucket; open ends have the bound that there is."""
    even = explicit((2, 4, 4, 0))
    assert [even.quantile(share) for share in (0, 0.1, 0.2, 0.4, 0.6, 0.8, 1)] == [
        0, 0.5, 1, 1.5, 2, 3, 4,
    ]  # fmt: skip
    assert explicit((0, 0, 0, 5)).quantile(0.5) == 4
    assert explicit((5, 0, 0, 0), (-2, 2, 4)).quantile(0.5) == -2


def test_extremes_narrow_the_buckets() -> None:
    """A histogram that knows its extremes tells more."""
    assert explicit((0, 0, 0, 5), max=6).quantile(0.5) == 5
    assert explicit((4, 0, 0, 0), min=0.5).quantile(0.5) == 0.75
    assert explicit((0, 1, 0, 0), min=1.5, max=1.5).quantile(0.99) == 1.5


def test_nothing_counted() -> None:
    """There is nothing to say, also of a point without buckets."""
    assert explicit((0, 0, 0, 0)).quantile(0.5) is None
    assert of_point(HistogramPoint(4, 0.8)).quantile(0.5) is None
    assert of_point(HistogramPoint(4, 0.8)).mean == 0.2
    assert of_point(HistogramPoint(4)).mean is None
    assert together([]) is None


def test_buckets_of_an_exponential_histogram() -> None:
    """Below zero, around it, above it."""
    point = ExponentialHistogramPoint(
        6,
        scale=0,
        zero_count=1,
        zero_threshold=0.25,
        positive=Buckets(1, (2, 0, 1)),
        negative=Buckets(0, (2,)),
    )
    assert list(of_point(point).buckets()) == [
        Bucket(-2, -1, 2),
        Bucket(-0.25, 0.25, 1),
        Bucket(2, 4, 2),
        Bucket(8, 16, 1),
    ]
    assert of_point(point).quantile(0) == -2
    assert of_point(point).quantile(1) == 16
    assert of_point(point).quantile(0.5) == 0.25
    assert of_point(point).quantile(4 / 6) == pytest.approx(2 * math.sqrt(2))


def test_scales_that_a_float_cannot_hold() -> None:
    """Are no crash."""
    assert list(exponential(-10, 5, 1).buckets()) == [Bucket(math.inf, math.inf, 1)]
    assert list(exponential(-10, -5, 1).buckets()) == [Bucket(0, 0, 1)]


def test_between_cumulative_points() -> None:
    """What was counted in the meantime; None after a restart."""
    before, after = explicit((1, 0, 2, 0)), explicit((1, 3, 2, 1))
    difference = between(before, after)
    assert difference
    assert (difference.count, dict(difference.counts)) == (4, {1: 3, 3: 1})
    assert between(after, before) is None
    assert between(explicit((3, 0, 0, 0)), explicit((1, 2, 2, 0))) is None
    assert between(before, explicit((1, 3, 2, 1), (1, 2, 5))) is None


def test_between_points_of_different_scales() -> None:
    """An exponential histogram becomes coarser as its range grows; its past goes on to count."""
    before = exponential(1, 0, 1, 1, 1)  # (1, 1.41] (1.41, 2] (2, 2.83]
    after = exponential(0, 0, 3, 1, 5)  # (1, 2] (2, 4] (4, 8]
    difference = between(before, after)
    assert difference
    assert (difference.layout, dict(difference.counts)) == (0, {0: 1, 2: 5})


def test_together() -> None:
    """Counts add up; of other bounds, the newest count alone."""
    total = together(
        [explicit((9,), ()), explicit((1, 0, 0, 0), max=1), explicit((1, 0, 2, 0), max=3)]
    )
    assert total
    assert (total.count, dict(total.counts), total.max, total.min) == (4, {0: 2, 2: 2}, 3, None)
    mixed = together([exponential(1, 0, 1, 1), exponential(0, 1, 4, zero_count=2)])
    assert mixed
    assert (mixed.layout, dict(mixed.counts), mixed.zeros) == (0, {0: 2, 1: 4}, 2)


@pytest.mark.parametrize("kind", ["explicit", "exponential"])
def test_quantiles_of_what_the_sdk_counted(kind: str) -> None:
    """Close to those of the values themselves."""
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
    found = of_point(metric.point)  # type: ignore[arg-type]
    tolerance = 0.02 if kind == "exponential" else 0.25
    for share in (0.05, 0.5, 0.95, 0.99):
        assert found.quantile(share) == pytest.approx(values[int(share * 2_000)], rel=tolerance)
    assert (found.quantile(0), found.quantile(1)) == (
        pytest.approx(values[0]),
        pytest.approx(values[-1]),
    )
    provider.shutdown()
