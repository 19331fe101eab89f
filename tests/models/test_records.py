"""Events, metric points, and pydantic's use of them."""

from __future__ import annotations

import math
from datetime import datetime, timezone

import pytest
from opentelemetry._logs import SeverityNumber

from rimp_otel import ConfigurationError, EventType, TelemetryData, TelemetryEvent, TelemetryMetric
from rimp_otel.models.records import (
    Buckets,
    Exemplar,
    ExponentialHistogramPoint,
    HistogramPoint,
    MetricKind,
    ResourceInfo,
    ScopeInfo,
    SummaryPoint,
    Temporality,
    parse_severity_number,
)
from tests.contract.samples import span
from tests.processes import run

NOON = 1_795_521_600_000_000_000


def test_event_types_and_severity_numbers():
    """Each event type is the lowest number of its OTLP range, and holds the whole range."""
    assert [kind.severity_number for kind in EventType] == [5, 9, 13, 17]
    numbers = {number: EventType.from_severity_number(number).name for number in range(25)}
    assert [n for n in numbers if numbers[n] == "DEBUG"] == list(range(1, 9))
    assert [n for n in numbers if numbers[n] == "INFO"] == [0, 9, 10, 11, 12]
    assert [n for n in numbers if numbers[n] == "WARNING"] == [13, 14, 15, 16]
    assert [n for n in numbers if numbers[n] == "ERROR"] == list(range(17, 25))


def test_event_defaults():
    """Body and severity number follow from message and type."""
    event = TelemetryEvent("auth", "login", EventType.WARNING, time_unix_nano=NOON)
    assert (event.body, event.severity_number, event.metadata) == ("login", 13, {})
    assert event.timestamp == datetime(2026, 11, 24, 12, tzinfo=timezone.utc)
    assert event.timestamp.isoformat() == "2026-11-24T12:00:00+00:00"


def test_event_body_may_be_none():
    """None is a body, not a missing one."""
    assert TelemetryEvent("a", "", body=None).body is None


def test_event_time_falls_back_to_the_observed_one():
    """An event without a time has the observed one, as OTLP recommends."""
    event = TelemetryEvent("a", "b", time_unix_nano=0, observed_time_unix_nano=NOON)
    assert event.timestamp.year == 2026


def test_events_share_no_metadata():
    """Each event has a dict of its own."""
    first, second = TelemetryEvent("a", "b"), TelemetryEvent("a", "b")
    first.metadata["x"] = 1
    assert second.metadata == {}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: TelemetryEvent("a", "b", "no such"),
            "event_type must be an EventType, a name such as 'warn' or 'critical', a number from 1 to "
            "24, or a level of logging, got 'no such'",
        ),
        (
            lambda: TelemetryEvent("a", "b", metadata=[1]),
            "metadata must be a mapping, got [1]",
        ),
        (
            lambda: TelemetryMetric("a", "1"),
            "value must be an int or a float, got '1'",
        ),
        (lambda: TelemetryMetric("a", 1, tags=None), "tags must be a mapping, got None"),
        (
            lambda: TelemetryMetric("a", 1, kind=MetricKind.HISTOGRAM),
            "point must be HistogramPoint if kind is MetricKind.HISTOGRAM, got None",
        ),
        (
            lambda: TelemetryMetric("a", 1, point=SummaryPoint(1)),
            "point must be None if kind is MetricKind.GAUGE, got SummaryPoint(count=1, sum=0.0, quantiles=())",
        ),
    ],
)
def test_wrong_argument_is_named(make, message):
    """The message of a wrong argument has its name, the allowed values and the value."""
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert str(caught.value) == message


def test_metric_defaults():
    """A metric point is a gauge of now without a unit by default."""
    metric = TelemetryMetric("load", 0.5)
    assert (metric.unit or "", metric.tags, metric.kind) == ("", {}, MetricKind.GAUGE)
    assert abs((datetime.now(timezone.utc) - metric.timestamp).total_seconds()) < 60
    assert metric.has_value


def test_metric_without_a_value():
    """A metric point without a value says so by its flag or by NaN."""
    assert not TelemetryMetric("load", 0, flags=1).has_value
    assert not TelemetryMetric("load", math.nan).has_value


EVENT = TelemetryEvent(
    "auth",
    "login",
    EventType.ERROR,
    {"user": "ann", "tries": 3, "nested": {"a": [1, 2.5, None, True]}},
    NOON,
    NOON + 1,
    trace_id=2**127,
    span_id=2**63,
    trace_flags=1,
    severity_text="ERR",
    event_name="login.failed",
    body={"k": [1]},
    dropped_attributes_count=2,
    scope=ScopeInfo("auth", "1.0", {"a": 1}, "https://s"),
    resource=ResourceInfo({"service.name": "shop"}, "https://r"),
)
METRICS = [
    TelemetryMetric("gauge", 1.5, "ms", {"a": 1}, NOON, description="d", metric_metadata={"m": 1}),
    TelemetryMetric(
        "sum",
        7,
        time_unix_nano=NOON,
        start_time_unix_nano=NOON - 1,
        kind=MetricKind.SUM,
        temporality=Temporality.DELTA,
        is_monotonic=True,
        exemplars=[Exemplar(3, NOON, 1, 2, {"a": "b"}), Exemplar(2.5)],
    ),
    TelemetryMetric(
        "histogram",
        5.0,
        kind=MetricKind.HISTOGRAM,
        temporality=Temporality.CUMULATIVE,
        point=HistogramPoint(2, 5.0, (1, 1), (2.5,), 1.0, 4.0),
    ),
    TelemetryMetric(
        "exponential",
        5.0,
        kind=MetricKind.EXPONENTIAL_HISTOGRAM,
        point=ExponentialHistogramPoint(3, 5.0, 2, 1, 0.5, Buckets(1, (1,)), Buckets(-1, (1,))),
    ),
    TelemetryMetric(
        "summary",
        5.0,
        kind=MetricKind.SUMMARY,
        point=SummaryPoint(2, 5.0, ((0.5, 2.0), (0.9, 3.0))),
    ),
]


def adapter(kind):
    """Return pydantic's view of a model."""
    pydantic = pytest.importorskip("pydantic")
    return pydantic.TypeAdapter(kind)


def test_pydantic_event_round_trip():
    """An event goes through pydantic's objects and JSON unchanged."""
    events = adapter(TelemetryEvent)
    assert events.validate_python(events.dump_python(EVENT)) == EVENT
    assert events.validate_json(events.dump_json(EVENT)) == EVENT
    assert b'"event_type":"error"' in events.dump_json(EVENT)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_pydantic_metric_round_trip(metric):
    """A metric point of every kind goes through pydantic's objects and JSON unchanged."""
    metrics = adapter(TelemetryMetric)
    assert metrics.validate_python(metrics.dump_python(metric)) == metric
    assert metrics.validate_json(metrics.dump_json(metric)) == metric


def test_pydantic_keeps_ints_ints():
    """The values 1 and 1.0 keep their types."""
    metrics = adapter(TelemetryMetric)
    for value in (1, 1.0):
        back = metrics.validate_json(metrics.dump_json(TelemetryMetric("a", value)))
        assert type(back.value) is type(value)


def test_pydantic_writes_what_json_has_no_number_for():
    """NaN and the infinities go through JSON as strings, bytes as base64."""
    metrics, events = adapter(TelemetryMetric), adapter(TelemetryEvent)
    for value in (math.inf, -math.inf, 2**70):
        back = metrics.validate_json(metrics.dump_json(TelemetryMetric("a", value)))
        assert back.value == value
    without_sum = TelemetryMetric("a", math.nan, kind=MetricKind.HISTOGRAM, point=HistogramPoint(1))
    back = metrics.validate_json(metrics.dump_json(without_sum))
    assert math.isnan(back.value)
    assert back.point == HistogramPoint(1)
    assert b'"/w=="' in events.dump_json(TelemetryEvent("a", "b", metadata={"x": b"\xff"}))


def test_pydantic_fills_in_defaults():
    """The required fields of an event and a metric point are enough."""
    event = adapter(TelemetryEvent).validate_python({"source": "a", "message": "b"})
    assert (event.event_type, event.body, event.severity_number) == (EventType.INFO, "b", 9)
    metric = adapter(TelemetryMetric).validate_python({"name": "a", "value": "2.5"})
    assert metric.value == 2.5


@pytest.mark.parametrize(
    "wrong",
    [
        {"source": "a"},
        {"source": 1, "message": "b"},
        {"source": "a", "message": "b", "event_type": "fatal"},
        {"source": "a", "message": "b", "metadata": 3},
    ],
)
def test_pydantic_refuses_what_is_wrong(wrong):
    """A wrong value raises pydantic's own error."""
    pydantic = pytest.importorskip("pydantic")
    with pytest.raises(pydantic.ValidationError):
        adapter(TelemetryEvent).validate_python(wrong)


def test_pydantic_batch_round_trip():
    """A batch goes through pydantic's objects and JSON unchanged, spans as OTLP JSON."""
    batches = adapter(TelemetryData)
    data = TelemetryData([EVENT], METRICS[:2], [span(), span()])
    assert batches.validate_python(data) is data
    back = batches.validate_json(batches.dump_json(data))
    assert back == data
    assert batches.validate_python(batches.dump_python(data)) == data
    assert list(batches.dump_python(data, mode="json")) == ["events", "metrics", "spans"]
    assert batches.validate_json("{}") == TelemetryData()
    assert {"events", "metrics", "spans"} == {*batches.json_schema()["properties"]}


@pytest.mark.parametrize(
    "wrong",
    [
        {"events": [{"source": "a"}]},
        {"spans": [{"resourceSpans": 3}]},
        {"spans": [{}]},
        {"spans": [{"resourceLogs": [{"scopeLogs": [{"logRecords": [{}]}]}]}]},
        3,
    ],
)
def test_pydantic_refuses_a_wrong_batch(wrong):
    """What is no batch raises pydantic's own error."""
    pydantic = pytest.importorskip("pydantic")
    with pytest.raises(pydantic.ValidationError):
        adapter(TelemetryData).validate_python(wrong)


def test_models_work_without_pydantic():
    """The models do not import pydantic."""
    script = """
    import sys
    sys.modules["pydantic"] = None
    from rimp_otel import TelemetryEvent, TelemetryMetric
    print(TelemetryEvent("a", "b").message, TelemetryMetric("c", 1).value)
    """
    assert run(script) == "b 1\n"


def test_event_types_have_an_order():
    """A milder one is less; they compare with nothing else."""
    assert sorted(EventType, reverse=True) == [
        EventType.ERROR,
        EventType.WARNING,
        EventType.INFO,
        EventType.DEBUG,
    ]
    assert EventType.INFO < EventType.WARNING <= EventType.WARNING
    assert EventType.ERROR >= EventType.ERROR > EventType.DEBUG
    with pytest.raises(TypeError):
        EventType.INFO < 5  # noqa: B015 - the comparison raises


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (EventType.WARNING, 13),
        (SeverityNumber.ERROR3, 19),
        ("WARN2", 14),
        (" Critical ", 21),
        ("warning", 13),
        ("verbose", 1),
        (1, 1),
        (24, 24),
        (25, 12),
        (30, 13),
        (35, 16),
        (40, 17),
        (50, 21),
        (10**9, 24),
        ("30", 13),
        *(
            (value, None)
            for value in (0, -5, True, 1.5, None, "", "x", "fatal5", "9" * 5_000, b"info")
        ),
    ],
)
def test_severity_numbers(value, number):
    """Names and numbers of OpenTelemetry and of logging are understood; nothing else is."""
    assert parse_severity_number(value) == number


def test_an_event_by_the_name_of_its_severity():
    """The event has the type, and the number that is finer."""
    event = TelemetryEvent("a", "b", "critical")
    assert (event.event_type, event.severity_number) == (EventType.ERROR, 21)
    assert TelemetryEvent("a", "b", 30, severity_number=14).severity_number == 14
