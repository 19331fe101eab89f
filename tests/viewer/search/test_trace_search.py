"""The search for traces: as if each span was looked at, wherever it lies."""

from __future__ import annotations

import pytest

pytest.importorskip("starlette")

from rimp_otel import TelemetryData
from rimp_otel.models.accessors import start_of, trace_id_of
from rimp_otel.models.records import Signal
from rimp_otel.models.times import Window
from rimp_otel.storage.base import Selection
from rimp_otel.storage.files.layout import Layout
from rimp_otel.storage.files.lines import list_data_files
from rimp_otel.storage.recording import open_recording, open_storage
from rimp_otel.viewer.questions import PreparingError
from rimp_otel.viewer.rollups.rollup_file import rollup_path
from rimp_otel.viewer.rollups.store import open_rollups
from rimp_otel.viewer.search.conditions import All, Comparison, Either, Scope, make_matcher
from rimp_otel.viewer.search.trace_search import (
    Aggregation,
    SpanField,
    TraceQuery,
    TraceSearch,
)
from tests.viewer.recordings import START, S, span_json, span_line

TEXTS = ("/cart/{id}", 'a "b"', "päß\u2028", "back\\slash", "", "x" * 300)


def attributes_of(number):
    """Return the attributes of the span of a number."""
    return {
        "user": f"u-{number % 97}",
        "number": number,
        "even": number % 2 == 0,
        "share": number / 4,
        "text": TEXTS[number % len(TEXTS)],
        "exact": float(number % 7),
    }


def trace_lines():
    """Return lines of 200 traces in no order of time, each of a request and a query; some are late."""
    for number in range(200):
        at = float(number * 14 % 400)
        failed = {"status": {"code": 2}} if number % 31 == 0 else {}
        event = {
            "timeUnixNano": str(START),
            "name": f"event-{number % 5}",
            "attributes": [{"key": "code", "value": {"intValue": str(number % 11)}}],
        }
        root = span_json(
            2 * number + 1,
            f"GET /{number % 3}",
            trace=number + 1,
            start=at,
            seconds=0.5 + number % 3,
            attributes=attributes_of(number),
            events=[event],
        )
        child = span_json(
            2 * number + 2,
            "query",
            trace=number + 1,
            parent=2 * number + 1,
            start=at + 0.1 + (40 if number % 10 == 0 else 0),
            seconds=0.25,
            kind=3,
            **failed,
        )
        yield span_line("web", root, zone=f"z{number % 2}") + b"\n"
        yield span_line("db", child) + b"\n"


@pytest.fixture(scope="module", params=["files", "summarized", "recording.db"])
def path(request, tmp_path_factory):
    """Record the traces: in files, most of them sealed, with and without summaries; in a database."""
    path = tmp_path_factory.mktemp("search") / request.param
    lines = list(trace_lines())
    with open_storage(path) as storage:
        for first in range(0, len(lines), 20):
            storage.store(TelemetryData.from_otlp_json(lines[first : first + 20]))
            if request.param != "recording.db" and first % 80 == 60:
                storage.rotate()
    if request.param == "summarized":
        store = open_rollups(path)
        for _ in range(400):
            try:
                store.rollups(Signal.TRACES, Window())
                break
            except PreparingError:
                continue
        sealed = list_data_files(Layout(path).sealed)
        assert all(store.terms(content) for content in sealed if not content.name.is_waiting)
    return path


@pytest.fixture(scope="module")
def spans(path):
    """Return all spans."""
    return open_recording(path).retrieve(Selection.of(signals="traces")).spans


def naive_traces(spans, condition, window, limit):
    """Return the ids of the traces with the newest matching spans, by looking at all."""
    is_match = make_matcher(condition) if condition is not None else lambda span: True
    newest: dict[int, int] = {}
    first: dict[int, int] = {}
    for span in spans:
        trace_id, start = trace_id_of(span), start_of(span)
        first[trace_id] = min(first.get(trace_id, start), start)
        if window.contains(start) and is_match(span):
            newest[trace_id] = max(newest.get(trace_id, 0), start)
    found = sorted(newest, key=newest.__getitem__, reverse=True)[:limit]
    return sorted(found, key=first.__getitem__, reverse=True)


def on(scope, key, operator, value=None):
    """Return a comparison."""
    return Comparison(Scope(scope), key, operator, value)


CONDITIONS = [
    None,
    on("span", "user", "=", "u-13"),
    on("any", "user", "=", "u-96"),
    on("span", "user", "=", "nobody"),
    on("span", "number", "=", 150),
    on("span", "number", "=", 150.0),
    on("span", "exact", "=", 3),
    on("span", "share", "=", 2.25),
    on("span", "share", "=", 25.0),
    on("span", "even", "=", True),
    *(on("span", "text", "=", text) for text in TEXTS),
    on("span", "text", "=~", "back.*"),
    on("resource", "zone", "=", "z1"),
    on("resource", "zone", "!=", "z1"),
    on("event", "code", "=", 7),
    on("intrinsic", "event:name", "=", "event-3"),
    on("intrinsic", "status", "=", "error"),
    on("intrinsic", "name", "=", "GET /2"),
    on("intrinsic", "duration", ">", 2 * S),
    All((on("resource", "service.name", "=", "db"), on("intrinsic", "status", "=", "error"))),
    All((on("span", "user", "=", "u-13"), on("span", "number", ">", 100))),
    Either((on("span", "user", "=", "u-13"), on("event", "code", "=", 2))),
    Either((on("span", "user", "=", "u-13"), on("span", "number", "<", 20))),
    Either(()),
]


@pytest.mark.parametrize("limit", [3, 1_000])
def test_it_finds_what_looking_at_each_span_finds(path, spans, limit):
    """The newest by their matching spans, as whole traces, in any window."""
    search = TraceSearch(path)
    for window in (Window(), Window(START + 90 * S, START + 300 * S)):
        for condition in CONDITIONS:
            found = search.find(TraceQuery(window, condition, limit))
            assert found.is_complete
            expected = naive_traces(spans, condition, window, limit)
            assert [trace.trace_id for trace in found.traces] == expected, condition
            assert all(trace.spans == 2 for trace in found.traces)


def test_conditions_on_whole_traces(path):
    """They are true of the trace that a span is in."""
    condition = All(
        (
            on("intrinsic", "rootName", "=", "GET /1"),
            on("intrinsic", "traceDuration", ">", 30 * S),
            on("intrinsic", "name", "=", "query"),
        )
    )
    found = TraceSearch(path).find(TraceQuery(condition=condition, limit=1_000))
    expected = {n + 1 for n in range(200) if n % 10 == 0 and n % 3 == 1}
    assert {trace.trace_id for trace in found.traces} == expected
    assert {trace.root_name for trace in found.traces} == {"GET /1"}
    assert all(trace.matched_count == 1 for trace in found.traces)


def test_a_search_ends_in_time(path):
    """What was found by then is returned, and said to be incomplete."""
    seconds = iter(range(10_000))
    search = TraceSearch(path, monotonic=lambda: float(next(seconds)))
    found = search.find(TraceQuery(condition=on("span", "user", "=", "nobody"), deadline=0.5))
    assert not found.is_complete
    assert found.traces == []


def test_one_trace(path):
    """All of its spans, oldest first; none of an unknown one."""
    search = TraceSearch(path)
    assert [span.name for span in search.trace(41)] == ["GET /1", "query"]
    assert search.trace(4_000) == search.trace(0) == []


def test_keys_and_values(path):
    """They are counted; of a key with few values, all of them."""
    search = TraceSearch(path)
    keys = {(one.scope, one.key, one.type): one.count for one in search.keys(Signal.TRACES)}
    assert keys["span", "number", "int"] == 200
    assert keys["event", "code", "int"] == 200
    assert keys["resource", "service.name", "string"] == 400
    values = search.values(Scope.RESOURCE, "zone")
    assert {(one.value, one.count) for one in values} == {("z0", 100), ("z1", 100)}
    assert {one.value for one in search.values(Scope.INTRINSIC, "name", prefix="GET")} == {
        "GET /0",
        "GET /1",
        "GET /2",
    }


def test_an_aggregation(path):
    """Spans are counted and summed by step and group."""
    wanted = Aggregation(
        Window(START, START + 400 * S),
        200 * S,
        on("intrinsic", "kind", "=", "server"),
        (SpanField(Scope.RESOURCE, "zone"),),
        SpanField(Scope.SPAN, "number"),
    )
    cells, is_complete = TraceSearch(path).aggregate(wanted, with_buckets=True)
    assert is_complete
    assert [(cell.step, cell.group) for cell in cells] == [
        (0, ("z0",)),
        (0, ("z1",)),
        (1, ("z0",)),
        (1, ("z1",)),
    ]
    assert [cell.count for cell in cells] == [50] * 4
    assert sum(cell.sum for cell in cells) == sum(range(200))
    assert sum(cells[0].buckets.values()) == 50
    assert (min(cell.min for cell in cells), max(cell.max for cell in cells)) == (0, 199)


def test_it_follows_what_is_recorded(tmp_path):
    """A span is found as soon as it is stored, also after its file was sealed and deleted."""
    path = tmp_path / "r"
    search, condition = TraceSearch(path), on("span", "user", "=", "u-1")
    wanted = TraceQuery(condition=condition)
    assert search.find(wanted).traces == []
    with open_storage(path) as storage:
        for number in range(1, 4):
            line = span_line("a", span_json(1, trace=number, attributes={"user": "u-1"}))
            storage.store(TelemetryData.from_otlp_json([line]))
            assert len(search.find(wanted).traces) == number
            storage.rotate()
            assert len(search.find(wanted).traces) == number
    for content in list_data_files(Layout(path).sealed):
        rollup_path(content).write_bytes(b"damaged")
    assert len(search.find(wanted).traces) == 3
