"""Filters: the records that they match, and the conditions that are refused."""

from __future__ import annotations

from datetime import timedelta

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext

from rimp_otel import ConfigurationError, EventType, TelemetryEvent, TelemetryMetric
from rimp_otel.models.filters import Filter
from rimp_otel.models.records import ResourceInfo, Signal

TRACE = 0x0AF7651916CD43DD8448EB211C80319C


def span(**fields):
    """Return a span of 250 ms."""
    fields = {"start_time": 1_000_000_000, "end_time": 1_250_000_000, **fields}
    return ReadableSpan("GET /", SpanContext(TRACE, 1, False), **fields)


def event(**fields):
    """Return a warning with a name, of the trace."""
    fields = {"event_type": EventType.WARNING, "trace_id": TRACE, "event_name": "login", **fields}
    return TelemetryEvent("auth", "hello", **fields)


def metric(**fields):
    """Return a metric point."""
    return TelemetryMetric("load", 1, **fields)


def matching(**conditions):
    """Return which of the three match."""
    made = Filter.of(**conditions)
    records = {"span": span(), "event": event(), "metric": metric()}
    return [name for name, record in records.items() if made.matches(record)]


def test_no_conditions_match_everything():
    """A filter without conditions is false and matches everything."""
    nothing = dict.fromkeys(
        ["signals", "service", "name", "trace_id", "min_duration", "severity", "attributes"]
    )
    assert not Filter.of()
    assert not Filter.of(**nothing)
    assert not Filter.of(attributes={}, signals=["metrics", "logs", "traces"])
    assert matching() == ["span", "event", "metric"]


@pytest.mark.parametrize(
    ("conditions", "found", "signals"),
    [
        ({"signals": ["traces"]}, ["span"], {Signal.TRACES}),
        ({"signals": "logs"}, ["event"], {Signal.LOGS}),
        ({"signals": Signal.METRICS}, ["metric"], {Signal.METRICS}),
        ({"signals": {Signal.LOGS, "traces"}}, ["span", "event"], {Signal.TRACES, Signal.LOGS}),
        ({"signals": []}, [], set()),
        ({"name": "GET /"}, ["span"], set(Signal)),
        ({"name": "login"}, ["event"], set(Signal)),
        ({"name": "load"}, ["metric"], set(Signal)),
        ({"name": "hello"}, [], set(Signal)),
        ({"trace_id": TRACE}, ["span", "event"], {Signal.TRACES, Signal.LOGS}),
        ({"trace_id": f"{TRACE:032X}"}, ["span", "event"], {Signal.TRACES, Signal.LOGS}),
        ({"trace_id": 1}, [], {Signal.TRACES, Signal.LOGS}),
        ({"min_duration": 0.25}, ["span"], {Signal.TRACES}),
        ({"min_duration": timedelta(milliseconds=250)}, ["span"], {Signal.TRACES}),
        ({"min_duration": 0.2500001}, [], {Signal.TRACES}),
        ({"severity": EventType.WARNING}, ["event"], {Signal.LOGS}),
        ({"severity": 14}, [], {Signal.LOGS}),
        ({"severity": "warn"}, ["event"], {Signal.LOGS}),
        ({"severity": 30}, ["event"], {Signal.LOGS}),
        ({"severity": 5, "min_duration": 0}, [], set()),
        ({"signals": ["metrics"], "trace_id": TRACE}, [], set()),
        ({"name": "GET /", "trace_id": TRACE, "min_duration": 0.1}, ["span"], {Signal.TRACES}),
        ({"name": "GET /", "trace_id": TRACE, "min_duration": 1}, [], {Signal.TRACES}),
    ],
)
def test_conditions(conditions, found, signals):
    """All conditions must hold, and the filter knows the signals that can match."""
    assert matching(**conditions) == found
    assert Filter.of(**conditions).signals == signals
    assert Filter.of(**conditions)


def test_what_a_record_lacks_does_not_match():
    """A record without the field of a condition does not match."""
    assert not Filter.of(service="shop").matches(event())
    assert not Filter.of(service="shop").matches(metric(resource=ResourceInfo()))
    assert not Filter.of(min_duration=0).matches(span(end_time=None))
    assert not Filter.of(min_duration=0).matches(span(start_time=0))
    assert not Filter.of(min_duration=0).matches(span(end_time=1))
    assert not Filter.of(severity=1).matches(event(severity_number=0))
    assert not Filter.of(trace_id=TRACE).matches(event(trace_id=0))
    assert not Filter.of(trace_id=TRACE).matches(ReadableSpan("GET /"))


def test_service():
    """The service of any record can be a condition."""
    resource = ResourceInfo({"service.name": "shop"})
    made = Filter.of(service="shop")
    assert made.matches(span(resource=Resource(resource.attributes)))
    assert made.matches(event(resource=resource))
    assert made.matches(metric(resource=resource))
    assert not Filter.of(service="sho").matches(event(resource=resource))


@pytest.mark.parametrize(
    ("recorded", "wanted", "is_same"),
    [
        ("a", "a", True),
        ("a", "b", False),
        ("1", 1, False),
        (1, 1.0, True),
        (1, True, False),
        (True, True, True),
        (0, False, False),
        (None, None, True),
        ("", None, False),
        (b"x", b"x", True),
        ((1, 2), [1, 2], True),
        ([1, 2], (1, 2), True),
        ([1], [True], False),
        ([1, 2], [1], False),
        ("ab", ["a", "b"], False),
        ({"x": [1]}, {"x": (1,)}, True),
        ({"x": 1}, {"x": 1, "y": 2}, False),
        (float("nan"), float("nan"), False),
    ],
)
def test_attribute_values(recorded, wanted, is_same):
    """Attribute values are compared as OTLP's values."""
    made = Filter.of(attributes={"k": wanted})
    assert made.matches(event(metadata={"k": recorded, "other": 1})) is is_same
    assert made.matches(metric(tags={"k": recorded})) is is_same


def test_all_attributes_must_be_there():
    """The record itself must have all attributes, not its resource."""
    made = Filter.of(attributes={"a": 1, "b": None})
    assert made.matches(span(attributes={"a": 1, "b": None, "c": 3}))
    assert not made.matches(span(attributes={"a": 1}))
    assert not made.matches(span())
    assert not made.matches(metric(resource=ResourceInfo({"a": 1, "b": None})))


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        (
            {"signals": ["trace"]},
            r"signals must be 'traces', 'logs', 'metrics', a list of these, or None, got \['trace'\]",
        ),
        ({"signals": 5}, "signals must be .*, got 5"),
        ({"signals": [None]}, r"signals must be .*, got \[None\]"),
        ({"service": 1}, "service must be a non-empty string or None, got 1"),
        ({"name": ""}, "name must be a non-empty string or None, got ''"),
        (
            {"trace_id": "abc"},
            "trace_id must be 32 hexadecimal digits, an integer of 1 to 128 bits, or None, got 'abc'",
        ),
        ({"trace_id": "0" * 32}, "trace_id must be .*, got '0{32}'"),
        ({"trace_id": "g" * 32}, "trace_id must be .*, got 'g{32}'"),
        ({"trace_id": 0}, "trace_id must be .*, got 0"),
        ({"trace_id": 2**128}, f"trace_id must be .*, got {2**128}"),
        ({"trace_id": True}, "trace_id must be .*, got True"),
        (
            {"min_duration": -0.1},
            "min_duration must be a number of seconds >= 0, a timedelta, or None, got -0.1",
        ),
        ({"min_duration": "1s"}, "min_duration must be .*, got '1s'"),
        ({"min_duration": float("nan")}, "min_duration must be .*, got nan"),
        ({"min_duration": timedelta(-1)}, "min_duration must be .*, got datetime.timedelta"),
        ({"min_duration": True}, "min_duration must be .*, got True"),
        ({"severity": 0}, "severity must be an EventType, a name .* or None, got 0"),
        ({"severity": "bad"}, "severity must be .*, got 'bad'"),
        (
            {"attributes": [("a", 1)]},
            "attributes must be a mapping with strings as keys, or None, got .*",
        ),
        ({"attributes": {1: 2}}, "attributes must be .*, got {1: 2}"),
        (
            {"attributes": {"a": object}},
            r"attributes\['a'\] must be a value that an attribute can have, got .*",
        ),
        ({"attributes": {"a": [{"b": {1}}]}}, r"attributes\['a'\] must be .*, got .*"),
    ],
)
def test_what_is_refused(conditions, message):
    """The message of a refused condition has its name, the allowed values and the value."""
    with pytest.raises(ConfigurationError, match=message):
        Filter.of(**conditions)


def test_representation():
    """The representation of a filter has its conditions only, in one order."""
    assert repr(Filter.of()) == "Filter()"
    assert repr(Filter.of(signals=["traces", "logs"], name="x")) == (
        "Filter(signals=['logs', 'traces'], name='x')"
    )


@pytest.mark.parametrize(
    ("conditions", "has_conditions"),
    [
        ({}, False),
        ({"signals": "logs"}, False),
        ({"service": "a"}, True),
        ({"name": "a"}, True),
        ({"trace_id": 1}, True),
        ({"min_duration": 0}, True),
        ({"severity": "info"}, True),
        ({"attributes": {"a": 1}}, True),
    ],
)
def test_conditions_besides_the_signals(conditions, has_conditions):
    """Each field is one but the signals."""
    assert Filter.of(**conditions).has_conditions is has_conditions
