"""The contract of TelemetryStorage, checked on every storage."""

from __future__ import annotations

import inspect
import time
from datetime import datetime, timedelta, timezone

import pytest

from rimp_otel import (
    ConfigurationError,
    EventType,
    TelemetryCollector,
    TelemetryData,
    TelemetryEvent,
    TelemetryMetric,
    TelemetryStream,
)
from rimp_otel.models.records import Signal
from tests.contract.samples import (
    NOON,
    SECOND,
    bare_span,
    events,
    everything,
    metrics,
    span,
    span_fields,
)


@pytest.fixture
def utc(monkeypatch):
    """Set the local time zone to UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def second(i):
    """Return an event of the i-th second after noon."""
    return TelemetryEvent("a", str(i), time_unix_nano=NOON + i * SECOND)


def messages(data):
    """Return the messages of the events, in order."""
    return [event.message for event in data.events]


def test_empty_storage_gives_nothing(storage):
    """An empty storage returns an empty batch, with and without arguments."""
    assert len(storage.retrieve()) == 0
    assert not storage.retrieve("2026-01-01", "2027-01-01", 5)
    data = storage.retrieve()
    assert (data.events, data.metrics, data.spans) == ([], [], [])


def test_empty_batch_stores_nothing(storage):
    """Storing an empty batch is not an error."""
    storage.store(TelemetryData())
    assert not storage.retrieve()


def test_spans_are_complete(storage):
    """Spans come back with every field, events, links and status."""
    storage.store(TelemetryData(spans=[span(), bare_span()]))
    first, second = storage.retrieve().spans
    assert span_fields(first) == span_fields(span())
    expected = span_fields(bare_span())
    assert {**span_fields(second), "resource": 0, "scope": 0} == {
        **expected,
        "resource": 0,
        "scope": 0,
    }
    assert first.parent.is_remote


def test_events_are_complete(storage):
    """Events come back with every field and bodies of every type."""
    storage.store(TelemetryData(events=events()))
    back = storage.retrieve().events
    assert back[0] == events()[0]
    assert [e.body for e in back] == [e.body for e in events()]
    assert [type(e.body) for e in back] == [type(e.body) for e in events()]
    assert [(e.time_unix_nano, e.observed_time_unix_nano) for e in back] == [
        (e.time_unix_nano, e.observed_time_unix_nano) for e in events()
    ]


def test_metrics_are_complete(storage):
    """Metric points of every kind come back with every field."""
    storage.store(TelemetryData(metrics=metrics()))
    for back, expected in zip(storage.retrieve().metrics, metrics(), strict=True):
        assert back == expected


def test_storing_what_was_retrieved(storage):
    """A retrieved batch can be stored, and comes back equal."""
    storage.store(everything())
    first = storage.retrieve()
    assert len(first) == len(everything())
    storage.store(first)
    both = storage.retrieve()
    assert len(both) == 2 * len(first)
    assert both.events[::2] == both.events[1::2] == first.events
    assert both.metrics[::2] == both.metrics[1::2] == first.metrics
    spans = [span_fields(s) for s in both.spans]
    assert spans[::2] == spans[1::2] == [span_fields(s) for s in first.spans]


def test_stored_records_do_not_change(storage):
    """Stored records do not change with the batches that were stored or retrieved."""
    event = second(1)
    storage.store(TelemetryData(events=[event]))
    event.message = event.body = "changed"
    storage.retrieve().events[0].metadata["x"] = 1
    (back,) = storage.retrieve().events
    assert (back.message, back.metadata) == ("1", {})


def test_range_is_half_open(storage):
    """The start belongs to a range, the end does not, and each may be open."""
    storage.store(TelemetryData(events=[second(i) for i in range(6)]))
    noon = NOON // SECOND
    assert messages(storage.retrieve(noon + 2, noon + 4)) == ["2", "3"]
    assert messages(storage.retrieve(start_time=noon + 4)) == ["4", "5"]
    assert messages(storage.retrieve(end_time=noon + 2)) == ["0", "1"]
    assert messages(storage.retrieve(noon + 2, noon + 2)) == []
    assert messages(storage.retrieve(noon + 4, noon + 2)) == []


@pytest.mark.parametrize(
    "noon",
    [
        datetime(2026, 11, 24, 12, tzinfo=timezone.utc),
        datetime(2026, 11, 24, 17, 30, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        datetime(2026, 11, 24, 12),
        "2026-11-24T12:00:00Z",
        "2026-11-24T14:00:00+02:00",
        "2026-11-24T12:00:00",
        "2026-11-24 12:00:00.000",
        NOON // SECOND,
        NOON / SECOND,
    ],
)
def test_every_form_of_time(storage, noon, utc):
    """Start and end take every form of time."""
    storage.store(TelemetryData(events=[second(-1), second(0), second(1)]))
    assert messages(storage.retrieve(start_time=noon)) == ["0", "1"]
    assert messages(storage.retrieve(end_time=noon)) == ["-1"]


def test_times_that_dateutil_reads(storage, utc):
    """With dateutil, start and end take more strings."""
    pytest.importorskip("dateutil")
    storage.store(TelemetryData(events=[second(-1), second(0)]))
    assert messages(storage.retrieve("Nov 24 2026 12:00 UTC")) == ["0"]
    assert messages(storage.retrieve(end_time="24/11/2026 12:00")) == ["-1"]


def test_ends_of_the_calendar(storage):
    """The first and last datetime stand for open ends."""
    storage.store(TelemetryData(events=[second(0)]))
    assert messages(storage.retrieve(datetime.min, datetime.max)) == ["0"]


def test_oldest_first_whatever_the_order_of_arrival(storage):
    """Records come oldest first, within and across batches."""
    storage.store(TelemetryData(events=[second(3), second(1)]))
    storage.store(TelemetryData(events=[second(2), second(0)]))
    assert messages(storage.retrieve()) == ["0", "1", "2", "3"]


def test_records_of_one_time_keep_their_order(storage):
    """Records of one time come in the order in which they were stored."""
    same = [TelemetryEvent("a", str(i), time_unix_nano=NOON) for i in range(20)]
    storage.store(TelemetryData(events=same[:7]))
    storage.store(TelemetryData(events=same[7:]))
    assert messages(storage.retrieve()) == [str(i) for i in range(20)]
    assert messages(storage.retrieve(limit=5)) == ["15", "16", "17", "18", "19"]


def test_limit_keeps_the_newest_oldest_first(storage):
    """A limit keeps the newest of a range, of all signals together, oldest first."""
    storage.store(TelemetryData(events=[second(i) for i in (4, 0, 2)]))
    storage.store(TelemetryData(metrics=[point(i) for i in (5, 1, 3)]))
    data = storage.retrieve(limit=3)
    assert messages(data) == ["4"]
    assert [metric.value for metric in data.metrics] == [3, 5]
    noon = NOON // SECOND
    data = storage.retrieve(noon, noon + 4, 3)
    assert messages(data) == ["2"]
    assert [metric.value for metric in data.metrics] == [1, 3]


def point(i):
    """Return a metric point of the i-th second after noon."""
    return TelemetryMetric("m", i, time_unix_nano=NOON + i * SECOND)


def test_limits_at_the_edges(storage):
    """A limit may be 0, the number of records, or more."""
    storage.store(everything())
    count = len(everything())
    assert len(storage.retrieve(limit=0)) == 0
    assert len(storage.retrieve(limit=1)) == 1
    assert len(storage.retrieve(limit=count)) == count
    assert len(storage.retrieve(limit=10**9)) == count


def test_span_belongs_to_its_start(storage):
    """A span is selected by its start, not its end."""
    storage.store(TelemetryData(spans=[span()]))
    noon = NOON // SECOND
    assert len(storage.retrieve(noon, noon + 1).spans) == 1
    assert len(storage.retrieve(noon + 1).spans) == 0


def test_event_without_a_time_belongs_to_when_it_was_observed(storage):
    """An event without a time is selected by its observed time, as OTLP recommends."""
    storage.store(TelemetryData(events=[events()[-1]]))
    noon = NOON // SECOND
    assert len(storage.retrieve(noon + 11, noon + 12).events) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start_time": "soon"}, "'soon' is not a point in time"),
        ({"end_time": []}, r"\[\] is not a point in time"),
        ({"start_time": True}, "True is not a point in time"),
        ({"end_time": float("nan")}, "nan is not a point in time"),
        ({"limit": -1}, "limit must be an integer >= 0 or None, got -1"),
        ({"limit": 1.0}, "limit must be an integer >= 0 or None, got 1.0"),
        ({"limit": True}, "limit must be an integer >= 0 or None, got True"),
        ({"limit": "5"}, "limit must be an integer >= 0 or None, got '5'"),
    ],
)
def test_wrong_arguments_are_named(storage, arguments, message):
    """A wrong argument is named with the allowed values, also by an empty storage."""
    with pytest.raises(ConfigurationError, match=message):
        storage.retrieve(**arguments)


def test_many_records(storage):
    """More records than one line or a limit's window holds come back."""
    for first in range(0, 30_000, 1_000):
        storage.store(TelemetryData(events=[second(i) for i in range(first, first + 1_000)]))
    assert messages(storage.retrieve(limit=3)) == ["29997", "29998", "29999"]
    assert len(storage.retrieve()) == 30_000


@pytest.fixture
def filtering(storage):
    """Return a storage that takes conditions, with all samples."""
    if "conditions" not in inspect.signature(storage.retrieve).parameters:
        pytest.skip("takes no conditions")
    storage.store(everything())
    return storage


def found(data):
    """Return the names of the records, and the number of an event without a name."""
    nameless = sum(not event.event_name for event in data.events)
    return (
        [span.name for span in data.spans]
        + [event.event_name for event in data.events if event.event_name]
        + [metric.name for metric in data.metrics]
        + ([nameless] if nameless else [])
    )


METRICS = ["gauge", "gauge", "novalue", "sum", "histogram", "exponential", "summary"]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({"signals": ["traces"]}, ["checkout", "bare"]),
        ({"signals": ["metrics"]}, METRICS),
        ({"signals": ["logs", "traces"]}, ["checkout", "bare", "login.failed", 9]),
        ({"signals": []}, []),
        ({"service": "shop"}, ["checkout", "login.failed", *METRICS, 8]),
        ({"service": "shop", "signals": ["logs"]}, ["login.failed", 8]),
        ({"service": "other"}, []),
        ({"name": "checkout"}, ["checkout"]),
        ({"name": "login.failed"}, ["login.failed"]),
        ({"name": "gauge"}, ["gauge", "gauge"]),
        ({"trace_id": 2**127 + 1}, ["checkout"]),
        ({"trace_id": f"{2**127:032x}"}, ["login.failed"]),
        ({"trace_id": 2**127 + 1, "signals": ["logs"]}, []),
        ({"min_duration": 250e-9}, ["checkout"]),
        ({"min_duration": 251e-9}, []),
        ({"severity": EventType.WARNING}, ["login.failed"]),
        ({"severity": 15}, []),
        ({"severity": 9}, ["login.failed", 9]),
        ({"attributes": {"k": "v"}}, ["gauge"]),
        ({"attributes": {"sizes": [1, 2], "ok": True}}, ["checkout"]),
        ({"attributes": {"map": {"x": {"y": []}}}}, ["login.failed", "gauge"]),
        ({"attributes": {"none": None, "bytes": b"\x00\xff"}}, ["login.failed", "gauge"]),
        ({"attributes": {"flag": 1}}, []),
        ({"attributes": {"service.name": "shop"}}, []),
    ],
)
def test_conditions(filtering, conditions, expected):
    """The records come back that meet all conditions."""
    assert found(filtering.retrieve(**conditions)) == expected


def test_conditions_with_a_range_and_a_limit(filtering):
    """Of the records that meet the conditions, a limit keeps the newest."""
    noon = NOON // SECOND
    gauges = filtering.retrieve(limit=1, name="gauge")
    assert [metric.value for metric in gauges.metrics] == [0.5]
    assert found(filtering.retrieve(noon + 13, name="gauge")) == ["gauge"]
    assert found(filtering.retrieve(noon + 1, service="shop", signals=["traces"])) == []
    assert found(filtering.retrieve(limit=2, service="shop")) == ["exponential", "summary"]
    assert found(filtering.retrieve(limit=0, service="shop")) == []


def test_wrong_conditions_are_named(filtering):
    """A wrong condition is named with the allowed values."""
    with pytest.raises(ConfigurationError, match=r"severity must be an EventType, .*got -1"):
        filtering.retrieve(severity=-1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'color'"):
        filtering.retrieve(color="red")


def test_used_again_after_close(storage):
    """A closed storage opens again when it is used."""
    storage.store(TelemetryData(events=[second(0)]))
    storage.close()
    storage.close()
    assert messages(storage.retrieve()) == ["0"]
    storage.store(TelemetryData(events=[second(1)]))
    assert messages(storage.retrieve()) == ["0", "1"]


def test_behind_a_stream(storage):
    """Native records go through a stream into the storage and come back."""
    collector = TelemetryCollector()
    with TelemetryStream(collector, storage):
        for i in range(10):
            collector.collect_event("auth", f"event {i}", metadata={"i": i})
            collector.collect_metric("load", i / 2, "%", {"core": i})
    data = storage.retrieve()
    assert messages(data) == [f"event {i}" for i in range(10)]
    assert [event.metadata for event in data.events[:3]] == [{"i": 0}, {"i": 1}, {"i": 2}]
    assert [(m.value, m.unit, m.tags["core"]) for m in data.metrics] == [
        (i / 2, "%", i) for i in range(10)
    ]
    assert data.count_of(Signal.LOGS) == data.count_of(Signal.METRICS) == 10
