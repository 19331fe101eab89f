"""Traces: found by what is recorded, and one of them in detail."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.browser.recordings import SHOP_END, SHOP_START, Deep, Hostile

WHOLE = {"from": SHOP_START, "to": SHOP_END}


def _status(page: Any, text: str) -> None:
    page.get_by_role("status").filter(has_text=text).first.wait_for()


def _choose(page: Any, menu: str, *options: str) -> None:
    """Open a menu of filters and choose what is in it, by names."""
    filters = page.get_by_role("group", name="Filters")
    filters.get_by_role("button", name=menu, exact=True).click()
    for option in options:
        page.get_by_role("option").filter(has_text=option).first.click()


def _open_first(page: Any, name: str) -> None:
    page.get_by_role("grid", name="Traces").get_by_role("row").filter(has_text=name).first.click()
    page.get_by_role("treegrid", name="Spans").wait_for()


def test_filters_by_click(visit: Any) -> None:
    """What is clicked narrows the list, is in the address, and comes back from it."""
    page = visit("shop", "traces", **WHOLE).page
    _status(page, "200 traces")
    _choose(page, "Service", "payment")
    _status(page, "80 traces")
    _choose(page, "Status", "Error")
    _status(page, "12 traces")
    page.reload()
    _status(page, "12 traces")
    page.go_back()
    _status(page, "80 traces")
    page.get_by_role("button", name="Remove the filter Service payment").click()
    _status(page, "200 traces")


def test_filter_by_an_attribute(visit: Any) -> None:
    """The keys and values that there are can be chosen, and typed values keep their type."""
    page = visit("shop", "traces", **WHOLE).page
    _choose(page, "Attribute", "http.response.status_code", "500")
    _status(page, "12 traces")
    assert "status_code+%3D+500" in page.url
    page.get_by_role("button", name="Clear all").click()
    _status(page, "200 traces")


def test_filter_by_operation_and_duration(visit: Any) -> None:
    """Operations and durations narrow the list together."""
    page = visit("shop", "traces", **WHOLE).page
    _choose(page, "Operation", "POST /checkout")
    _status(page, "80 traces")
    page.get_by_role("button", name="Duration", exact=True).click()
    page.get_by_role("textbox", name="At least").fill("250ms")
    page.get_by_role("button", name="Filter", exact=True).click()
    _status(page, "40 traces")


def test_drag_over_the_durations(visit: Any) -> None:
    """A drag over the scatter of durations narrows the time range."""
    page = visit("shop", "traces", **WHOLE).page
    scatter = page.get_by_role("img", name="Duration over time of 200 traces")
    box = scatter.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.5, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, middle, steps=4)
    page.mouse.up()
    page.wait_for_function("start => !location.hash.includes('from=' + start)", arg=str(SHOP_START))
    _status(page, "64 traces")


def test_keyboard_path_to_a_span(visit: Any) -> None:
    """From the list to a span's details and back, without a mouse."""
    page = visit("shop", "traces", **WHOLE, service="payment", status="error").page
    _status(page, "12 traces")
    page.keyboard.press("j")
    page.get_by_role("row", selected=True).wait_for()
    page.keyboard.press("Enter")
    tree = page.get_by_role("treegrid", name="Spans")
    tree.wait_for()
    tree.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    details = page.get_by_role("complementary", name="Details")
    details.wait_for()
    page.keyboard.press("Escape")
    details.wait_for(state="detached")
    page.keyboard.press("/")
    page.keyboard.type("charge card")
    page.keyboard.press("Enter")
    details.get_by_text("card.brand").first.wait_for()
    page.keyboard.press("Escape")
    page.go_back()
    _status(page, "12 traces")


def test_a_trace(visit: Any) -> None:
    """A trace has its spans, errors, exceptions, events and logs in place."""
    page = visit("shop", "traces", **WHOLE, service="payment", status="error").page
    _open_first(page, "POST /checkout")
    tree = page.get_by_role("treegrid", name="Spans")
    text = tree.inner_text()
    for name in ("POST /checkout", "SELECT stock", "charge card", "send receipt"):
        assert name in text
    assert "the bank refused the card" in text
    tree.get_by_role("row").filter(has_text="charge card").click()
    details = page.get_by_role("complementary", name="Details")
    details.get_by_text("shop.bank.CardDeclined").first.wait_for()
    amount = details.get_by_role("row").filter(has_text="amount")
    assert amount.get_by_role("rowheader").get_attribute("title") == "double"
    assert "span=" in page.url
    page.reload()
    details.get_by_text("shop.bank.CardDeclined").first.wait_for()
    page.get_by_role("button", name="Critical path").click()
    page.wait_for_function("() => location.hash.includes('path=no')")


def test_an_interrupted_span(visit: Any) -> None:
    """A span whose process died is marked, in the list and in its trace."""
    page = visit("shop", "traces", **WHOLE).page
    page.get_by_role("grid", name="Traces").get_by_role("row").filter(
        has_text="interrupted"
    ).click()
    tree = page.get_by_role("treegrid", name="Spans")
    tree.get_by_role("img", name="interrupted").wait_for()


def test_downloads(visit: Any) -> None:
    """A trace is saved as OTLP JSON and in Chrome's format."""
    page = visit("shop", "traces", **WHOLE).page
    _open_first(page, "POST /checkout")
    texts = {}
    for kind in ("OTLP", "Chrome"):
        page.get_by_role("button", name="Download").click()
        with page.expect_download() as download:
            page.get_by_role("button", name=kind).click()
        texts[kind] = download.value.path().read_text()
    spans = [
        span["name"]
        for line in texts["OTLP"].splitlines()
        for resource in json.loads(line).get("resourceSpans", ())
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]
    assert sorted(spans) == [
        "POST",
        "POST /checkout",
        "SELECT stock",
        "charge card",
        "send receipt",
    ]
    events = json.loads(texts["Chrome"])["traceEvents"]
    assert any(event["name"] == "charge card" for event in events)


def test_compare_two_traces(visit: Any) -> None:
    """Two traces that are marked stand beside each other, with what differs; the address has both."""
    page = visit("shop", "traces", **WHOLE, operation="POST /checkout").page
    _status(page, "80 traces")
    for key in ("j", "m", "End", "m"):
        if key == "End":
            page.get_by_role("grid", name="Traces").focus()
        page.keyboard.press(key)
    page.wait_for_function("() => location.hash.startsWith('#/compare')")
    grid = page.get_by_role("treegrid", name="Paths of both traces")
    grid.get_by_role("row").filter(has_text="charge card").wait_for()
    page.reload()
    grid.wait_for()
    page.get_by_role("button", name="Swap A and B").click()
    page.get_by_role("button", name="Only what differs").click()
    page.wait_for_function("() => location.hash.includes('only=changes')")


def test_an_unknown_trace(visit: Any) -> None:
    """A trace that is not there is told, with a way on."""
    opened = visit("shop", "trace", id="f" * 32)
    opened.page.get_by_role("heading", name="This trace is not in the recording").wait_for()
    opened.page.get_by_role("link", name="Look for others").wait_for()
    opened.expect_problem("404")


def test_twenty_thousand_spans(visit: Any) -> None:
    """Only the rows in sight are in the document, and the last span is a key away."""
    page = visit("deep", "trace", id=Deep.trace).page
    tree = page.get_by_role("treegrid", name="Spans")
    tree.wait_for()
    assert tree.get_attribute("aria-rowcount") == str(Deep.spans)
    rows = tree.get_by_role("row")
    assert 10 < rows.count() < 120
    tree.focus()
    page.keyboard.press("End")
    rows.filter(has_text=Deep.last).wait_for()
    assert rows.count() < 120
    assert page.evaluate("document.getElementsByTagName('*').length") < 3_000
    page.keyboard.press("Home")
    rows.filter(has_text="step 0").first.wait_for()
    tree.hover()
    page.mouse.wheel(0, 250_000)
    page.wait_for_function("() => document.querySelector('[role=treegrid]').scrollTop > 200000")
    page.wait_for_function(
        "() => [...document.querySelectorAll('[role=treegrid] [role=row]')]"
        ".some((row) => Number(row.getAttribute('aria-rowindex')) > 6000)"
    )
    page.get_by_role("searchbox", name="Search within the trace").fill(Deep.last)
    page.keyboard.press("Enter")
    rows.filter(has_text=Deep.last).wait_for()


@pytest.mark.parametrize(
    ("trace", "shown"),
    [
        (Hostile.times, "times 0 0"),
        (Hostile.cycle, "in a circle 1"),
        (Hostile.cycle, "its own parent"),
        (Hostile.orphan, "without its parent"),
        (Hostile.open, "was killed"),
    ],
)
def test_odd_traces(visit: Any, trace: str, shown: str) -> None:
    """Traces with times at both ends of 64 bits, parents in a circle or none, are shown whole."""
    page = visit("hostile", "trace", id=trace).page
    row = page.get_by_role("treegrid", name="Spans").get_by_role("row").filter(has_text=shown)
    row.click()
    page.get_by_role("complementary", name="Details").get_by_text(shown).first.wait_for()
