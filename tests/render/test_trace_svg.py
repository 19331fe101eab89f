"""A trace as SVG."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from rimp_otel.models.records import EventType
from rimp_otel.render.trace_svg import render_trace_html, render_trace_svg
from tests.cli.records import HOSTILE, checkout, event, raised, span


def parsed(markup: str) -> ElementTree.Element:
    """Return the elements; the markup is XML, but for one entity."""
    return ElementTree.fromstring(markup.replace("&nbsp;", " "))


def texts(svg: ElementTree.Element) -> list[str]:
    """Return all text that is drawn, in order."""
    return ["".join(one.itertext()) for one in svg.iter("text")]


def test_checkout() -> None:
    """There are the axis, the services, and each span with its duration, below its parent."""
    svg = parsed(render_trace_svg(*checkout()))
    assert texts(svg)[:8] == [
        "0",
        "57.8 ms",
        "116 ms",
        "173 ms",
        "231 ms",
        "shop",
        "stock",
        "payment",
    ]
    assert texts(svg)[8::2] == [
        "✗ POST /checkout",
        "SELECT cart",
        "GET /stock",
        "GET /stock/{sku}",
        "SELECT stock",
        "✗ POST /charge",
        "✗ charge card",
    ]
    assert texts(svg)[9::2] == ["231 ms", "13 ms", "81 ms", "74 ms", "58 ms", "122 ms", "111 ms"]
    indents = [float(one.get("x", "0")) for one in svg.iter("text")][8::2]
    assert indents == [0, 12, 12, 24, 36, 12, 24]


def test_bars() -> None:
    """Bars are on one scale; failed spans have a red edge, open ones are faint."""
    spans = [span("a", 1, 0, 0, 100), span("b", 2, 1, 50, 75, error="x"), span("c", 3, 1, 90, None)]
    bars = list(parsed(render_trace_svg(spans)).iter("rect"))
    assert [(bar.get("x"), bar.get("width")) for bar in bars] == [
        ("330.0", "540.0"), ("600.0", "135.0"), ("816.0", "54.0"),
    ]  # fmt: skip
    assert [bar.get("stroke") for bar in bars] == [None, "#e53935", None]
    assert [bar.get("fill-opacity") for bar in bars] == ["0.85", "0.85", "0.35"]


def test_marks() -> None:
    """Log records and span events are dots on the bar of their span, with a title."""
    spans = [span("a", 1, 0, 0, 100, error="E: m", events=(raised("E", "m", 50),))]
    events = [
        event("warned", 25, 1, EventType.WARNING, n=1),
        event("of no span", 75, 9),
    ]
    svg = parsed(render_trace_svg(spans, events))
    marks = {
        one.findtext("title"): one for one in svg.iter("circle") if one.find("title") is not None
    }
    assert sorted(filter(None, marks)) == [
        "event: E: m",
        "info: of no span",
        "warning: warned\nn=1",
    ]
    assert marks["warning: warned\nn=1"].get("cx") == "465.0"
    assert marks["event: E: m"].get("cx") == "600.0"
    assert marks["info: of no span"].get("cy") == "18"


def test_titles() -> None:
    """The title of a span has its service, name, duration, reason and attributes."""
    spans, events = checkout()
    title = [one.findtext("title") for one in parsed(render_trace_svg(spans, events)).iter("g")][-1]
    assert title == (
        "payment: charge card\n111 ms\n"
        "ConnectionError: bank.example refused the connection (in charge, bank.py:42)\n"
        "payment.provider=bank.example  payment.amount=42.5  retries=2"
    )


def test_heading() -> None:
    """The heading has the id, start, duration and counts."""
    text = "".join(parsed(render_trace_html(*checkout())).itertext())
    assert re.match(
        r"trace 4bf92f3577b34da6a3ce929d0e0e4736 · 2026-11-1\d \d\d:\d\d:40.000 · 231 ms · 7 spans "
        r"· 3 logs · 3 errors",
        text,
    )


def test_what_is_odd() -> None:
    """Traces that are empty, without times, circular or very large can be drawn."""
    assert texts(parsed(render_trace_svg([])))[0] == "0"
    assert "(no name)" in texts(parsed(render_trace_svg([span("", 1, 0, None, None)])))
    assert "a" in texts(parsed(render_trace_svg([span("a", 1, 2), span("b", 2, 1)])))
    chain = [span(f"s{i}", i, i - 1, 0, 1) for i in range(1, 10_001)]
    svg = parsed(render_trace_svg(chain))
    assert texts(svg)[-1] == "and 9,500 spans more"
    assert len(list(svg.iter("rect"))) == 500
    cut = span("a", 1, 0, 0, 7, error="process terminated", **{"rimp.interrupted": True})
    assert "✂ a" in texts(parsed(render_trace_svg([cut])))


@pytest.mark.parametrize("text", [HOSTILE, "<script>alert(1)</script>", '"><svg onload=x>', "&lt;"])
def test_hostile_records(text: str) -> None:
    """Recorded texts are no markup, and control characters are escaped."""
    spans = [span(text, 1, 0, 0, 9, text, text, events=(raised(text, text, 1),), **{text: text})]
    markup = render_trace_html(spans, [event(text, 1, 1, source=text, **{text: text})])
    assert markup.replace("\n", "").isprintable()
    names = {one.tag for one in parsed(markup).iter()}
    assert names == {"div", "span", "svg", "g", "title", "text", "rect", "line", "circle"}
    assert not [
        name for one in parsed(markup).iter() for name in one.attrib if name.startswith("on")
    ]


def test_huge_values() -> None:
    """A line is left of 10 MB, and twenty of a thousand attributes."""
    many = {f"k{i}": i for i in range(1_000)}
    huge = span("n" * 10_000_000, 1, 0, 0, 9, body="v" * 10_000_000, **many)
    markup = render_trace_html([huge], [event("m" * 10_000_000, 1, 1)])
    assert len(markup) < 6_000
    assert "(+981 more)" in markup
