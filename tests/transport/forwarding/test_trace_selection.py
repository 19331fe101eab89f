"""Whole traces are kept or left out, by what is on disk."""

from __future__ import annotations

import json

import msgspec
import pytest

from rimp_otel import Signal, TelemetryData
from rimp_otel.processing.trace_rules import TraceRule
from rimp_otel.storage.recording import open_storage
from rimp_otel.transport.forwarding.delivery import Kept, Undecided
from rimp_otel.transport.forwarding.trace_selection import TraceSelection

S = 10**9
NOW = 1_000 * S
A, B = 0xA << 120, 0xB << 120  # their randomness is 0


def span(trace, number, *, parent=0, start=900 * S, end=901 * S, status=0, state=None):
    """Return a span as OTLP JSON has it."""
    found = {
        "traceId": f"{trace:032x}",
        "spanId": f"{number:016x}",
        "name": f"span {number}",
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(end),
        "status": {"code": status},
    }
    if parent:
        found["parentSpanId"] = f"{parent:016x}"
    if state is not None:
        found["traceState"] = state
    return found


def spans(*records, service="shop"):
    """Return a line of spans."""
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    scope = {"scope": {"name": "test"}, "spans": list(records), "schemaUrl": "https://scope"}
    group = {"resource": resource, "scopeSpans": [scope], "schemaUrl": "https://resource"}
    return msgspec.json.encode({"resourceSpans": [group]})


def logs(*traces):
    """Return a line of log records, each of a trace; 0 for none."""
    records = [
        {"timeUnixNano": str(900 * S), "body": {"stringValue": f"{number}"}}
        | ({"traceId": f"{trace:032x}"} if trace else {})
        for number, trace in enumerate(traces)
    ]
    return msgspec.json.encode({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]})


@pytest.fixture(params=["recording", "recording.db"])
def path(request, tmp_path):
    """Return the path of a recording in files, or in a database."""
    return tmp_path / request.param


class Clock:
    """A clock that is set."""

    def __init__(self):
        self.now = NOW

    def __call__(self):
        """Return the time."""
        return self.now


def selection(path, rule, **options):
    """Return a selection over the recording, at NOW unless a clock is given."""
    clock = options.pop("clock", lambda: NOW)
    return TraceSelection(path, TraceRule.parse(rule), clock=clock, **options)


def store(path, *lines, rotate=False):
    """Store each line by itself."""
    with open_storage(path) as storage:
        for line in lines:
            storage.store(TelemetryData.from_otlp_json([line]))
        if rotate:
            storage.rotate()


def ids(kept):
    """Return the ids of the spans that are kept, as numbers."""
    groups = [group for line in kept.lines for group in json.loads(line)["resourceSpans"]]
    return [int(s["spanId"], 16) for g in groups for c in g["scopeSpans"] for s in c["spans"]]


def test_a_trace_is_kept_as_a_whole(path):
    """An error in one line keeps the spans of its trace in all others."""
    first = spans(span(A, 1), span(B, 2), span(A, 3, parent=1))
    second = spans(span(A, 4, parent=1, status=2), span(B, 5, parent=2), service="db")
    third = spans(span(B, 6, parent=2))
    store(path, first, second, third)
    found = selection(path, "status = error")
    kept = found.select(Signal.TRACES, [first, second, third], 6)
    assert ids(kept) == [1, 3, 4]
    assert kept[1:] == (3, {"rule": 3})
    assert len(kept.lines) == 2
    group = json.loads(kept.lines[1])["resourceSpans"][0]
    assert group["schemaUrl"] == "https://resource"
    assert group["resource"] == json.loads(second)["resourceSpans"][0]["resource"]
    assert group["scopeSpans"][0]["schemaUrl"] == "https://scope"
    assert group["scopeSpans"][0]["scope"] == {"name": "test"}
    assert found.select(Signal.TRACES, [third], 1) == Kept([], 0, {"rule": 1})


def test_logs_come_along(path):
    """Those of kept traces are kept, and those of no trace; metrics always are."""
    store(path, spans(span(A, 1, status=2), span(B, 2)))
    found = selection(path, "status = error")
    kept = found.select(Signal.LOGS, [logs(A, B, 0)], 3)
    assert kept[1:] == (2, {"rule": 1})
    records = json.loads(kept.lines[0])["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    assert [record["body"]["stringValue"] for record in records] == ["0", "2"]
    line = logs(A, 0)
    assert found.select(Signal.LOGS, [line], 2) == Kept([line], 2, {})
    assert found.select(Signal.METRICS, [b"{}"], 7) == Kept([b"{}"], 7, {})


def test_logs_decide_too(path):
    """A trace with a severe log record is kept, its spans with it."""
    line = spans(span(A, 1), span(B, 2))
    severe = json.loads(logs(B))
    severe["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]["severityNumber"] = 17
    store(path, line, msgspec.json.encode(severe))
    assert ids(selection(path, "severity >= error").select(Signal.TRACES, [line], 2)) == [2]


@pytest.mark.parametrize(
    ("record", "wait"),
    [
        (span(A, 1, end=NOW - 9 * S, status=2), 1.0),
        (span(A, 1, end=NOW - 10 * S, status=2), None),
        (span(A, 1, parent=9, end=NOW - 59 * S, status=2), 1.0),
        (span(A, 1, parent=9, end=NOW - 60 * S, status=2), None),
        (span(A, 1, end=NOW + 3_600 * S, status=2), 10.0),
    ],
)
def test_a_trace_whose_outcome_is_not_known(path, record, wait):
    """It waits until its root has ended and is old enough, or for long without a root."""
    line = spans(record)
    store(path, line)
    found = selection(path, "status = error").select(Signal.TRACES, [line], 1)
    assert found == (Kept([line], 1, {}) if wait is None else Undecided(wait))
    final = selection(path, "status = error", final=True)
    assert final.select(Signal.TRACES, [line], 1) == Kept([line], 1, {})


def test_a_clock_that_is_ahead(tmp_path):
    """A span that ends in the future is old enough once it was read long enough ago."""
    clock, line = Clock(), spans(span(A, 1, end=NOW + 3_600 * S, status=2))
    store(tmp_path, line)
    found = selection(tmp_path, "status = error", clock=clock)
    assert found.select(Signal.TRACES, [line], 1) == Undecided(10.0)
    clock.now += 10 * S
    assert found.select(Signal.TRACES, [line], 1) == Kept([line], 1, {})


def test_what_comes_later_counts(path):
    """What was stored since is read."""
    clock, first = Clock(), spans(span(A, 1))
    store(path, first)
    found = selection(path, "status = error", clock=clock)
    assert ids(found.select(Signal.TRACES, [first], 1)) == []
    store(path, spans(span(A, 2, parent=1, status=2)))
    clock.now += S
    assert ids(found.select(Signal.TRACES, [first], 1)) == [1]


def test_the_threshold_is_written_where_a_probability_decided(path):
    """And removed where a rule did; all other fields are as they were."""
    high = A | 0xFFFFFFFFFFFFFF
    line = spans(
        span(high, 1, state="a=b,ot=th:8"), span(B, 2, status=2, state="ot=th:0"), span(B + 1, 3)
    )
    store(path, line)
    kept = selection(path, "status = error or sample(25%)").select(Signal.TRACES, [line], 3)
    assert ids(kept) == [1, 2]
    before = json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    after = json.loads(kept.lines[0])["resourceSpans"][0]["scopeSpans"][0]["spans"]
    ruled = {key: value for key, value in before[1].items() if key != "traceState"}
    assert after == [before[0] | {"traceState": "ot=th:c,a=b"}, ruled]


def test_few_traces_in_memory(tmp_path):
    """With room for fewer traces than there are, files are read again, and decide the same."""
    lines = []
    for number in range(1, 9):
        at = {"start": number * 100 * S, "end": (number * 100 + 1) * S}
        traces = [span(number << 64 | n, n, status=2 * (n % 2), **at) for n in range(1, 9)]
        lines.append(spans(*traces))
        store(tmp_path, lines[-1], rotate=True)
    found = selection(tmp_path, "status = error", longest=50, max_traces=10)
    for _ in range(2):
        assert ids(found.select(Signal.TRACES, lines, 64)) == [1, 3, 5, 7] * 8


@pytest.mark.parametrize("line", [b"{broken", b'{"resourceSpans":' + b"[" * 100_000])
def test_a_line_that_cannot_be_read_is_left_as_it_is(path, line):
    """Whoever sends it will see what is wrong with it."""
    store(path, spans(span(A, 1)))
    assert selection(path, "status = error").select(Signal.TRACES, [line], 0) == Kept([line], 0, {})
