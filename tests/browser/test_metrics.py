"""Metrics, and the map of services."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.recordings import SHOP_END, SHOP_START

WHOLE = {"from": SHOP_START, "to": SHOP_END}
KINDS = {
    "http.server.requests": ("counter", "Rate"),
    "http.server.request.duration": ("histogram", "Distribution"),
    "response.size": ("exponential histogram", "Distribution"),
    "stock.level": ("gauge", "Value"),
    "queue.waiting": ("up and down", "Value"),
    "legacy.latency": ("summary", "Rate"),
}


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_metric(visit: Any, name: str) -> None:
    """Each kind is drawn in its way: rates, values, distributions."""
    page = visit("shop", "metrics", **WHOLE).page
    page.get_by_role("option").filter(has_text=name).first.click()
    kind, chart = KINDS[name]
    page.get_by_role("heading", name=name).wait_for()
    page.get_by_text(kind, exact=True).first.wait_for()
    page.get_by_role("region", name=chart, exact=True).wait_for()
    page.wait_for_function("name => location.hash.includes('metric=' + name)", arg=name)


def test_lines_by_an_attribute(visit: Any) -> None:
    """A metric is split by what its points have, in the address too."""
    page = visit("shop", "metrics", **WHOLE, metric="http.server.requests").page
    page.get_by_role("button", name="Group by", exact=True).click()
    page.get_by_role("option").filter(has_text="http.route").click()
    page.get_by_role("button", name="Remove the filter by service.name").click()
    rate = page.get_by_role("region", name="Rate")
    rate.get_by_text("/checkout").wait_for()
    page.reload()
    rate.get_by_text("/checkout").wait_for()
    assert "/products" in rate.inner_text()


def test_search_among_metrics(visit: Any) -> None:
    """The list is narrowed by name and description."""
    page = visit("shop", "metrics", **WHOLE).page
    page.get_by_role("searchbox", name="Search metrics").fill("mails that")
    page.wait_for_function("() => document.querySelectorAll('[role=option]').length === 1")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="queue.waiting").wait_for()


def test_an_exemplar_leads_to_its_trace(visit: Any) -> None:
    """A measurement that was taken within a span opens that."""
    page = visit("shop", "metrics", **WHOLE, metric="http.server.request.duration").page
    page.get_by_role("region", name="Exemplars").get_by_role("link").first.click()
    tree = page.get_by_role("treegrid", name="Spans")
    tree.wait_for()
    page.get_by_role("complementary", name="Details").wait_for()


def test_percentiles(visit: Any) -> None:
    """A histogram has its percentiles over the distribution."""
    page = visit("shop", "metrics", **WHOLE, metric="http.server.request.duration").page
    region = page.get_by_role("region", name="Distribution")
    region.wait_for()
    for quantile in ("p50", "p90", "p99"):
        region.get_by_role("button").filter(has_text=quantile).wait_for()


def test_map(visit: Any) -> None:
    """Services and calls are drawn with rates and errors; one leads to its traces, logs and neighbours."""
    page = visit("shop", "map", **WHOLE).page
    page.get_by_role("button", name="payment: 1.33/min, 15").click()
    service = page.get_by_role("complementary", name="Service")
    service.get_by_role("heading", name="Called by").wait_for()
    page.wait_for_function("() => location.hash.includes('service=payment')")
    service.get_by_role("button", name="web").click()
    service.get_by_role("heading", name="Calls").wait_for()
    service.get_by_role("link", name="Failed traces").click()
    page.get_by_role("status").filter(has_text="traces").first.wait_for()


def test_map_as_tables(visit: Any) -> None:
    """The map says the same as tables, which a key shows."""
    page = visit("shop", "map", **WHOLE).page
    page.get_by_role("button", name="Table").wait_for()
    page.keyboard.press("x")
    calls = page.get_by_role("table", name="Calls between services")
    row = calls.get_by_role("row").filter(has_text="catalog")
    row.wait_for()
    assert "240" in row.inner_text()
    page.wait_for_function("() => location.hash.includes('as=table')")
