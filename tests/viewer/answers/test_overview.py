"""Answers about a whole recording."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("starlette")

import msgspec
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from rimp_otel import TelemetryCollector, TelemetryConfig, TelemetryData, TelemetryStream
from rimp_otel.errors import ConfigurationError
from rimp_otel.models.records import Signal
from rimp_otel.models.times import Window
from rimp_otel.storage.recording import open_storage
from rimp_otel.viewer.answers.overview import RecordingAnswers, choose_step, trace_condition
from rimp_otel.viewer.parameters import parse_attribute_test
from rimp_otel.viewer.questions import NotFoundError, PreparingError
from tests.viewer.recordings import START, S, log_line, span_json, span_line

FAILED = {
    "status": {"code": 2, "message": "no card 17"},
    "events": [
        {
            "timeUnixNano": str(START),
            "name": "exception",
            "attributes": [{"key": "exception.type", "value": {"stringValue": "CardError"}}],
        }
    ],
}
HOUR = Window(START, START + 3_600 * S)


def answer(ask):
    """Return an answer as JSON has it, once it is there."""
    for _ in range(200):
        try:
            return json.loads(msgspec.json.encode(ask()))
        except PreparingError:
            continue
    raise AssertionError


def shop_lines():
    """Return lines of an hour: web calls pay each minute, from half past on slower, and with failures."""
    for minute in range(60):
        trace, at = 100 + minute, 60.0 * minute
        is_late = minute >= 30
        took = (0.4 if is_late else 0.1) + minute / 10_000
        failure = FAILED if is_late and minute % 2 else {}
        yield span_line(
            "web",
            span_json(
                1, "GET /", trace=trace, start=at, seconds=took + 0.1, attributes={"minute": minute}
            ),
            span_json(2, "POST /pay", trace=trace, parent=1, start=at, seconds=took, kind=3),
            zone="eu",
        )
        yield span_line(
            "pay",
            span_json(3, "POST /pay", trace=trace, parent=2, start=at, seconds=took, **failure),
        )
        yield log_line("pay", 9, 17 if failure else 13, start=at, trace=trace)


@pytest.fixture(scope="module", params=["recording", "recording.db"])
def path(request, tmp_path_factory):
    """Record the shop's hour, in files (some of them sealed) or in a database."""
    path = tmp_path_factory.mktemp("overview") / request.param
    with open_storage(path) as storage:
        for number, line in enumerate(shop_lines()):
            storage.store(TelemetryData.from_otlp_json([line]))
            if request.param == "recording" and number % 40 == 39 and number < 150:
                storage.rotate()
    return path


@pytest.fixture(scope="module")
def answers(path):
    """Return the answers of the shop's recording."""
    return RecordingAnswers(path, clock=lambda: START + 3_600 * S)


def test_info(answers, path):
    """What the recording is, and from when to when it goes."""
    info = answer(answers.info)
    assert info["path"] == str(path)
    assert info["backend"] == ("sqlite" if path.suffix else "files")
    assert (info["first"], info["last"]) == (str(START), str(START + 3_540 * S + 1))
    assert info["now"] == str(START + 3_600 * S)
    assert info["services"] == ["pay", "web"]
    assert info["losses"] == {"dropped": {}, "interrupted": 0, "damaged": 0}


def test_the_services_over_time(answers):
    """Rates and errors are those of requests; percentiles are off by 1.6 % at most."""
    found = answer(lambda: answers.overview(HOUR))
    assert (found["from"], found["to"], found["step"]) == (str(START), str(HOUR.end), 60 * S)
    pay, web = found["services"]
    assert (pay["name"], pay["spans"], pay["requests"], pay["errors"]) == ("pay", 60, 60, 15)
    assert (web["name"], web["spans"], web["requests"], web["errors"]) == ("web", 120, 60, 0)
    assert (pay["rate"], pay["error_rate"]) == (60 / 3_600, 0.25)
    assert pay["series"]["requests"] == [1] * 60
    assert pay["series"]["errors"] == [0, 0] * 15 + [0, 1] * 15
    assert (web["operations"], pay["operations"]) == (2, 1)
    assert pay["p50"] == pytest.approx(0.403 * S, rel=0.016)
    assert pay["p99"] == pytest.approx(0.4059 * S, rel=0.016)
    assert pay["series"]["p99"][0] == pytest.approx(0.1 * S, rel=0.016)
    assert found["logs"] == {"warn": 45, "error": 15, "fatal": 0}
    assert found["changes"] == []


def test_what_has_changed_since_the_window_before(answers):
    """The second half hour is slower, and fails as it did not before."""
    window = Window(START + 1_800 * S, START + 3_600 * S)
    found = answer(lambda: answers.overview(window))
    changes = {
        (one["kind"], one["service"], one["operation"]): one["text"] for one in found["changes"]
    }
    assert changes == {
        ("new_failure", "pay", "POST /pay"): "CardError: 15 times",
        ("error_rate", "pay", "POST /pay"): "0.0% → 50.0% of spans fail",
        ("slower", "pay", "POST /pay"): "median 102 ms → 407 ms",
        ("slower", "web", "POST /pay"): "median 102 ms → 407 ms",
        ("slower", "web", "GET /"): "median 203 ms → 508 ms",
    }


def test_a_narrow_window_is_exact(answers):
    """Where the kept steps are too long, the lines of the window are counted."""
    window = Window(START + 120 * S, START + 120 * S + S // 2)
    (pay, web) = answer(lambda: answers.overview(window))["services"]
    assert (pay["spans"], web["spans"]) == (1, 2)


def test_operations(answers):
    """Those of a service, or of all; the most frequent first."""
    found = answer(lambda: answers.operations(HOUR, "web"))["operations"]
    assert [(one["name"], one["kind"], one["spans"]) for one in found] == [
        ("GET /", "server", 60),
        ("POST /pay", "client", 60),
    ]
    everything = answer(lambda: answers.operations(Window()))["operations"]
    assert sum(one["spans"] for one in everything) == 180
    assert sum(one["errors"] for one in everything) == 15


def test_how_long_traces_take_over_time(answers):
    """Rows are half powers of two; of requests, or of an operation; failures apart."""
    found = answer(lambda: answers.trace_durations(HOUR, "pay"))
    assert (found["from"], found["step"]) == (str(START), 60 * S)
    assert len(found["counts"]) == len(found["errors"]) == 60
    assert [sum(row) for row in found["counts"]] == [1] * 60
    assert [sum(row) for row in found["errors"]] == [0, 0] * 15 + [0, 1] * 15
    bounds = found["bounds"]
    assert len(bounds) == len(found["counts"][0]) + 1
    first = found["counts"][0].index(1)
    assert bounds[first] <= 0.1 * S < bounds[first + 1]
    last = found["errors"][59].index(1)
    assert bounds[last] <= 0.4059 * S < bounds[last + 1]
    for given, total in (
        ({}, 120),
        ({"operation": "POST /pay"}, 120),
        ({"kind": "client"}, 60),
        ({"status": "error"}, 15),
        ({"service": "pay", "status": "unset"}, 45),
        ({"service": "nobody"}, 0),
    ):
        rows = answer(lambda given=given: answers.trace_durations(HOUR, **given))["counts"]
        assert sum(map(sum, rows)) == total


def test_the_map(answers):
    """A call counts where a span's parent is another service's."""
    found = answer(lambda: answers.map(HOUR))
    assert [(one["name"], one["requests"], one["errors"]) for one in found["services"]] == [
        ("pay", 60, 15),
        ("web", 60, 0),
    ]
    (edge,) = found["edges"]
    assert (edge["from"], edge["to"], edge["calls"], edge["errors"]) == ("web", "pay", 60, 15)
    assert edge["p50"] == pytest.approx(0.403 * S, rel=0.016)


def test_attributes_and_their_values(answers):
    """Keys come with their types, values with their frequency."""
    keys = answer(lambda: answers.attributes(Signal.TRACES, HOUR))["keys"]
    assert {"scope": "span", "key": "minute", "type": "int", "count": 60} in keys
    assert {"scope": "resource", "key": "zone", "type": "string", "count": 120} in keys
    values = answer(
        lambda: answers.attribute_values(Signal.TRACES, "resource", "service.name", "", HOUR, 10)
    )
    assert values["values"] == [
        {"type": "string", "value": "web", "count": 120},
        {"type": "string", "value": "pay", "count": 60},
    ]
    some = answer(lambda: answers.attribute_values(Signal.TRACES, "span", "minute", "5", HOUR, 3))
    assert {one["value"] for one in some["values"]} <= {5, *range(50, 60)}
    assert len(some["values"]) == 3


def test_traces(answers):
    """The newest come first, each with its root and its services."""
    condition = trace_condition(service="pay", status="error")
    found = answer(lambda: answers.traces(HOUR, condition, 2))
    assert [trace["trace_id"] for trace in found["traces"]] == [f"{n:032x}" for n in (159, 157)]
    assert found["is_complete"]
    first = found["traces"][0]
    assert (first["root_service"], first["root_name"]) == ("web", "GET /")
    assert (first["start"], first["spans"], first["errors"]) == (str(START + 3_540 * S), 3, 1)
    assert first["services"] == [
        {"name": "web", "spans": 2, "errors": 0},
        {"name": "pay", "spans": 1, "errors": 1},
    ]
    assert first["matched"] == [f"{3:016x}"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"operation": "GET /", "min_duration": int(0.505 * S)}, 10),
        ({"kind": "client", "max_duration": S // 10}, 1),
        ({"tests": [parse_attribute_test("span.minute >= 58")]}, 2),
        ({"tests": [parse_attribute_test("resource.zone = us")]}, 0),
        ({"tests": [parse_attribute_test("event.exception.type =~ Card.*")]}, 15),
    ],
)
def test_traces_by_condition(answers, given, expected):
    """Conditions of all kinds go together."""
    found = answer(lambda: answers.traces(Window(), trace_condition(**given), 100))
    assert len(found["traces"]) == expected


@pytest.mark.parametrize("given", [{"kind": "odd"}, {"status": "bad"}])
def test_an_impossible_condition(given):
    """It is refused."""
    with pytest.raises(ConfigurationError):
        trace_condition(**given)
    with pytest.raises(ConfigurationError):
        trace_condition(tests=[parse_attribute_test("log.x = 1")])


def test_one_trace(answers):
    """All of its spans and log records, as OTLP JSON; an unknown one is not found."""
    found = answer(lambda: answers.trace(101))
    spans = [
        span
        for group in found["traces"]["resourceSpans"]
        for scope in group["scopeSpans"]
        for span in scope["spans"]
    ]
    assert {span["spanId"] for span in spans} == {f"{n:016x}" for n in (1, 2, 3)}
    (group,) = found["logs"]["resourceLogs"]
    assert len(group["scopeLogs"][0]["logRecords"]) == 2
    with pytest.raises(NotFoundError):
        answers.trace(99)


def test_what_is_in_a_journal_counts(tmp_path):
    """A span is there as soon as it has ended, and once, wherever it moves to."""
    config = TelemetryConfig(
        storage_backend="file", storage_path=tmp_path, flush_interval=3_600, buffer_size=10_000
    )
    stream = TelemetryStream(TelemetryCollector(config))
    answers = RecordingAnswers(tmp_path)
    provider = TracerProvider(resource=Resource({"service.name": "live"}), shutdown_on_exit=False)
    provider.add_span_processor(stream.collector)
    stream.start()
    try:
        tracer = provider.get_tracer("test")
        for number in range(1, 4):
            tracer.start_span("work").end()
            (service,) = answer(lambda: answers.overview(Window()))["services"]
            assert (service["name"], service["requests"]) == ("live", number)
            if number == 2:
                stream.flush()
    finally:
        stream.stop()
    (service,) = answer(lambda: answers.overview(Window()))["services"]
    assert service["requests"] == 3


def test_an_empty_recording(tmp_path):
    """There is nothing, and nothing is raised."""
    answers = RecordingAnswers(tmp_path / "none", clock=lambda: START)
    info = answer(answers.info)
    assert (info["first"], info["last"], info["services"]) == (None, None, [])
    assert answer(lambda: answers.overview(Window()))["services"] == []
    assert answer(lambda: answers.operations(Window())) == {"operations": []}
    assert answer(lambda: answers.traces(Window(), None, 5))["traces"] == []


@pytest.mark.parametrize(
    ("length", "step"),
    [
        (1, 10**7),
        (60 * 10**7, 10**7),
        (5 * 60 * S, 5 * S),
        (3_600 * S, 60 * S),
        (86_400 * S, 1_800 * S),
        (30 * 86_400 * S, 43_200 * S),
        (400 * 86_400 * S, 7 * 86_400 * S),
    ],
)
def test_steps_are_round(length, step):
    """There are no more than 60 of them."""
    assert choose_step(length) == step
