"""``rimp traces`` and ``rimp trace``: the list, and one trace as a waterfall."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rimp_otel.analysis.summaries import summarize_traces
from rimp_otel.batch import TelemetryData
from rimp_otel.cli import traces
from rimp_otel.cli.traces import format_traces, mentions_trace
from rimp_otel.render.terminal import Style
from rimp_otel.render.trace_text import render_trace_text
from rimp_otel.storage import FileStorage
from tests.cli.records import (
    HOSTILE,
    HOSTILE_SHOWN,
    MS,
    TRACE,
    checkout,
    event,
    span,
    without_our_colour,
)


def three_traces() -> TelemetryData:
    """Return three traces in another order than that of time."""
    return TelemetryData(
        spans=[
            span("SELECT", 2, 1, 5, 25, trace_id=TRACE),
            span("GET /", 1, 0, 4, 30, trace_id=TRACE),
            span("newest", 1, 0, 1_000, 3_500, "worker", "boom", TRACE + 1),
            span("lost parent", 5, 4, 0, 2, "stock", trace_id=7 << 120),
        ]
    )


def test_list(rimp: Any, record: Any) -> None:
    """The newest trace comes first; name and service are those of the root, ids are shortened."""
    record(three_traces())
    digits, other = f"{TRACE:032x}", "07000000000000000000000000000000"
    assert rimp("traces") == (
        0,
        f"""\
START                    {"TRACE":32}  DURATION  SPANS  ERRORS  SERVICE  NAME
2026-11-18 11:06:41.000  {TRACE + 1:032x}     2.5 s      1       1  worker   newest
2026-11-18 11:06:40.004  {digits}     26 ms      2          shop     GET /
2026-11-18 11:06:40.000  {other}      2 ms      1          stock    lost parent
""",
        "",
    )


def test_stack_of_a_trace(rimp: Any, shop: Any) -> None:
    """``--stack`` shows the stacks of exceptions below them."""
    folded = rimp("trace", "4bf92f35").out.splitlines()
    shown = rimp("trace", "4bf92f35", "--stack").out.splitlines()
    assert len(shown) == len(folded) + 5
    assert [line.strip() for line in shown if line not in folded][1:3] == [
        'File "/srv/payment/app.py", line 17, in handle',
        "charge(order)",
    ]


def test_short_ids(rimp: Any, shop: Any) -> None:
    """Eight digits of an id are printed if they are unique."""
    assert rimp("traces").out.splitlines()[1] == (
        "2026-11-18 11:06:40.000  4bf92f35    231 ms      7       3  shop     POST /checkout"
    )


def test_number_and_json(rimp: Any, record: Any) -> None:
    """The number is limited, and JSON has whole ids."""
    record(three_traces())
    (line,) = rimp("traces", "-n", "1", "--json").out.splitlines()
    assert json.loads(line) == {
        "trace_id": f"{TRACE + 1:032x}",
        "start": "2026-11-18T11:06:41.000000000Z",
        "duration_ns": 2_500 * MS,
        "name": "newest",
        "service": "worker",
        "spans": 1,
        "errors": 1,
    }
    assert len(rimp("traces", "--json", "-n", "all").out.splitlines()) == 3


@pytest.mark.parametrize(
    ("argv", "names"),
    [
        ([], ["newest", "GET /", "lost parent"]),
        (["--service", "worker"], ["newest"]),
        (["--name", "SELECT"], ["GET /"]),
        (["--name", "*t*"], ["newest", "lost parent"]),
        (["--name", "SELECT", "--service", "worker"], []),
        (["--attr", "service.name=stock"], ["lost parent"]),
        (["--errors"], ["newest"]),
        (["--min-duration", "26ms"], ["newest", "GET /"]),
        (["--min-duration", "26.1ms"], ["newest"]),
        (["--since", "2026-11-18T11:06:40.004Z"], ["newest", "GET /"]),
        (["--until", "2026-11-18T11:06:40.005Z"], ["GET /", "lost parent"]),
        (["--sort", "duration", "-n", "2"], ["newest", "GET /"]),
        (["--sort", "spans", "-n", "2"], ["GET /", "newest"]),
        (["--sort", "errors", "-n", "2"], ["newest", "GET /"]),
        (["--sort", "time", "-n", "1"], ["newest"]),
    ],
)
def test_choices(rimp: Any, record: Any, argv: list[str], names: list[str]) -> None:
    """Conditions are about one span of a trace, or about the trace as a whole."""
    record(three_traces())
    lines = rimp("traces", "--json", *argv).out.splitlines()
    assert [json.loads(line)["name"] for line in lines] == names


def test_selected_traces_are_whole(rimp: Any, record: Any) -> None:
    """A condition about a span does not exclude other spans of its trace."""
    record(three_traces())
    (line,) = rimp("traces", "--json", "--name", "SELECT").out.splitlines()
    assert (json.loads(line)["spans"], json.loads(line)["duration_ns"]) == (2, 26 * MS)


def test_sealed_files_outside_of_the_window_are_not_read(rimp: Any, record: Any) -> None:
    """The names of sealed files tell their time range."""
    path = record(TelemetryData(spans=[span("old", 1, trace_id=1)]))
    FileStorage(path).rotate()
    (sealed,) = (path / "sealed").glob("*.zst")
    sealed.write_bytes(b"not zstd")
    later = span("new", 1, 0, 7_200_000, 7_200_001, trace_id=2)
    record(TelemetryData(spans=[later]))
    assert "skipped 1 damaged line" in rimp("traces").err
    code, out, err = rimp("traces", "--since", "2026-11-18T13:06:40Z", "--json")
    assert (code, err) == (0, "")
    assert [json.loads(line)["name"] for line in out.splitlines()] == ["new"]


def test_newest_traces_are_found_among_the_newest_spans(
    rimp: Any, record: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older files are read only if the newest spans hold too few wanted or whole traces."""
    monkeypatch.setattr(traces, "_MIN_SPANS", 4)
    monkeypatch.setattr(traces, "_TRACE_LENGTH", 2_000 * MS)
    path = record(TelemetryData(spans=[span("old", 1, 0, -1, 0, trace_id=1 << 100)]))
    FileStorage(path).rotate()
    (sealed,) = (path / "sealed").glob("*.zst")
    sealed.write_bytes(b"not zstd")
    spans = [span(f"t{i}", 1, 0, 10 * i, 10 * i + 5, trace_id=i + 1) for i in range(300)]
    # Of a trace that started long before, only the end is among the newest spans.
    spans += [span("long", 1, 0, 0, 4_000, trace_id=TRACE)]
    spans += [span("end of it", i, 1, 3_000 + i, 3_001 + i, trace_id=TRACE) for i in range(2, 102)]
    record(TelemetryData(spans=spans))

    def names(*argv: str) -> tuple[list[str], bool]:
        _, out, err = rimp("traces", "--json", *argv)
        return [json.loads(line)["name"] for line in out.splitlines()], "skipped" in err

    assert names("-n", "2") == (["t299", "t298"], False)
    assert names("-n", "1", "--name", "t7") == (["t7"], True)
    assert names("-n", "1", "--service", "nobody") == ([], True)


def test_no_traces(rimp: Any, record: Any) -> None:
    """An empty list is no failure."""
    record(TelemetryData(spans=[span("a", 1)]))
    assert rimp("traces", "-n", "0") == (0, "no traces\n", "")
    assert rimp("traces", "-n", "0", "--json") == (0, "", "")


@pytest.mark.parametrize("color", [False, True])
def test_hostile_names(color: bool) -> None:
    """Names and services are escaped."""
    traces = summarize_traces([span(HOSTILE, 1, service=HOSTILE, error=HOSTILE)])
    lines = format_traces(traces, 250, Style(color))
    painted = without_our_colour(lines[1])
    assert painted.isprintable()
    assert HOSTILE_SHOWN in painted


def test_long_names_are_cut() -> None:
    """A line is not longer than the terminal is wide."""
    traces = summarize_traces([span("x" * 500, 1, service="y" * 50)])
    assert [len(line) for line in format_traces(traces, 100, Style(), 8)][1] == 100


def test_waterfall(rimp: Any, shop: Path) -> None:
    """A stored trace is drawn like one in memory."""
    expected = "\n".join(render_trace_text(*checkout(), 100)) + "\n"
    assert rimp("trace", "4bf92f35") == (0, expected, "")
    assert rimp("trace", f"{TRACE:032X}").out == expected


def test_colour(rimp: Any, shop: Path) -> None:
    """--color colours the drawing."""
    expected = "\n".join(render_trace_text(*checkout(), 100, Style(color=True))) + "\n"
    assert rimp("trace", "4", "--color", "always").out == expected


def test_json(rimp: Any, shop: Path) -> None:
    """JSON is one object with spans and log records in the order of time."""
    trace = json.loads(rimp("trace", "4bf9", "--json").out)
    assert trace["trace_id"] == f"{TRACE:032x}"
    assert [one["name"] for one in trace["spans"]][:3] == [
        "POST /checkout",
        "SELECT cart",
        "GET /stock",
    ]
    assert [one["message"] for one in trace["logs"]] == [
        "cart loaded",
        "stock is low",
        "payment failed, order kept",
    ]


def test_only_this_trace(rimp: Any, record: Any) -> None:
    """Other traces, and log records outside of traces, are excluded."""
    other = 5 << 120
    spans = [span("mine", 1), span("other", 2, trace_id=other)]
    record(
        TelemetryData(spans=spans, events=[event("none", trace_id=0), event("x", trace_id=other)])
    )
    trace = json.loads(rimp("trace", "4b", "--json").out)
    assert (len(trace["spans"]), trace["logs"]) == (1, [])


def test_ids_in_other_forms(rimp: Any) -> None:
    """Ids in upper case, after blanks or in base64 are found."""
    pair = '"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"%s","spanId":"%s","traceId" : "%s"}]}]}]'
    lines = [
        pair % ("hex", "00000000000000A1", f"{TRACE:032X}"),
        pair % ("base64", "AAAAAAAAAKE=", "S/kvNXezTaajzpKdDg5HNg=="),
        pair % ("other", "00000000000000a1", f"{TRACE + 1:032x}"),
    ]
    Path("telemetry").mkdir()
    Path("telemetry/traces.jsonl").write_text("".join(f"{{{line}}}\n" for line in lines))
    for digits in (f"{TRACE:032x}", f"{TRACE:032x}"[:31]):
        if len(digits) == 32:
            trace = json.loads(rimp("trace", digits, "--json").out)
            assert sorted(one["name"] for one in trace["spans"]) == ["base64", "hex"]
        else:
            assert " is ambiguous: 2 trace ids start with it (" in rimp("trace", digits).err


def test_mentions_trace() -> None:
    """Lines that cannot have records of the trace are recognized by their text."""
    own = b'{"traceId":"4bf92f3577b34da6a3ce929d0e0e4736","x":"","traceId":""}'
    assert mentions_trace("4bf9")(own)
    assert not mentions_trace("4bf8")(own)
    assert not mentions_trace("4bf8")(b'{"logRecords":[{"body":{"stringValue":"abc"}}]}')
    assert mentions_trace("4bf8")(b'{"traceId" : "S/kvNXezTaajzpKdDg5HNg"}')


def test_no_such_trace(rimp: Any, shop: Path) -> None:
    """An unknown trace is a failure."""
    assert rimp("trace", "abc") == (
        1,
        "",
        "rimp: no trace abc in telemetry: list its traces with 'rimp traces'\n",
    )


def test_ambiguous_id(rimp: Any, record: Any) -> None:
    """The message lists the first candidates."""
    record(TelemetryData(spans=[span("a", 1, trace_id=TRACE + i) for i in range(7)]))
    code, out, err = rimp("trace", "4bf9")
    assert (code, out) == (2, "")
    assert err.startswith(
        f"rimp: trace id '4bf9' is ambiguous: 7 trace ids start with it ({TRACE:032x}, "
    )
    assert err.endswith(", ...); give more digits\n")


@pytest.mark.parametrize("text", ["xyz", "", "4b f9", "1" * 33, "\x1b[2J"])
def test_invalid_id(rimp: Any, shop: Path, text: str) -> None:
    """The message says what a trace id looks like."""
    code, out, err = rimp("trace", text)
    assert (code, out) == (2, "")
    assert ": expected 1 to 32 hexadecimal digits" in err
    assert err.rstrip("\n").isprintable()


def test_hostile_records(rimp: Any, record: Any) -> None:
    """Control characters of stored records are escaped, in JSON too."""
    spans = [span(HOSTILE, 1, service=HOSTILE, error=HOSTILE, **{HOSTILE: HOSTILE})]
    record(TelemetryData(spans=spans, events=[event(HOSTILE, 0, 1, source=HOSTILE)]))
    for argv in (["trace", "4"], ["trace", "4", "--json"], ["tail"], ["tail", "--json"]):
        assert rimp(*argv).out.replace("\n", "").isprintable()
    for argv in (["traces"], ["traces", "--json"], ["stats"], ["stats", "--json"]):
        assert rimp(*argv).out.replace("\n", "").isprintable()
