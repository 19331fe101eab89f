"""A batch as HTML."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from rimp_otel.batch import TelemetryData
from rimp_otel.models.records import EventType, MetricKind, SummaryPoint, TelemetryMetric
from rimp_otel.render.html import render_batch_html
from tests.cli.conftest import latency, queue
from tests.cli.records import HOSTILE, T0, checkout, event, raised, span


def parsed(markup: str) -> ElementTree.Element:
    """Return the elements of a page."""
    return ElementTree.fromstring(markup.replace("&nbsp;", " "))


def rows(markup: str) -> list[list[str]]:
    """Return the cells of the table, without the times."""
    return [["".join(cell.itertext()) for cell in row][1:] for row in parsed(markup).iter("tr")][1:]


def test_counts_and_newest() -> None:
    """A batch shows its counts, services and times, and its newest ten records."""
    spans, events = checkout()
    markup = render_batch_html(spans, events, [queue(), latency()])
    text = "".join(parsed(markup).itertext())
    assert text.startswith("TelemetryData  7 spans · 3 events · 2 metric points")
    assert "shop, stock, payment · 2026-11-1" in text
    assert text.endswith("the newest 10 of 12")
    found = rows(markup)
    assert len(found) == 10
    assert found[-1] == [
        "metric",
        "shop",
        "http.server.duration",
        "n=4 mean=0.2 s",
        "method=GET",
        "",
    ]
    assert found[-2] == ["span", "shop", "POST /checkout", "231 ms", "", "4bf92f35"]
    assert found[-3] == [
        "error",
        "shop",
        "payment failed, order kept",
        "",
        "order=4711",
        "4bf92f35",
    ]


def test_odd_records() -> None:
    """Records may have no end, value or message, or an exception."""
    attributes = dict(raised("KeyError", "'x'", 0).attributes or {})
    summary = TelemetryMetric(
        "s", 1.0, kind=MetricKind.SUMMARY, point=SummaryPoint(3), time_unix_nano=T0 + 4
    )
    found = rows(
        render_batch_html(
            [span("open", 1, 0, 0, None)],
            [event("failed", 1, event_type=EventType.ERROR, trace_id=0, **attributes)],
            [summary, TelemetryMetric("m", 0, flags=1, time_unix_nano=T0 + 3)],
        )
    )
    assert found == [
        ["span", "shop", "open", "open", "", "4bf92f35"],
        ["metric", "", "m", "no value", "", ""],
        ["metric", "", "s", "n=3", "", ""],
        ["error", "shop", "failed KeyError: 'x'", "", "", ""],
    ]


def test_nothing() -> None:
    """An empty batch has a heading alone."""
    assert "".join(parsed(TelemetryData()._repr_html_()).itertext()) == (
        "TelemetryData  0 spans · 0 events · 0 metric points"
    )


def test_many_services() -> None:
    """Services beyond the first eight are counted."""
    spans = [span("a", i, service=f"s{i}") for i in range(1, 11)]
    assert "and 2 more ·" in "".join(parsed(render_batch_html(spans, [], [])).itertext())


@pytest.mark.parametrize("text", [HOSTILE, "<script>alert(1)</script>", "</td><b onclick=x>"])
def test_hostile_records(text: str) -> None:
    """Recorded texts are no markup."""
    markup = render_batch_html(
        [span(text, 1, 0, 0, 9, text, text, **{text: text})],
        [event(text, 1, 1, source=text, service=text, **{text: {text: text}})],
        [TelemetryMetric(text, 1, text, {text: text})],
    )
    assert markup.isprintable()
    assert {one.tag for one in parsed(markup).iter()} == {"div", "b", "table", "tr", "th", "td"}
    assert {name for one in parsed(markup).iter() for name in one.attrib} == {"style"}


def test_huge_values() -> None:
    """Long texts are cut."""
    huge = "x" * 10_000_000
    markup = render_batch_html(
        [], [event(huge, **{huge: [huge]})], [TelemetryMetric(huge, 1, huge, {"k": huge})]
    )
    assert len(markup) < 6_000


def test_whatever_an_attribute_is() -> None:
    """Values may be nested, bytes, or objects that JSON has no form for."""
    loop: list[object] = []
    loop.append(loop)
    (row,) = rows(render_batch_html([], [event("m", a={"b": [1]}, c=b"\x00", d=loop)], []))
    assert row[4] == "a={\"b\": [1]}  c=b'\\x00'  d=[[...]]"
