"""The quick way of the SDK's data points, against the careful one."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    Histogram,
    HistogramDataPoint,
    InMemoryMetricReader,
    NumberDataPoint,
)

from rimp_otel.otlp import encode_metrics as sdkpoints
from rimp_otel.otlp.encode_metrics import (
    _careful_point_json,
    _quick_histogram,
    _quick_number,
    histogram_fields,
    number_field,
    point_writer,
)
from tests.otlp import strategies


def histogram_of(**fields: Any) -> HistogramDataPoint:
    """A histogram's point, two measurements of 1.5 and 3 but for these fields."""
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
    """Whatever is in them, what is written is what the careful way writes."""
    for by_resource in data.resource_metrics:
        for by_scope in by_resource.scope_metrics:
            for metric in by_scope.metrics:
                write = point_writer(metric.data)
                values = sdkpoints._WRITERS[type(metric.data)][1]
                for point in metric.data.data_points:
                    assert write(point) == _careful_point_json(point, values)


@given(st.integers() | st.floats() | st.booleans() | st.none(), st.integers(), st.integers())
def test_numbers(value, start, time) -> None:
    """Any value and any times: as the careful way writes them, or not at all."""
    point = NumberDataPoint({"a": 1}, start, time, value)
    quick = _quick_number(point)
    assert quick is None or quick == _careful_point_json(point, lambda p: number_field(p.value))


@given(
    st.integers() | st.floats(),
    st.lists(st.integers(min_value=-1, max_value=5) | st.booleans() | st.just(1.0), max_size=4),
    st.lists(st.floats() | st.integers(-9, 9), max_size=4),
)
def test_histograms(total, counts, bounds) -> None:
    """Any sum, counts and bounds."""
    point = histogram_of(sum=total, count=sum(counts), bucket_counts=counts, explicit_bounds=bounds)
    quick = _quick_histogram(point)
    assert quick is None or quick == _careful_point_json(point, histogram_fields)


def test_the_quick_way_is_taken() -> None:
    """By what the SDK collects of a counter and a histogram, of integers and of floats."""
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("m")
    meter.create_counter("c").add(1, {"a": "b"})
    meter.create_counter("d").add(1.5)
    meter.create_histogram("h").record(7)
    meter.create_histogram("i").record(7.5, {"a": 1})
    (scoped,) = reader.get_metrics_data().resource_metrics[0].scope_metrics
    for metric in scoped.metrics:
        (point,) = metric.data.data_points
        quick = _quick_histogram if isinstance(metric.data, Histogram) else _quick_number
        assert quick(point) == point_writer(metric.data)(point)
        assert quick(point) is not None


def test_one_histogram() -> None:
    """In full, to be read by people."""
    assert _quick_histogram(histogram_of()) == (
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
def test_odd_histograms_go_the_careful_way(odd) -> None:
    """Whatever a field holds that the SDK does not put there."""
    assert _quick_histogram(histogram_of(**odd)) is None


def test_bounds_that_are_equal_are_not_the_same() -> None:
    """Zero has two signs, of which the text of the one is not that of the other."""
    texts = [_quick_histogram(histogram_of(explicit_bounds=(z, 5.0))) for z in (0.0, -0.0, 0)]
    assert ['"explicitBounds":[0.0,5.0]' in (text or "") for text in texts] == [True, False, True]
    assert '"explicitBounds":[-0.0,5.0]' in (texts[1] or "")


def test_what_is_cached_is_bounded(monkeypatch) -> None:
    """Views may give each instrument bounds of its own."""
    monkeypatch.setattr(sdkpoints._bounds, "size", 3)
    for number in range(10):
        _quick_histogram(histogram_of(explicit_bounds=(0.0, float(number))))
    assert len(sdkpoints._bounds) <= 3
