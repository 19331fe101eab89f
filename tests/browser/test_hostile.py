"""What is recorded is text in the page, whatever it looks like."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.recordings import SHOP_START, Hostile

# The times of all but the records at both ends of 64 bits.
RANGE = {"from": SHOP_START - 10**9, "to": SHOP_START + 10**12}
# Elements that no view of ours makes, and attributes that none of ours has.
_FOREIGN = """
() => [...document.querySelectorAll(
  "#app script, #app img, #app iframe, #app object, #app embed, #app style, #app base, #app meta, [onerror], [onload], [onclick]"
)].map((element) => element.outerHTML)
  .concat([...document.querySelectorAll("a")].map((link) => link.href).filter((href) => !/^(http|file|blob)/.test(href)))
"""
# What turns the text after it around, or cannot be seen, outside of fields that show texts as they are.
_CONTROLS = r"""
() => [...document.body.innerText].filter((one) => /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/.test(one))
"""


def _check(page: Any) -> None:
    assert page.evaluate(_FOREIGN) == []
    assert page.evaluate(_CONTROLS) == []


@pytest.mark.parametrize(
    ("view", "shown"),
    [
        ("overview", Hostile.markup),
        ("traces", "<img src=x onerror="),
        ("logs", Hostile.quotes),
        ("metrics", "</style></script>"),
        ("map", "<img src=x onerror"),
    ],
)
def test_views(visit: Any, view: str, shown: str) -> None:
    """Markup, links, controls and long texts are shown as text by each view."""
    page = visit("hostile", view, **RANGE).page
    page.get_by_text(shown).filter(visible=True).first.wait_for()
    page.wait_for_load_state("networkidle")
    _check(page)


def test_a_trace_and_all_its_spans(visit: Any) -> None:
    """Names, events, links, messages and attributes of each span are text; what is long is cut or folds."""
    page = visit("hostile", "trace", **RANGE, id=Hostile.trace).page
    tree = page.get_by_role("treegrid", name="Spans")
    tree.wait_for()
    tree.focus()
    page.keyboard.press("Home")
    details = page.get_by_role("complementary", name="Details")
    for _ in range(12):
        details.wait_for()
        _check(page)
        page.keyboard.press("ArrowDown")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_log_records(visit: Any) -> None:
    """Each record and its attributes are text."""
    page = visit("hostile", "logs", **RANGE).page
    rows = page.get_by_role("listbox", name="Log records, newest first").get_by_role("option")
    rows.first.click()
    record = page.get_by_role("complementary", name="Log record")
    record.wait_for()
    page.get_by_role("listbox", name="Log records, newest first").focus()
    for _ in range(rows.count()):
        page.keyboard.press("ArrowDown")
        record.wait_for()
        _check(page)


def test_exceptions(visit: Any) -> None:
    """Types, messages and stacks of exceptions are text."""
    page = visit("hostile", "logs", **RANGE, tab="exceptions").page
    page.get_by_role("button").filter(has_text="<img src=x").first.click()
    page.get_by_role("complementary", name="Exception").wait_for()
    _check(page)


def test_rows_of_sql(visit: Any) -> None:
    """Values of rows are text."""
    pytest.importorskip("duckdb", reason="needs the extra sql")
    page = visit("hostile", "sql", **RANGE).page
    page.get_by_role("combobox", name="SQL").fill("SELECT * FROM otel_traces")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+Enter")
    page.get_by_role("grid", name="Result").get_by_text("<img src=x").first.wait_for()
    _check(page)


def test_filters(visit: Any) -> None:
    """Services and attributes to choose from are text, and choosing one filters by it."""
    page = visit("hostile", "traces", **RANGE).page
    filters = page.get_by_role("group", name="Filters")
    filters.get_by_role("button", name="Service", exact=True).click()
    page.get_by_role("option").filter(has_text="<img").click()
    page.get_by_role("status").filter(has_text="1 trace").first.wait_for()
    _check(page)
    page.get_by_role("button", name="Clear all").click()
    filters.get_by_role("button", name="Attribute", exact=True).click()
    page.get_by_role("option").filter(has_text="onerror").first.click()
    page.get_by_role("option").filter(has_text="onerror").first.click()
    page.get_by_role("grid", name="Traces").get_by_text("all texts").wait_for()
    _check(page)


@pytest.mark.parametrize("name", ["<img src=x onerror=alert(1)>", "__proto__", "constructor"])
def test_addresses(visit: Any, name: str) -> None:
    """What another page makes a link of is text, too."""
    opened = visit("shop", "traces", **{"from": name, "service": name, "attr": name, name: name})
    page = opened.page
    page.get_by_role("navigation", name="Views").wait_for()
    page.wait_for_load_state("networkidle")
    assert page.evaluate(_FOREIGN) == []
    assert page.evaluate("Object.prototype.service") is None
    opened.expect_problem("400")
