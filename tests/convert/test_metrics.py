"""Metric points and the SDK's metrics, converted in both directions."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import Exemplar as SdkExemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Buckets as SdkBuckets
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from rimp_otel.convert.metrics import metrics_from_sdk, metrics_to_sdk
from rimp_otel.models.records import (
    Buckets,
    Exemplar,
    ExponentialHistogramPoint,
    HistogramPoint,
    MetricKind,
    ResourceInfo,
    ScopeInfo,
    SummaryPoint,
    TelemetryMetric,
    Temporality,
)

RESOURCE = ResourceInfo({"service.name": "shop"}, "https://resource")
SCOPE = ScopeInfo("meter", "1.0", {}, "https://scope")
ORIGIN: dict[str, Any] = {"scope": SCOPE, "resource": RESOURCE}
CUMULATIVE = AggregationTemporality.CUMULATIVE
DELTA = AggregationTemporality.DELTA


def _sdk_data(*metrics: Metric) -> MetricsData:
    resource = Resource({"service.name": "shop"}, "https://resource")
    scope = InstrumentationScope("meter", "1.0", "https://scope")
    scopes = [ScopeMetrics(scope, list(metrics), "https://scope")]
    return MetricsData([ResourceMetrics(resource, scopes, "https://resource")])


CASES = [
    pytest.param(
        Metric("temp", "how warm", "Cel", Gauge([NumberDataPoint({"a": ("x",)}, None, 20, 1.5)])),
        TelemetryMetric("temp", 1.5, "Cel", {"a": ["x"]}, 20, description="how warm", **ORIGIN),
        id="gauge",
    ),
    pytest.param(
        Metric(
            "calls",
            "",
            "1",
            Sum(
                [NumberDataPoint({}, 10, 20, 3, [SdkExemplar({"q": 1}, 2, 15, 0xDEF, 0xABC)])],
                CUMULATIVE,
                True,
            ),
        ),
        TelemetryMetric(
            "calls",
            3,
            "1",
            {},
            20,
            10,
            MetricKind.SUM,
            Temporality.CUMULATIVE,
            True,
            exemplars=[Exemplar(2, 15, 0xABC, 0xDEF, {"q": 1})],
            **ORIGIN,
        ),
        id="sum",
    ),
    pytest.param(
        Metric(
            "size",
            "",
            "By",
            Histogram(
                [HistogramDataPoint({}, 10, 20, 3, 6.5, (1, 2), (5.0,), 0.5, 6.0)],
                DELTA,
            ),
        ),
        TelemetryMetric(
            "size",
            6.5,
            "By",
            {},
            20,
            10,
            MetricKind.HISTOGRAM,
            Temporality.DELTA,
            point=HistogramPoint(3, 6.5, (1, 2), (5.0,), 0.5, 6.0),
            **ORIGIN,
        ),
        id="histogram",
    ),
    pytest.param(
        Metric(
            "took",
            "",
            "ms",
            ExponentialHistogram(
                [
                    ExponentialHistogramDataPoint(
                        {},
                        10,
                        20,
                        3,
                        6.5,
                        2,
                        1,
                        SdkBuckets(-3, (1, 1)),
                        SdkBuckets(0, ()),
                        1,
                        0.0,
                        6.0,
                    )
                ],
                DELTA,
            ),
        ),
        TelemetryMetric(
            "took",
            6.5,
            "ms",
            {},
            20,
            10,
            MetricKind.EXPONENTIAL_HISTOGRAM,
            Temporality.DELTA,
            point=ExponentialHistogramPoint(
                3, 6.5, 2, 1, positive=Buckets(-3, (1, 1)), min=0.0, max=6.0
            ),
            flags=1,
            **ORIGIN,
        ),
        id="exponential histogram",
    ),
]


@pytest.mark.parametrize(("theirs", "ours"), CASES)
def test_a_metric_from_the_sdk(theirs: Metric, ours: TelemetryMetric) -> None:
    """Every field of every kind is converted from the SDK."""
    assert metrics_from_sdk(_sdk_data(theirs)) == [ours]


@pytest.mark.parametrize(("theirs", "ours"), CASES)
def test_a_metric_to_the_sdk(theirs: Metric, ours: TelemetryMetric) -> None:
    """Every field of every kind is converted to the SDK."""
    assert metrics_to_sdk([ours]) == _sdk_data(theirs)


def test_no_metrics_are_no_metrics() -> None:
    """No metrics are converted to no metrics."""
    assert metrics_to_sdk([]) == MetricsData([])
    assert metrics_from_sdk(MetricsData([])) == []


def test_min_and_max_are_what_the_sdk_says() -> None:
    """Min and max are the SDK's, infinities included, as in the official encoder."""
    points = [
        HistogramDataPoint({}, 1, 2, 1, 1.0, (1,), (), math.inf, -math.inf),
        HistogramDataPoint({}, 1, 2, 1, math.inf, (1,), (), math.inf, math.inf),
    ]
    found = metrics_from_sdk(_sdk_data(Metric("m", None, None, Histogram(points, DELTA))))
    assert [metric.point for metric in found] == [
        HistogramPoint(1, 1.0, (1,), (), math.inf, -math.inf),
        HistogramPoint(1, math.inf, (1,), (), math.inf, math.inf),
    ]
    assert (found[0].unit, found[0].description) == ("", "")


def test_a_histogram_without_a_sum() -> None:
    """A missing sum of a histogram is NaN here and None there."""
    metric = TelemetryMetric(
        "m", math.nan, kind=MetricKind.HISTOGRAM, point=HistogramPoint(2, None, (2,))
    )
    data = metrics_to_sdk([metric])
    (point,) = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    assert isinstance(point, HistogramDataPoint)
    assert (point.sum, point.min, point.max) == (None, None, None)
    (back,) = metrics_from_sdk(data)
    assert math.isnan(back.value)
    assert back.point == metric.point


def test_a_point_without_a_recorded_value_is_nan() -> None:
    """A point without a recorded value is NaN, since the SDK's points have no flags."""
    metric = TelemetryMetric("m", math.nan, flags=1)
    assert not metric.has_value
    (back,) = metrics_from_sdk(metrics_to_sdk([metric]))
    assert not back.has_value
    assert back.flags == 0


@pytest.mark.parametrize(("value", "expected"), [("2.5", 2.5), (None, math.nan), ("x", math.nan)])
def test_a_value_of_another_type_costs_at_most_itself(value: Any, expected: float) -> None:
    """A value of any type, as a callback may return it, costs at most itself."""
    (found,) = metrics_from_sdk(
        _sdk_data(Metric("m", "", "", Gauge([NumberDataPoint({}, 1, 2, value)])))
    )
    assert repr(found.value) == repr(expected)


def test_summaries_and_unknown_kinds_are_left_out() -> None:
    """Summaries and kinds that we do not know are left out."""
    summary = TelemetryMetric("s", 1.0, kind=MetricKind.SUMMARY, point=SummaryPoint(1, 1.0))
    gauge = TelemetryMetric("g", 1.0)
    (back,) = metrics_from_sdk(metrics_to_sdk([summary, gauge]))
    assert back.name == "g"
    assert metrics_to_sdk([summary]) == MetricsData([])
    assert metrics_from_sdk(_sdk_data(Metric("new", "", "", object()))) == []


def _shape(data: MetricsData) -> list[Any]:
    return [
        (
            dict(by_resource.resource.attributes),
            [
                (
                    by_scope.scope.name,
                    [
                        (metric.name, [point.value for point in metric.data.data_points])
                        for metric in by_scope.metrics
                    ],
                )
                for by_scope in by_resource.scope_metrics
            ],
        )
        for by_resource in data.resource_metrics
    ]


def test_points_are_grouped_in_order() -> None:
    """Points are grouped by resource, scope and metric, in the order of the first ones."""
    found = metrics_to_sdk(
        [
            TelemetryMetric("b", 1, scope=ScopeInfo("x"), resource=ResourceInfo({"r": 1})),
            TelemetryMetric("a", 2, scope=ScopeInfo("x"), resource=ResourceInfo({"r": 2})),
            TelemetryMetric("a", 3, scope=ScopeInfo("y"), resource=ResourceInfo({"r": 1})),
            TelemetryMetric("a", 4, scope=ScopeInfo("x"), resource=ResourceInfo({"r": 1})),
            TelemetryMetric("b", 5, scope=ScopeInfo("x"), resource=ResourceInfo({"r": 1})),
        ]
    )
    assert _shape(found) == [
        ({"r": 1}, [("x", [("b", [1, 5]), ("a", [4])]), ("y", [("a", [3])])]),
        ({"r": 2}, [("x", [("a", [2])])]),
    ]


@pytest.mark.parametrize(
    "other",
    [
        {"unit": "s"},
        {"description": "d"},
        {"kind": MetricKind.SUM},
        {"temporality": Temporality.DELTA},
        {"is_monotonic": True},
    ],
)
def test_what_makes_another_metric(other: dict[str, Any]) -> None:
    """Points of one name that differ in any of these fields are two metrics."""
    found = metrics_to_sdk([TelemetryMetric("m", 1), TelemetryMetric("m", 2, **other)])
    assert len(found.resource_metrics[0].scope_metrics[0].metrics) == 2


def test_origins_that_the_sdk_takes_for_equal_are_one_group() -> None:
    """Equal resources and scopes are one group, of which exporters would keep the last one only."""
    nested = {"a": [1, {"b": [2]}]}
    found = metrics_to_sdk(
        [
            TelemetryMetric("m", 1),
            TelemetryMetric("m", 2, scope=ScopeInfo(), resource=ResourceInfo()),
            TelemetryMetric("m", 3, scope=ScopeInfo("s", "", nested, "", 1), resource=RESOURCE),
            TelemetryMetric("m", 4, scope=ScopeInfo("s", "", nested, "", 2), resource=RESOURCE),
        ]
    )
    assert _shape(found) == [
        ({}, [("", [("m", [1, 2])])]),
        ({"service.name": "shop"}, [("s", [("m", [3, 4])])]),
    ]


NANOS = st.integers(0, 2**64 - 1)
COUNTS = st.integers(0, 2**64 - 1)
FLOATS = st.floats(allow_nan=False)
NUMBERS = FLOATS | st.integers(-(2**63), 2**63 - 1)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
ATTRIBUTES = st.dictionaries(
    st.text(), st.text() | st.booleans() | NUMBERS | st.lists(st.text(), max_size=2), max_size=3
)
EXEMPLARS = st.builds(
    Exemplar, NUMBERS, NANOS, st.integers(0, 2**128 - 1), st.integers(0, 2**64 - 1), ATTRIBUTES
)
BUCKETS = st.none() | st.builds(
    Buckets, st.integers(-(2**31), 2**31 - 1), st.lists(COUNTS, min_size=1).map(tuple)
)
HISTOGRAMS = st.builds(
    HistogramPoint,
    COUNTS,
    st.none() | FLOATS,
    st.lists(COUNTS).map(tuple),
    st.lists(FLOATS).map(tuple),
    st.none() | FINITE,
    st.none() | FINITE,
)
EXPONENTIAL = st.builds(
    ExponentialHistogramPoint,
    count=COUNTS,
    sum=st.none() | FLOATS,
    scale=st.integers(-10, 20),
    zero_count=COUNTS,
    positive=BUCKETS,
    negative=BUCKETS,
    min=st.none() | FINITE,
    max=st.none() | FINITE,
)
SHARED = {
    "name": st.text(),
    "unit": st.text(),
    "description": st.text(),
    "tags": ATTRIBUTES,
    "time_unix_nano": NANOS,
    "start_time_unix_nano": NANOS,
    "exemplars": st.lists(EXEMPLARS, max_size=2),
    "scope": st.none() | st.builds(ScopeInfo, st.text(min_size=1), st.text(), ATTRIBUTES),
    "resource": st.none() | st.builds(ResourceInfo, ATTRIBUTES.filter(bool), st.text()),
}
TEMPORALITIES = st.sampled_from(Temporality)
GAUGES = st.builds(TelemetryMetric, value=NUMBERS, **SHARED)
SUMS = st.builds(
    TelemetryMetric,
    value=NUMBERS,
    kind=st.just(MetricKind.SUM),
    temporality=TEMPORALITIES,
    is_monotonic=st.booleans(),
    **SHARED,
)


@st.composite
def _distributions(draw: st.DrawFn) -> TelemetryMetric:
    kind = draw(st.sampled_from([MetricKind.HISTOGRAM, MetricKind.EXPONENTIAL_HISTOGRAM]))
    exponential = kind is MetricKind.EXPONENTIAL_HISTOGRAM
    point = draw(EXPONENTIAL if exponential else HISTOGRAMS)
    return TelemetryMetric(
        value=math.nan if point.sum is None else point.sum,
        kind=kind,
        temporality=draw(TEMPORALITIES),
        point=point,
        flags=draw(st.integers(0, 1)) if exponential else 0,
        **{name: draw(strategy) for name, strategy in SHARED.items()},
    )


@given(GAUGES | SUMS | _distributions())
def test_a_metric_comes_back_as_it_was(metric: TelemetryMetric) -> None:
    """Any metric point comes back equal from the SDK's, types included."""
    # As text, in which NaN equals NaN, and 1 differs from True.
    assert list(map(repr, metrics_from_sdk(metrics_to_sdk([metric])))) == [repr(metric)]


@given(st.lists(GAUGES | SUMS | _distributions(), max_size=6))
def test_no_point_of_a_batch_is_lost(metrics: list[TelemetryMetric]) -> None:
    """Grouping changes the order and nothing else."""
    data = metrics_to_sdk(metrics)
    back = metrics_from_sdk(data)
    assert sorted(m.time_unix_nano for m in back) == sorted(m.time_unix_nano for m in metrics)
    again = metrics_from_sdk(metrics_to_sdk(back))
    assert list(map(repr, again)) == list(map(repr, back))
    resources = [by_resource.resource for by_resource in data.resource_metrics]
    assert all(a != b for i, a in enumerate(resources) for b in resources[:i])
