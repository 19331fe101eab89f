"""Encoding metrics: our line is the official encoder's message, and keeps what that one loses."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import Exemplar, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Buckets,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    HistogramDataPoint,
    InMemoryMetricReader,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from rimp_otel.models.records import Signal
from rimp_otel.otlp import encode_metrics
from rimp_otel.otlp.encode_metrics import (
    _careful_point_json,
    _fast_histogram_json,
    _fast_number_json,
    histogram_fields,
    number_field,
    point_encoder,
)
from tests.otlp import strategies
from tests.otlp.official import assert_same, lines_of, message_of, official_message

RESOURCE = Resource({})
SCOPE = InstrumentationScope("meter")
DELTA, CUMULATIVE = AggregationTemporality.DELTA, AggregationTemporality.CUMULATIVE


def data_with(*metrics: Metric, resource: Resource = RESOURCE) -> MetricsData:
    """Return metrics of one resource and scope."""
    return MetricsData([ResourceMetrics(resource, [ScopeMetrics(SCOPE, metrics, "")], "")])


def gauge_of(name: str, *points: NumberDataPoint) -> Metric:
    """Return a gauge."""
    return Metric(name, "", "", Gauge(points))


def point_of(value: Any, **fields: Any) -> NumberDataPoint:
    """Return a point with this value."""
    return NumberDataPoint(
        **{
            "attributes": {},
            "start_time_unix_nano": None,
            "time_unix_nano": 9,
            "value": value,
            **fields,
        }
    )


def written(data: MetricsData) -> list[Any]:
    """Return the metrics' messages in our lines."""
    message = message_of(Signal.METRICS, lines_of(Signal.METRICS, data))
    return [
        metric
        for group in message.resource_metrics
        for scoped in group.scope_metrics
        for metric in scoped.metrics
    ]


@strategies.generated
@given(strategies.metrics_data)
def test_any_metrics_are_the_official_message(data):
    """Metrics of any kind and values, of several resources and scopes, are the official message."""
    assert_same(Signal.METRICS, lines_of(Signal.METRICS, data), data)


@pytest.mark.parametrize("temporality", [DELTA, CUMULATIVE])
@pytest.mark.parametrize("is_monotonic", [True, False])
@pytest.mark.parametrize("value", [0, -1, 2**63 - 1, 0.0, -0.5, math.inf, math.nan])
def test_every_kind_of_sum_is_the_official_message(temporality, is_monotonic, value):
    """Sums of integers and doubles, of both temporalities, monotonic or not, are the official message."""
    data = data_with(
        Metric(
            "sum",
            "d",
            "1",
            Sum([point_of(value, start_time_unix_nano=3)], temporality, is_monotonic),
        )
    )
    assert_same(Signal.METRICS, lines_of(Signal.METRICS, data), data)


def test_instruments_of_a_provider_are_the_official_message():
    """All instruments of the SDK, read by a real reader, are the official message."""
    reader = InMemoryMetricReader()
    views = [View(instrument_name="exp", aggregation=ExponentialBucketHistogramAggregation())]
    provider = MeterProvider([reader], Resource({"service.name": "s"}), views=views)
    meter = provider.get_meter("meter", "1.0")
    meter.create_counter("counter", "By", "counts").add(3, {"a": 1})
    meter.create_up_down_counter("updown").add(-2.5)
    meter.create_gauge("gauge").set(1.5, {"b": (1, 2)})
    for name in ("hist", "exp"):
        histogram = meter.create_histogram(name)
        for value in (0, 1, 2.5, 700, 1e9):
            histogram.record(value)
    data = reader.get_metrics_data()
    provider.shutdown()
    lines = lines_of(Signal.METRICS, data)
    assert_same(Signal.METRICS, lines, data)
    kinds = [
        metric.WhichOneof("data")
        for metric in message_of(Signal.METRICS, lines).resource_metrics[0].scope_metrics[0].metrics
    ]
    assert kinds == ["sum", "sum", "gauge", "histogram", "exponential_histogram"]


def test_a_histogram_is_this_text():
    """One point is written out in full, to be read by people."""
    point = HistogramDataPoint(
        attributes={"route": "/"},
        start_time_unix_nano=1,
        time_unix_nano=2,
        count=3,
        sum=4,
        bucket_counts=[1, 2],
        explicit_bounds=[5],
        min=0.5,
        max=math.inf,
        exemplars=[Exemplar({}, 1, 2, span_id=3, trace_id=4)],
    )
    data = data_with(Metric("latency", "how long", "ms", Histogram([point], DELTA)))
    assert lines_of(Signal.METRICS, data) == [
        b'{"resourceMetrics":[{"resource":{},"scopeMetrics":[{"scope":{"name":"meter"},"metrics":['
        b'{"name":"latency","description":"how long","unit":"ms","histogram":{"dataPoints":['
        b'{"timeUnixNano":"2","startTimeUnixNano":"1","count":"3","sum":4.0,"min":0.5,'
        b'"max":"Infinity","bucketCounts":["1","2"],"explicitBounds":[5.0],'
        b'"attributes":[{"key":"route","value":{"stringValue":"/"}}],'
        b'"exemplars":[{"timeUnixNano":"2","asInt":"1",'
        b'"traceId":"00000000000000000000000000000004","spanId":"0000000000000003"}]}],'
        b'"aggregationTemporality":1}}]}]}]}'
    ]


@pytest.mark.parametrize("counts", [[], [0], [1, 2**64 - 1]])
def test_empty_and_filled_buckets_are_the_official_message(counts):
    """An empty half of an exponential histogram is left out with its offset."""
    point = ExponentialHistogramDataPoint(
        attributes={},
        start_time_unix_nano=1,
        time_unix_nano=2,
        count=3,
        sum=4.5,
        scale=-1,
        zero_count=1,
        positive=Buckets(-7, counts),
        negative=Buckets(0, []),
        flags=1,
        min=1.0,
        max=2.0,
    )
    data = data_with(Metric("exp", "", "", ExponentialHistogram([point], CUMULATIVE)))
    assert_same(Signal.METRICS, lines_of(Signal.METRICS, data), data)
    (metric,) = written(data)
    assert metric.exponential_histogram.data_points[0].HasField("positive") is bool(counts)


def test_metrics_without_points_are_left_out():
    """Metrics without points are left out, with scopes and resources that have no others."""
    data = MetricsData(
        [
            *data_with(gauge_of("empty"), resource=Resource({"n": 1})).resource_metrics,
            *data_with(gauge_of("none"), gauge_of("one", point_of(1))).resource_metrics,
            ResourceMetrics(Resource({"n": 2}), [], ""),
        ]
    )
    lines = lines_of(Signal.METRICS, data)
    assert [metric.name for metric in written(data)] == ["one"]
    assert len(message_of(Signal.METRICS, lines).resource_metrics) == 1
    assert_same(Signal.METRICS, lines, data)


def test_a_batch_of_several_lines_is_one_message():
    """The points of one metric continue in the next line, within a metric of the same name."""
    points = [point_of(n, attributes={"n": n, "x": "x" * 500}) for n in range(300)]
    data = data_with(gauge_of("a", *points[:150]), gauge_of("b", *points[150:]))
    lines = lines_of(Signal.METRICS, data)
    assert len(lines) == 3
    assert_same(Signal.METRICS, lines, data)


def test_the_start_time_of_a_gauge_is_kept():
    """A gauge keeps its start time, which the official encoder loses."""
    data = data_with(gauge_of("gauge", point_of(1, start_time_unix_nano=5)))
    assert written(data)[0].gauge.data_points[0].start_time_unix_nano == 5
    theirs = official_message(Signal.METRICS, data).resource_metrics[0].scope_metrics[0].metrics[0]
    assert theirs.gauge.data_points[0].start_time_unix_nano == 0


def test_a_resource_that_comes_twice_keeps_all_its_points():
    """Two groups of equal resources both keep their points; the official encoder loses the first."""
    data = MetricsData(
        [
            *data_with(gauge_of("first", point_of(1))).resource_metrics,
            *data_with(gauge_of("second", point_of(2))).resource_metrics,
        ]
    )
    assert [metric.name for metric in written(data)] == ["first", "second"]
    theirs = official_message(Signal.METRICS, data)
    assert len(theirs.resource_metrics[0].scope_metrics[0].metrics) == 1


def test_metrics_that_are_written_the_same_become_one():
    """Equal metrics share one metric, which the official encoder repeats."""
    data = data_with(gauge_of("same", point_of(1)), gauge_of("same", point_of(2)))
    (metric,) = written(data)
    assert [point.as_int for point in metric.gauge.data_points] == [1, 2]


def test_an_exemplar_outside_of_a_span_has_no_ids():
    """Exemplar ids of None and of 0 are left out, since OTLP does not allow 0."""
    exemplars = [Exemplar({}, 1, 2), Exemplar({}, 1.5, 2, span_id=0, trace_id=0)]
    data = data_with(gauge_of("gauge", point_of(1, exemplars=exemplars)))
    (metric,) = written(data)
    ids = [(e.trace_id, e.span_id) for e in metric.gauge.data_points[0].exemplars]
    assert ids == [(b"", b""), (b"", b"")]


def test_a_metric_of_no_scope_is_written():
    """A metric without a scope is written; the official encoder raises."""
    scoped = ScopeMetrics(None, [gauge_of("gauge", point_of(1))], "")
    data = MetricsData([ResourceMetrics(RESOURCE, [scoped], "")])
    assert [metric.name for metric in written(data)] == ["gauge"]


def histogram_of(**fields: Any) -> HistogramDataPoint:
    """Return a histogram's point of two measurements, 1.5 and 3, but for these fields."""
    usual = {
        "attributes": {"a": "b"},
        "start_time_unix_nano": 1,
        "time_unix_nano": 2,
        "count": 2,
        "sum": 4.5,
        "bucket_counts": [0, 2, 0],
        "explicit_bounds": (0.0, 5.0),
        "min": 1.5,
        "max": 3.0,
    }
    return HistogramDataPoint(**{**usual, **fields})


@strategies.generated
@given(strategies.metrics_data)
def test_points_of_all_kinds(data) -> None:
    """The fast path writes what the careful one does, whatever the values."""
    for by_resource in data.resource_metrics:
        for by_scope in by_resource.scope_metrics:
            for metric in by_scope.metrics:
                write = point_encoder(metric.data)
                values = encode_metrics._POINT_ENCODERS[type(metric.data)][1]
                for point in metric.data.data_points:
                    assert write(point) == _careful_point_json(point, values)


@given(st.integers() | st.floats() | st.booleans() | st.none(), st.integers(), st.integers())
def test_numbers(value, start, time) -> None:
    """The fast path writes any number and time as the careful one does, or not at all."""
    point = NumberDataPoint({"a": 1}, start, time, value)
    fast = _fast_number_json(point)
    assert fast is None or fast == _careful_point_json(point, lambda p: number_field(p.value))


@given(
    st.integers() | st.floats(),
    st.lists(st.integers(min_value=-1, max_value=5) | st.booleans() | st.just(1.0), max_size=4),
    st.lists(st.floats() | st.integers(-9, 9), max_size=4),
)
def test_histograms(total, counts, bounds) -> None:
    """The fast path writes any sum, counts and bounds as the careful one does, or not at all."""
    point = histogram_of(sum=total, count=sum(counts), bucket_counts=counts, explicit_bounds=bounds)
    fast = _fast_histogram_json(point)
    assert fast is None or fast == _careful_point_json(point, histogram_fields)


def test_the_fast_path_is_taken() -> None:
    """The SDK's points of counters and histograms take the fast path."""
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("m")
    meter.create_counter("c").add(1, {"a": "b"})
    meter.create_counter("d").add(1.5)
    meter.create_histogram("h").record(7)
    meter.create_histogram("i").record(7.5, {"a": 1})
    (scoped,) = reader.get_metrics_data().resource_metrics[0].scope_metrics
    for metric in scoped.metrics:
        (point,) = metric.data.data_points
        fast = _fast_histogram_json if isinstance(metric.data, Histogram) else _fast_number_json
        assert fast(point) == point_encoder(metric.data)(point)
        assert fast(point) is not None


def test_one_histogram() -> None:
    """One histogram is written out in full, to be read by people."""
    assert _fast_histogram_json(histogram_of()) == (
        '{"timeUnixNano":"2","startTimeUnixNano":"1","count":"2","sum":4.5,"min":1.5,"max":3.0'
        ',"bucketCounts":["0","2","0"],"explicitBounds":[0.0,5.0]'
        ',"attributes":[{"key":"a","value":{"stringValue":"b"}}]}'
    )


@pytest.mark.parametrize(
    "odd",
    [
        {"bucket_counts": [-1, 3, 0]},
        {"bucket_counts": [True, True, 0]},
        {"bucket_counts": [], "explicit_bounds": ()},
        {"count": 3},
        {"count": float(histogram_of().count)},
        {"sum": math.inf},
        {"min": -math.inf},
        {"max": math.nan},
        {"sum": None},
        {"time_unix_nano": -1},
        {"start_time_unix_nano": 2**64},
        {"explicit_bounds": None},
    ],
)
def test_odd_histograms_take_the_careful_path(odd) -> None:
    """A field that the SDK would not write so takes the careful path."""
    assert _fast_histogram_json(histogram_of(**odd)) is None


def test_bounds_that_are_equal_are_not_the_same() -> None:
    """Bounds of 0.0 and -0.0 are equal and written differently."""
    texts = [_fast_histogram_json(histogram_of(explicit_bounds=(z, 5.0))) for z in (0.0, -0.0, 0)]
    assert ['"explicitBounds":[0.0,5.0]' in (text or "") for text in texts] == [True, False, True]
    assert '"explicitBounds":[-0.0,5.0]' in (texts[1] or "")


def test_what_is_cached_is_bounded(monkeypatch) -> None:
    """The cache of bounds is limited, since each view may define its own."""
    monkeypatch.setattr(encode_metrics._bounds, "size", 3)
    for number in range(10):
        _fast_histogram_json(histogram_of(explicit_bounds=(0.0, float(number))))
    assert len(encode_metrics._bounds) <= 3
