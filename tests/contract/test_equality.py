"""What comes back equals what went in, whichever storage it went through."""

from __future__ import annotations

import math

import pytest

from rimp_otel import (
    ConfigurationError,
    HistogramPoint,
    MetricKind,
    ScopeInfo,
    TelemetryData,
    TelemetryEvent,
    TelemetryMetric,
)
from rimp_otel.models.records import Buckets, ExponentialHistogramPoint, SummaryPoint
from tests.contract.samples import NOON, SECOND, bare_span, everything, span

HISTOGRAM = {"kind": MetricKind.HISTOGRAM, "time_unix_nano": NOON}
EVENTS = [
    TelemetryEvent("auth", "no scope", time_unix_nano=NOON),
    TelemetryEvent("", "no source", time_unix_nano=NOON),
    TelemetryEvent("auth", "a scope", time_unix_nano=NOON, scope=ScopeInfo("auth", "1.0")),
    TelemetryEvent("auth", "", time_unix_nano=NOON, body=["a", (1, [2, (3,)])]),
    TelemetryEvent("auth", "", time_unix_nano=NOON, body={"a": (1, 2), "b": [3]}),
    TelemetryEvent("auth", "tuples", time_unix_nano=NOON, metadata={"x": (1, {"y": (2,)})}),
]
METRICS = [
    TelemetryMetric("m", 1, time_unix_nano=NOON),
    TelemetryMetric("m", math.nan, time_unix_nano=NOON, tags={"x": (1.5, math.nan)}),
    TelemetryMetric("h", 6.5, point=HistogramPoint(3, 6.5, [1, 2], [2.0]), **HISTOGRAM),
    TelemetryMetric("h", math.nan, point=HistogramPoint(3, None, (1, 2), (2.0,)), **HISTOGRAM),
    TelemetryMetric(
        "e",
        1.0,
        time_unix_nano=NOON,
        kind=MetricKind.EXPONENTIAL_HISTOGRAM,
        point=ExponentialHistogramPoint(2, 1.0, positive=Buckets(0, [1, 1])),
    ),
    TelemetryMetric(
        "s",
        1.0,
        time_unix_nano=NOON,
        kind=MetricKind.SUMMARY,
        point=SummaryPoint(2, 1.0, [[0.5, 1.0]]),
    ),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.message or str(event.body))
def test_events(storage, event):
    """An event comes back equal without a scope, and with lists or tuples in it."""
    storage.store(TelemetryData([event]))
    assert storage.retrieve().events == [event]


@pytest.mark.parametrize("metric", METRICS)
def test_metrics(storage, metric):
    """A metric point comes back equal, with lists in its buckets and without a value."""
    storage.store(TelemetryData(metrics=[metric]))
    assert storage.retrieve().metrics == [metric]
    if metric.point:
        assert len({metric.point, storage.retrieve().metrics[0].point}) == 1


def test_batches(storage):
    """A batch comes back equal."""
    data = everything()
    storage.store(data)
    back = storage.retrieve()
    assert back.events == data.events
    assert back.metrics == data.metrics
    assert TelemetryData(back.events, back.metrics, [span(), bare_span()]) == data
    assert back == TelemetryData(back.events, back.metrics, [span(), back.spans[1]])


@pytest.mark.parametrize("changed", ["spans", "events", "metrics"])
def test_what_is_retrieved_is_read_only(storage, changed):
    """No list of a batch can be changed."""
    storage.store(everything())
    data = storage.retrieve()
    records = getattr(data, changed)
    for change in (
        lambda: records.append(1),
        records.clear,
        lambda: records.pop(),
        lambda: records.__setitem__(0, 1),
        lambda: records.__delitem__(0),
        lambda: records.__iadd__([1]),
        lambda: records.extend([1]),
        lambda: records.insert(0, 1),
        lambda: records.remove(records[0]),
        lambda: records.sort(key=str),
        records.reverse,
    ):
        with pytest.raises(TypeError, match="are read-only: change a copy"):
            change()
    assert len(data) == len(everything())
    assert [*records[:1], 1] == [records[0], 1]
    copy = list(records)
    copy.clear()


def test_an_empty_storage_is_true(storage):
    """A storage is true, whether or not it holds anything."""
    assert bool(storage) is True


def test_context_manager(storage):
    """A storage is a context manager that closes it; it may be used again."""
    with storage as entered:
        assert entered is storage
        storage.store(TelemetryData(EVENTS[:1]))
    assert storage.retrieve().events == EVENTS[:1]


@pytest.mark.parametrize(
    ("time", "cure"),
    [
        (NOON, "if they are nanoseconds, divide by 1e9"),
        (float(NOON), "if they are nanoseconds, divide by 1e9"),
        (NOON // 10**3, "if they are microseconds, divide by 1e6"),
        (NOON // 10**6, "if they are milliseconds, divide by 1e3"),
        (-NOON, "if they are nanoseconds, divide by 1e9"),
        (10**40, "give a record's `timestamp`"),
    ],
)
def test_implausible_seconds(storage, time, cure):
    """Nanoseconds where seconds are wanted are refused with the cure, which works."""
    storage.store(TelemetryData(EVENTS[:1]))
    for arguments in ({"start_time": time}, {"end_time": time}):
        with pytest.raises(ConfigurationError, match=cure):
            storage.retrieve(**arguments)
    event = EVENTS[0]
    assert storage.retrieve(event.time_unix_nano / 1e9).events == [event]
    assert storage.retrieve(event.timestamp).events == [event]
    assert storage.retrieve(253_402_300_800).events == []
    assert NOON // SECOND < 253_402_300_800
