"""Values that OTLP cannot hold cost at most themselves.

Each test puts a poisoned record between two healthy ones: those must come out as they do alone,
and every line must be read by protobuf's JSON parser and survive protobuf's binary form.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping
from enum import Enum
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry._logs import LogRecord
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Buckets,
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
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceState

from rimp_otel.batch import TelemetryData, skipped_count
from rimp_otel.collector.buffer import EVENT, METRIC, batch_of_raw_records
from rimp_otel.models.records import ResourceInfo, Signal, TelemetryEvent, TelemetryMetric
from rimp_otel.otlp.decode import decode_line
from tests.otlp import strategies
from tests.otlp.official import MESSAGES, binary, data_of, parsed

RESOURCE, SCOPE = Resource({"service.name": "s"}), InstrumentationScope("lib")
LONE = "a\ud800b"
REPAIRED = "a\ufffdb"


class Broken:
    """An object that raises whatever is asked of it."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __repr__(self) -> str:
        raise RuntimeError("no text")

    def __len__(self) -> int:
        raise RuntimeError("no length")

    def __iter__(self) -> Iterator[Any]:
        raise RuntimeError("no items")

    def __bool__(self) -> bool:
        raise RuntimeError("no truth")


class BrokenMapping(Mapping[str, Any]):
    """A mapping that cannot be read."""

    def __getitem__(self, key: str) -> Any:
        raise RuntimeError("no items")

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("no items")

    def __len__(self) -> int:
        raise RuntimeError("no length")


def cyclic() -> Any:
    """Return a list and a map, each within the other."""
    outer: dict[str, Any] = {"x": 1}
    outer["inner"] = [outer]
    return outer


def deep(of: Any) -> Any:
    """Return a thousand containers, each within the other."""
    value: Any = "bottom"
    for _ in range(1_000):
        value = [value] if of is list else {"k": value}
    return value


def shared(of: Any) -> Any:
    """Return ten to the 40th values, in 40 containers."""
    value: Any = "lol"
    for _ in range(40):
        value = [value] * 10 if of is list else dict.fromkeys("abcdefghij", value)
    return value


POISON = {
    "a lone surrogate": lambda: LONE,
    "a key with one": lambda: {LONE: LONE},
    "65 bits": lambda: 2**64,
    "too many digits": lambda: -(10**5_000),
    "an object": object,
    "a class": lambda: SimpleNamespace,
    "broken": Broken,
    "broken, within": lambda: [1, {"k": Broken()}],
    "a broken mapping": BrokenMapping,
    "an exception": lambda: ValueError(LONE),
    "a generator": lambda: (n for n in range(3)),
    "a cycle": cyclic,
    "deep lists": lambda: deep(list),
    "deep maps": lambda: deep(dict),
    "a set": lambda: {1, "a", None},
    "keys of all types": lambda: {None: 1, (1, 2): 2, Broken: 3, b"b": 4},
}

LARGE = {
    "shared lists": lambda: shared(list),
    "shared maps": lambda: shared(dict),
    "ten megabytes": lambda: "x\n" * 5_000_000,
    "ten megabytes of bytes": lambda: bytes(10_000_000),
}


@pytest.fixture(params=POISON, ids=str)
def poison(request: Any) -> Any:
    """Return each poisoned value by its name."""
    return POISON[request.param]()


def span_of(name: Any, **fields: Any) -> ReadableSpan:
    """Return a span of the resource and the scope of these tests."""
    return ReadableSpan(
        **{
            "name": name,
            "context": SpanContext(1, 2, False),
            "resource": RESOURCE,
            "instrumentation_scope": SCOPE,
            "start_time": 1,
            "end_time": 2,
            **fields,
        }
    )


def log_of(body: Any, **fields: Any) -> ReadableLogRecord:
    """Return a log record as the SDK makes it, with the values that the SDK cleans put back."""
    log = LogRecord(body=body, timestamp=1, observed_timestamp=1)
    for name, value in fields.items():
        setattr(log, name, value)
    return ReadableLogRecord(log, RESOURCE, SCOPE)


def point_of(value: Any, **fields: Any) -> NumberDataPoint:
    """Return a point of a gauge."""
    return NumberDataPoint(
        **{
            "attributes": {},
            "start_time_unix_nano": 1,
            "time_unix_nano": 2,
            "value": value,
            **fields,
        }
    )


def data_with(*metrics: Metric, scope: Any = SCOPE) -> MetricsData:
    """Return metrics of the resource and the scope of these tests."""
    return MetricsData([ResourceMetrics(RESOURCE, [ScopeMetrics(scope, metrics, "")], "")])


def records_in(signal: Signal, data: TelemetryData) -> list[Any]:
    """Check all lines, and return the messages of their records."""
    found: list[Any] = []
    for line in data.otlp_json(signal):
        assert min(line) >= 0x20
        message = parsed(signal, line)
        assert decode_line(line).signal is signal
        assert MESSAGES[signal].FromString(binary(message)) == message
        found += _records_of(message)
    return found


def _records_of(message: Any) -> list[Any]:
    (_, groups), *_ = message.ListFields()
    scopes = [scope for group in groups for field, scope in _repeated(group)]
    return [record for scope in scopes for field, record in _repeated(scope)]


def _repeated(message: Any) -> Iterator[tuple[str, Any]]:
    for field, value in message.ListFields():
        if hasattr(value, "add"):
            yield from ((field.name, item) for item in value)


def cost_of(signal: Signal, poisoned: Any, healthy: Any) -> Any:
    """Return the poisoned record's message or None, and check that the healthy ones are unharmed."""
    records = records_in(signal, data_of(signal, [healthy, poisoned, healthy]))
    (alone,) = records_in(signal, data_of(signal, [healthy]))
    # Of another resource or scope, it stands behind both.
    others = [record for record in records if binary(record) != binary(alone)]
    assert len(records) - len(others) == 2
    return others[0] if others else None


def test_a_poisoned_attribute_of_a_span_costs_itself(poison):
    """A poisoned attribute of a span, event or link costs itself; the others stay."""
    attributes = {"before": 1, "poison": poison, "after": 2}
    span = span_of(
        "poisoned",
        attributes=attributes,
        events=[Event("e", attributes, 1)],
        links=[Link(SpanContext(3, 4, False), attributes)],
    )
    found = cost_of(Signal.TRACES, span, span_of("healthy"))
    for owner in (found, found.events[0], found.links[0]):
        assert [pair.key for pair in owner.attributes] == ["before", "poison", "after"]
        assert owner.attributes[2].value.int_value == 2


def test_a_poisoned_body_costs_itself(poison):
    """A poisoned body, or attribute of a log record, costs itself."""
    log = log_of(poison, attributes={"before": 1, "poison": poison, "after": 2})
    found = cost_of(Signal.LOGS, log, log_of("healthy"))
    assert found.HasField("body")
    assert [pair.key for pair in found.attributes] == ["before", "poison", "after"]


@pytest.mark.parametrize("large", LARGE)
def test_a_large_value_costs_itself(large):
    """Values that multiply are cut; long ones are kept."""
    value = LARGE[large]()
    found = cost_of(Signal.LOGS, log_of(value), log_of("healthy"))
    if isinstance(value, str):
        assert found.body.string_value == value
    elif isinstance(value, bytes):
        assert found.body.bytes_value == value
    else:
        assert b"<too many values>" in binary(found)
        assert len(binary(found)) < 5_000_000
    span = span_of("poisoned", attributes={"poison": value, "after": 2})
    assert [pair.key for pair in cost_of(Signal.TRACES, span, span_of("healthy")).attributes] == [
        "poison",
        "after",
    ]


def test_a_poisoned_attribute_of_a_point_costs_itself(poison):
    """A poisoned attribute of a point or an exemplar costs itself."""
    attributes = {"before": 1, "poison": poison, "after": 2}
    exemplar = Exemplar(attributes, 1, 1)
    points = [point_of(1), point_of(2, attributes=attributes, exemplars=[exemplar]), point_of(3)]
    data = data_with(Metric("m", "", "", Gauge(points)))
    (metric,) = records_in(Signal.METRICS, data_of(Signal.METRICS, data))
    assert [point.as_int for point in metric.gauge.data_points] == [1, 2, 3]
    owner = metric.gauge.data_points[1]
    for pairs in (owner.attributes, owner.exemplars[0].filtered_attributes):
        assert [pair.key for pair in pairs] == ["before", "poison", "after"]


def test_a_poisoned_native_record_costs_itself(poison):
    """Poisoned metadata of an event and tags of a metric cost themselves in the collector's buffer."""
    values = {"poison": poison, "after": 2}
    data = batch_of_raw_records(
        [
            (EVENT, 1, "s", "m", "info", values, None),
            (METRIC, 1, "n", 1, "", values),
            (EVENT, 1, "s", "m", "info", {}, None),
            (METRIC, 1, "n", 2, "", {}),
        ],
        ResourceInfo(),
    )
    logs = records_in(Signal.LOGS, data)
    assert [[pair.key for pair in log.attributes] for log in logs] == [["poison", "after"], []]
    (metric,) = records_in(Signal.METRICS, data)
    assert [len(point.attributes) for point in metric.gauge.data_points] == [2, 0]
    assert skipped_count(data, Signal.LOGS) == skipped_count(data, Signal.METRICS) == 0


def test_a_poisoned_resource_or_scope_costs_the_value(poison):
    """A poisoned value costs itself in resources and scopes that are not the SDK's own."""
    resource = SimpleNamespace(attributes={"poison": poison, "after": 2}, schema_url=LONE)
    scope = SimpleNamespace(name="n", version="1", attributes={"poison": poison}, schema_url=None)
    span = span_of("poisoned", resource=resource, instrumentation_scope=scope)
    assert cost_of(Signal.TRACES, span, span_of("healthy")).name == "poisoned"


@pytest.mark.parametrize("name", [LONE, None, 5, b"bytes", Broken()], ids=type)
def test_a_poisoned_name_costs_itself(name):
    """A poisoned name, unit or status text costs itself."""
    status = Status(StatusCode.ERROR, "x")
    status._description = name if isinstance(name, str) else "x"
    span = span_of(name, events=[Event(name, {}, 1)], status=status)
    found = cost_of(Signal.TRACES, span, span_of("healthy"))
    expected = {LONE: REPAIRED, None: "", 5: "5", b"bytes": "b'bytes'"}
    if isinstance(name, Broken):
        assert found.name == "<a Broken that cannot be read: RuntimeError>"
    else:
        assert found.name == found.events[0].name == expected[name]
    metrics = [Metric(n, "", "", Gauge([point_of(1)])) for n in ("healthy", name)]
    records = records_in(Signal.METRICS, data_of(Signal.METRICS, data_with(*metrics)))
    assert [metric.name for metric in records] == ["healthy", found.name]


@pytest.mark.parametrize("value", ["INFO", 1.5, -3, 10**12, True, None, math.inf])
def test_a_poisoned_enumeration_costs_itself(value):
    """A span's kind or status or a severity of the application's own enumerations costs itself."""
    own = Enum("own", {"VALUE": value}).VALUE
    span = span_of("poisoned", kind=own, status=SimpleNamespace(status_code=own, description="x"))
    assert cost_of(Signal.TRACES, span, span_of("healthy")).status.message == "x"
    log = log_of("poisoned", severity_number=own, attributes=BoundedAttributes(attributes={}))
    assert cost_of(Signal.LOGS, log, log_of("healthy")).body.string_value == "poisoned"


@pytest.mark.parametrize("signal", list(Signal))
def test_a_lone_surrogate_is_repaired_wherever_it_is(signal):
    """A lone surrogate is repaired in every text of a record, and nothing else is lost."""
    resource, scope = Resource({LONE: LONE}, LONE), InstrumentationScope(LONE, LONE, LONE)
    context = SpanContext(1, 2, False)
    records: dict[Signal, Any] = {
        Signal.TRACES: [
            ReadableSpan(
                LONE,
                context,
                None,
                resource,
                {LONE: [LONE, {LONE: LONE}]},
                [Event(LONE, {LONE: LONE}, 1)],
                [Link(context, {LONE: LONE})],
                status=Status(StatusCode.ERROR, LONE),
                instrumentation_scope=scope,
            )
        ],
        Signal.LOGS: [
            ReadableLogRecord(
                LogRecord(
                    body={LONE: LONE},
                    severity_text=LONE,
                    event_name=LONE,
                    attributes={LONE: LONE},
                ),
                resource,
                scope,
            )
        ],
        Signal.METRICS: MetricsData(
            [
                ResourceMetrics(
                    resource,
                    [
                        ScopeMetrics(
                            scope,
                            [
                                Metric(
                                    LONE, LONE, LONE, Gauge([point_of(1, attributes={LONE: LONE})])
                                )
                            ],
                            LONE,
                        )
                    ],
                    LONE,
                )
            ]
        ),
    }
    data = data_of(signal, records[signal])
    (record,) = records_in(signal, data)
    (line,) = data.otlp_json(signal)
    texts = {Signal.TRACES: 17, Signal.LOGS: 12, Signal.METRICS: 11}
    assert line.decode().count(REPAIRED) == texts[signal]
    assert record.ListFields()


@pytest.mark.parametrize("number", [-1, 2**64, 2**200, -(2**200), 1.5, float("nan"), "x", None])
def test_times_counts_and_ids_are_brought_into_their_range(number):
    """Times, counts and ids are clamped to the range that OTLP has."""
    span = span_of(
        "poisoned",
        context=SpanContext(1, 2, False),
        start_time=number,
        end_time=number,
        events=[SimpleNamespace(name="e", timestamp=number, attributes=None)],
    )
    found = cost_of(Signal.TRACES, span, span_of("healthy"))
    bounds = {-1: 0, 2**64: 2**64 - 1, 2**200: 2**64 - 1, 1.5: 1}
    expected = bounds.get(number, 0) if number == number else 0
    assert (found.start_time_unix_nano, found.events[0].time_unix_nano) == (expected, expected)
    log = log_of(
        "poisoned",
        timestamp=number,
        observed_timestamp=number,
        trace_id=number,
        span_id=number,
        trace_flags=number,
    )
    assert cost_of(Signal.LOGS, log, log_of("healthy")).time_unix_nano == expected


@pytest.mark.parametrize("number", [-1, 2**64, 2**2_000, -(2**2_000)])
def test_the_numbers_of_points_are_brought_into_their_range(number):
    """Doubles that are too large become infinite; healthy points stay."""
    common = {
        "attributes": {},
        "start_time_unix_nano": number,
        "time_unix_nano": number,
        "count": number,
        "sum": number,
        "min": number,
        "max": number,
    }
    histogram = HistogramDataPoint(
        bucket_counts=[number], explicit_bounds=[number], exemplars=[], **common
    )
    exponential = ExponentialHistogramDataPoint(
        scale=number,
        zero_count=number,
        positive=Buckets(number, [number]),
        negative=Buckets(0, []),
        flags=number,
        exemplars=[Exemplar({}, number, number, number, number)],
        **common,
    )
    cumulative = AggregationTemporality.CUMULATIVE
    data = data_with(
        Metric("gauge", "", "", Gauge([point_of(1), point_of(number), point_of(3)])),
        Metric("histogram", "", "", Histogram([histogram], cumulative)),
        Metric("exponential", "", "", ExponentialHistogram([exponential], cumulative)),
    )
    batch = data_of(Signal.METRICS, data)
    metrics = records_in(Signal.METRICS, batch)
    assert skipped_count(batch, Signal.METRICS) == 0
    assert [metric.name for metric in metrics] == ["gauge", "histogram", "exponential"]
    gauge = metrics[0].gauge.data_points
    assert (gauge[0].as_int, gauge[2].as_int) == (1, 3)
    is_small = number == -1
    assert gauge[1].as_int == -1 if is_small else gauge[1].as_double in (2.0**64, *INFINITE)


INFINITE = (float("inf"), float("-inf"))


def test_a_value_that_is_no_number_costs_its_point():
    """A value that is not a number costs its point, which is counted."""
    points = [point_of(1), point_of("x"), point_of(None), point_of(Broken()), point_of(5)]
    batch = data_of(Signal.METRICS, data_with(Metric("m", "", "", Gauge(points))))
    (metric,) = records_in(Signal.METRICS, batch)
    assert [point.as_int for point in metric.gauge.data_points] == [1, 5]
    assert skipped_count(batch, Signal.METRICS) == 3


def test_a_kind_of_metric_that_is_not_known_costs_its_points():
    """An unknown kind of metric, as of a later SDK, costs its points."""
    later = SimpleNamespace(data_points=[point_of(1)])
    data = data_with(Metric("later", "", "", later), Metric("m", "", "", Gauge([point_of(2)])))
    batch = data_of(Signal.METRICS, data)
    assert [metric.name for metric in records_in(Signal.METRICS, batch)] == ["m"]
    assert skipped_count(batch, Signal.METRICS) == 1


@pytest.mark.parametrize("scope", [None, InstrumentationScope(None), InstrumentationScope(Broken)])
def test_a_poisoned_scope_costs_no_metrics(scope):
    """A poisoned scope costs none of the metrics of the batch."""
    data = data_with(Metric("m", "", "", Gauge([point_of(1)])), scope=scope)
    assert len(records_in(Signal.METRICS, data_of(Signal.METRICS, data))) == 1


def test_what_is_no_record_costs_itself():
    """An object that is not a record costs itself."""
    odd = [None, object(), 5, span_of("span", context="no context"), span_of("s", status=3)]
    data = TelemetryData(spans=[span_of("first"), *odd, span_of("last")])
    names = [span.name for span in records_in(Signal.TRACES, data)]
    assert names == ["first", "last"]
    assert skipped_count(data, Signal.TRACES) == 5
    events = TelemetryData(events=[TelemetryEvent("s", "m"), None, TelemetryEvent([], "m")])
    assert len(records_in(Signal.LOGS, events)) == 1
    assert skipped_count(events, Signal.LOGS) == 2
    metrics = TelemetryData(metrics=[None, TelemetryMetric("m", 2**2_000)])
    assert len(records_in(Signal.METRICS, metrics)) == 1


def test_a_span_without_a_context_is_written():
    """A span without a context has ids of zero; the official encoder raises."""
    (span,) = records_in(Signal.TRACES, TelemetryData(spans=[span_of("span", context=None)]))
    assert (span.trace_id, span.span_id) == (bytes(16), bytes(8))


def test_a_trace_state_of_any_text_is_written():
    """A trace state from a foreign recording may hold any text."""
    state = TraceState()
    state._dict = {LONE: '"\n\0'}
    span = span_of("poisoned", context=SpanContext(1, 2, False, trace_state=state))
    found = cost_of(Signal.TRACES, span, span_of("healthy"))
    assert found.trace_state == f'{REPAIRED}="\n\0'


def test_attributes_may_change_while_they_are_read():
    """Each record is whole although another thread changes the attributes."""
    attributes: dict[str, Any] = {str(n): n for n in range(100)}
    nested = {"map": attributes, "list": [attributes]}
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            for n in range(100, 200):
                attributes[str(n)] = n
            for n in range(100, 200):
                del attributes[str(n)]

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(200):
            data = TelemetryData(
                events=[TelemetryEvent("s", "m", metadata=attributes, body=nested)]
            )
            (event,) = data_after_lines(data)
            assert {key: event.metadata[key] for key in ("0", "99")} == {"0": 0, "99": 99}
            assert event.body["map"]["99"] == event.body["list"][0]["99"] == 99
    finally:
        stop.set()
        thread.join()


def data_after_lines(data: TelemetryData) -> list[TelemetryEvent]:
    """Return the events that the lines decode to."""
    return TelemetryData.from_otlp_json(data.otlp_json(Signal.LOGS)).events


ANYTHING: Any = st.recursive(
    st.text()
    | st.integers()
    | st.floats()
    | st.binary()
    | st.none()
    | st.booleans()
    | st.builds(object)
    | st.builds(Broken)
    | st.complex_numbers()
    | st.fractions()
    | st.decimals()
    | st.dates()
    | st.uuids(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.integers() | st.none() | st.binary(), inner)
        | st.frozensets(st.integers())
        | st.tuples(inner, inner)
    ),
)


@strategies.generated
@given(st.text(), ANYTHING, st.dictionaries(st.text() | st.integers(), ANYTHING, max_size=3))
def test_no_value_at_all_spoils_a_line(text, value, attributes):
    """Any value makes one line that protobuf reads, without a control character."""
    span = span_of(text, attributes=attributes, events=[Event(text, attributes, 1)])
    assert cost_of(Signal.TRACES, span, span_of("healthy")) is not None
    log = log_of(value, attributes=attributes, severity_text=text, event_name=text)
    assert cost_of(Signal.LOGS, log, log_of("healthy")) is not None
    batch = batch_of_raw_records(
        [(EVENT, 1, text, text, "info", attributes, None), (METRIC, 1, text, 1, text, {})],
        ResourceInfo(),
    )
    assert len(records_in(Signal.LOGS, batch)) == len(records_in(Signal.METRICS, batch)) == 1
