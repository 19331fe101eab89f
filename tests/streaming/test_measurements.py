"""Measurements: what of a collection is stored, and what waits in the checkpoint."""

from __future__ import annotations

import json

import pytest
from opentelemetry import trace
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter, Counter, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

from rimp_otel.streaming.measurements import Measurements


class Instruments:
    """A meter, and what its collections bring."""

    def __init__(self, **options):
        self.reader = InMemoryMetricReader(**options)
        provider = MeterProvider(
            metric_readers=[self.reader],
            shutdown_on_exit=False,
            exemplar_filter=AlwaysOnExemplarFilter(),
        )
        self.meter = provider.get_meter("m")
        self.measurements = Measurements()

    def note(self):
        """Collect for the checkpoint; return what is stored all the same."""
        data = self.reader.get_metrics_data()
        return values_of(self.measurements.note(data)[0]) if data else []

    def collect(self, time=5):
        """Collect as usual, and store it; return it."""
        records, failed = self.measurements.collect(self.reader.get_metrics_data(), time)
        assert failed == 0
        self.measurements.mark_stored()
        return values_of(records)

    @property
    def kept(self):
        """What the checkpoint holds."""
        return values_of(self.measurements.unstored)

    @property
    def is_changed(self):
        """Whether the checkpoint is to be written, and then it is."""
        changed, self.measurements.is_changed = self.measurements.is_changed, False
        return changed


def values_of(records):
    """Return name and value of each point: a histogram's is its count."""
    found = []
    for record in records:
        text = json.loads(record.text)
        value = text.get("asInt", text.get("asDouble", text.get("count")))
        found.append((record.metric.head.split('"')[3], float(value)))
    return sorted(found)


def test_only_what_has_changed_is_kept():
    """A series is kept from its first measurement on, until a regular collection stores it."""
    found = Instruments()
    one, two = found.meter.create_counter("one"), found.meter.create_counter("two")
    one.add(1)
    two.add(2)
    assert found.note() == []
    assert (found.kept, found.is_changed) == ([("one", 1), ("two", 2)], True)
    assert found.note() == []
    assert (found.kept, found.is_changed) == ([("one", 1), ("two", 2)], False)
    assert found.collect() == [("one", 1), ("two", 2)]
    assert (found.kept, found.is_changed) == ([], True)
    assert found.note() == []
    assert (found.kept, found.is_changed) == ([], False)
    two.add(3)
    found.note()
    assert (found.kept, found.is_changed) == ([("two", 5)], True)
    two.add(4)
    found.note()
    assert (found.kept, found.is_changed) == ([("two", 9)], True)
    assert found.collect() == [("one", 1), ("two", 9)]


def test_series_of_one_instrument_are_told_apart():
    """The newest point of each set of attributes is kept, also of histograms."""
    found = Instruments()
    histogram = found.meter.create_histogram("h")
    for attributes in ({"a": 1}, {"a": "1"}, {}):
        histogram.record(1, attributes)
    found.note()
    histogram.record(2, {"a": 1})
    found.note()
    assert found.kept == [("h", 1), ("h", 1), ("h", 2)]


def test_deltas_are_stored_whenever_they_are_collected():
    """A collection takes them away from the instrument, so nothing else would have them."""
    found = Instruments(preferred_temporality={Counter: AggregationTemporality.DELTA})
    counter, histogram = found.meter.create_counter("c"), found.meter.create_histogram("h")
    counter.add(1)
    histogram.record(1)
    assert found.note() == [("c", 1)]
    counter.add(2)
    assert found.note() == [("c", 2)]
    assert found.kept == [("h", 1)]
    counter.add(3)
    assert found.collect() == [("c", 3), ("h", 1)]


def test_gauge_that_is_given_up_between():
    """A gauge that a collection took away comes with the regular one, at its time."""
    found = Instruments()
    callback = iter([[Observation(7, {"queue": "a"})], [], []])
    found.meter.create_observable_gauge("g", callbacks=[lambda _: next(callback)])
    found.note()
    assert found.kept == [("g", 7)]
    found.note()
    assert found.kept == [("g", 7)]
    records, _ = found.measurements.collect(found.reader.get_metrics_data(), 5)
    assert values_of(records) == [("g", 7)]
    assert json.loads(records[0].text)["timeUnixNano"] == "5"
    assert records[0].time_unix_nano == 5
    found.measurements.mark_stored()
    assert found.kept == []


def test_sum_that_is_no_longer_observed():
    """A sum whose series has ended is not given a later time."""
    found = Instruments()
    callback = iter([[Observation(7, {"pid": 1})], []])
    found.meter.create_observable_counter("c", callbacks=[lambda _: next(callback)])
    found.note()
    assert found.collect() == []


def test_what_waits_in_memory_is_kept_on():
    """Unless a regular collection is safe, the checkpoint keeps what it had."""
    found = Instruments()
    counter = found.meter.create_counter("c")
    counter.add(1)
    found.note()
    counter.add(1)
    found.measurements.collect(found.reader.get_metrics_data(), 5)
    assert found.kept == [("c", 1)]
    found.note()
    assert found.kept == [("c", 2)]


def test_the_last_of_all():
    """Where no regular collection comes any more, what is kept is stored itself."""
    found = Instruments()
    found.meter.create_counter("c").add(3)
    found.note()
    records = found.measurements.collect_kept(9)
    assert values_of(records) == [("c", 3)]
    assert json.loads(records[0].text)["timeUnixNano"] == "9"
    found.measurements.mark_stored()
    assert found.kept == []
    found.note()
    assert found.kept == []


def exemplars_in(records):
    """Return the values of the exemplars of each point."""
    return [[e["asDouble"] for e in json.loads(r.text).get("exemplars", [])] for r in records]


@pytest.fixture
def in_span():
    """A span that is current: exemplars name it."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("t")
    with tracer.start_as_current_span("s") as span:
        yield trace.format_span_id(span.get_span_context().span_id)


def test_exemplars_are_carried_over(in_span):
    """Those that a collection took away come with the next points, the newest of each bucket."""
    found = Instruments()
    histogram = found.meter.create_histogram("h", explicit_bucket_boundaries_advisory=[10.0, 20.0])
    for value in (1.0, 11.0):
        histogram.record(value)
    found.note()
    histogram.record(12.0)
    found.note()
    histogram.record(30.0)
    records, _ = found.measurements.collect(found.reader.get_metrics_data(), 5)
    assert exemplars_in(records) == [[1.0, 12.0, 30.0]]
    assert json.loads(records[0].text)["exemplars"][0]["spanId"] == in_span
    found.measurements.mark_stored()
    records, _ = found.measurements.collect(found.reader.get_metrics_data(), 5)
    assert exemplars_in(records) == [[]]


def test_exemplars_of_counters_are_carried_over(in_span):
    """A counter keeps the last collection's that had any."""
    found = Instruments()
    counter = found.meter.create_counter("c")
    counter.add(1.5)
    found.note()
    records, _ = found.measurements.collect(found.reader.get_metrics_data(), 5)
    assert exemplars_in(records) == [[1.5]]


def test_forked_child_leaves_what_was_kept_to_its_parent():
    """A child keeps only series that are measured after the fork."""
    found = Instruments()
    one, two = found.meter.create_counter("one"), found.meter.create_counter("two")
    one.add(1)
    two.add(1)
    found.note()
    found.measurements.reset_after_fork()
    assert found.kept == []
    two.add(1)
    found.note()
    assert found.kept == [("two", 2)]


def test_one_bad_point_costs_itself():
    """What cannot be encoded is counted, and the others are kept."""
    found = Instruments()
    found.meter.create_counter("good").add(1)
    found.meter.create_counter("bad").add(1)
    data = found.reader.get_metrics_data()
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        if metric.name == "bad":
            object.__setattr__(metric.data.data_points[0], "value", object())
    assert found.measurements.note(data) == ([], 0)
    assert found.kept == [("good", 1)]
    records, failed = found.measurements.collect(data, 5)
    assert (values_of(records), failed) == ([("good", 1)], 1)
