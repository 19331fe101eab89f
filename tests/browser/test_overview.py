"""The overview: how each service does, what has changed, what is missing."""

from __future__ import annotations

from typing import Any

from tests.browser.recordings import MINUTE, SHOP_END, SHOP_START

WHOLE = {"from": SHOP_START, "to": SHOP_END}


def test_each_service_has_its_figures(visit: Any) -> None:
    """Requests, errors and percentiles of each service, with trends that have names."""
    page = visit("shop", "overview", **WHOLE).page
    table = page.get_by_role("table", name="Services")
    row = table.get_by_role("row").filter(has_text="payment")
    row.wait_for()
    assert "1.33/min" in row.inner_text()
    assert "15" in row.get_by_role("link", name="%").inner_text()
    assert row.get_by_role("img", name="Errors over time").count() == 1
    names = [text.split()[0] for text in table.get_by_role("rowheader").all_inner_texts()]
    assert sorted(names) == ["catalog", "mail", "payment", "web"]


def test_a_service_leads_to_its_traces(visit: Any) -> None:
    """A click on a service shows its traces, and one on its errors those that failed."""
    page = visit("shop", "overview", **WHOLE).page
    row = page.get_by_role("row").filter(has_text="payment")
    row.get_by_role("link", name="%").click()
    page.wait_for_function("() => location.hash.includes('service=payment')")
    assert "status=error" in page.url
    page.get_by_role("status").filter(has_text="12 traces").wait_for()
    page.go_back()
    row.get_by_role("link", name="payment").click()
    page.get_by_role("status").filter(has_text="80 traces").wait_for()
    assert "status" not in page.url


def test_what_has_changed(visit: Any) -> None:
    """The second half of the hour is compared with the first: checking out has become slower."""
    half = SHOP_START + 30 * MINUTE
    page = visit("shop", "overview", **{"from": half, "to": SHOP_END}).page
    changes = page.get_by_role("region", name="New or changed")
    slower = changes.get_by_role("link").filter(has_text="Slower").filter(has_text="POST /checkout")
    slower.first.click()
    page.wait_for_function("() => location.hash.includes('operation=POST')")


def test_nothing_before_to_compare_with(visit: Any) -> None:
    """Where the recording begins in the range, nothing is said to be unchanged."""
    page = visit("shop", "overview", **WHOLE).page
    changes = page.get_by_role("region", name="New or changed")
    changes.get_by_text("Nothing is recorded before this time range").wait_for()


def test_what_is_missing(visit: Any) -> None:
    """Spans that their process's death interrupted are told, and lead to their traces."""
    page = visit("shop", "overview", **WHOLE).page
    missing = page.get_by_role("region", name="What is missing")
    missing.get_by_text("1 span interrupted").wait_for()
    missing.get_by_role("link", name="1 span interrupted").click()
    page.get_by_role("status").filter(has_text="1 trace").first.wait_for()
    assert page.get_by_text("span.rimp.interrupted exists").first.is_visible()


def test_errors_in_logs_lead_to_them(visit: Any) -> None:
    """The count of errors in the logs opens those, and no others."""
    page = visit("shop", "overview", **WHOLE).page
    page.get_by_role("link", name="Errors in logs").click()
    page.get_by_role("status").filter(has_text="12 records").first.wait_for()


def test_the_order_is_in_the_address(visit: Any) -> None:
    """A click on a column sorts by it, and a reload keeps the order."""
    page = visit("shop", "overview", **WHOLE).page
    header = page.get_by_role("columnheader", name="Service")
    header.get_by_role("button").click()
    page.wait_for_function("() => location.hash.includes('order=name')")
    page.reload()
    table = page.get_by_role("table", name="Services")
    table.get_by_role("row").nth(1).filter(has_text="catalog").wait_for()
    assert header.get_attribute("aria-sort") == "ascending"
