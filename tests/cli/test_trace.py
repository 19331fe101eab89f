"""``rimp trace``: finding one trace, and showing it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rimp_otel.batch import TelemetryData
from rimp_otel.cli.traces import mentions
from rimp_otel.render.terminal import Style
from rimp_otel.render.trace_text import render_trace_text
from tests.cli.records import HOSTILE, TRACE, checkout, event, span


def test_waterfall(rimp: Any, shop: Path) -> None:
    """What was stored is shown as it would have been before."""
    expected = "\n".join(render_trace_text(*checkout(), 100)) + "\n"
    assert rimp("trace", "4bf92f35") == (0, expected, "")
    assert rimp("trace", f"{TRACE:032X}").out == expected


def test_colour(rimp: Any, shop: Path) -> None:
    """--color reaches the drawing."""
    expected = "\n".join(render_trace_text(*checkout(), 100, Style(color=True))) + "\n"
    assert rimp("trace", "4", "--color", "always").out == expected


def test_json(rimp: Any, shop: Path) -> None:
    """One object with the spans and the log records, in the order of time."""
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
    """Other traces, and log records outside of any, are left out."""
    other = 5 << 120
    spans = [span("mine", 1), span("other", 2, trace_id=other)]
    record(
        TelemetryData(spans=spans, events=[event("none", trace_id=0), event("x", trace_id=other)])
    )
    trace = json.loads(rimp("trace", "4b", "--json").out)
    assert (len(trace["spans"]), trace["logs"]) == (1, [])


def test_files_of_others_with_ids_of_their_own_kind(rimp: Any) -> None:
    """In upper case, with blanks, or in base64: each line that can hold the trace is decoded."""
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
            assert "is the start of" in rimp("trace", digits).err


def test_mentions() -> None:
    """What cannot hold the trace is not decoded."""
    own = b'{"traceId":"4bf92f3577b34da6a3ce929d0e0e4736","x":"","traceId":""}'
    assert mentions("4bf9")(own)
    assert not mentions("4bf8")(own)
    assert not mentions("4bf8")(b'{"logRecords":[{"body":{"stringValue":"abc"}}]}')
    assert mentions("4bf8")(b'{"traceId" : "S/kvNXezTaajzpKdDg5HNg"}')


def test_no_such_trace(rimp: Any, shop: Path) -> None:
    """A failure, with the way to what there is."""
    assert rimp("trace", "abc") == (
        1,
        "",
        "rimp: no trace abc in telemetry; 'rimp traces' lists what there is\n",
    )


def test_ambiguous_id(rimp: Any, record: Any) -> None:
    """A usage error that names the candidates, not all of hundreds."""
    record(TelemetryData(spans=[span("a", 1, trace_id=TRACE + i) for i in range(7)]))
    code, out, err = rimp("trace", "4bf9")
    assert (code, out) == (2, "")
    assert err.startswith(f"rimp: 4bf9 is the start of {TRACE:032x}, ")
    assert err.endswith(" and 2 more: give more digits\n")


@pytest.mark.parametrize("text", ["xyz", "", "4b f9", "1" * 33, "\x1b[2J"])
def test_not_an_id(rimp: Any, shop: Path, text: str) -> None:
    """A usage error that says what an id is."""
    code, out, err = rimp("trace", text)
    assert (code, out) == (2, "")
    assert ": expected 1 to 32 hexadecimal digits" in err
    assert err.rstrip("\n").isprintable()


def test_hostile_records(rimp: Any, record: Any) -> None:
    """Also after having been stored: nothing raw on the terminal, nor in JSON."""
    spans = [span(HOSTILE, 1, service=HOSTILE, error=HOSTILE, **{HOSTILE: HOSTILE})]
    record(TelemetryData(spans=spans, events=[event(HOSTILE, 0, 1, source=HOSTILE)]))
    for argv in (["trace", "4"], ["trace", "4", "--json"], ["tail"], ["tail", "--json"]):
        assert rimp(*argv).out.replace("\n", "").isprintable()
    for argv in (["traces"], ["traces", "--json"], ["stats"], ["stats", "--json"]):
        assert rimp(*argv).out.replace("\n", "").isprintable()
